"""Handlers of signals: a program's own are put back, its children get them, and what it ignores,
or runs in another thread, is left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest

from runstore import Dag, start, task
from runstore.signal_handlers import install
from tests.executor import forking as f
from tests.executor import tasks as t

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handlers():
    return [signal.getsignal(number) for number in NUMBERS]


@pytest.fixture
def own():
    """A program that handles SIGTERM itself."""
    before = handlers()
    heard = []

    def hears(number, frame):
        heard.append(number)

    signal.signal(signal.SIGTERM, hears)
    yield hears
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


def test_a_programs_own_handlers_are_put_back(tmp_path, own):
    before = handlers()
    during = []

    def looks():
        during.extend(handlers())

    start(Dag([task(looks)]), store=tmp_path, environment={})
    assert handlers() == before
    assert before[1] is own
    assert not set(map(id, during)) & set(map(id, before)), "a run has its own"


def test_a_child_of_a_task_has_the_programs_own(tmp_path, own):
    result = start(Dag([task(f.asks_a_child, returns="told")]), store=tmp_path, environment={})
    assert result.values()["told"][0] == ["default_int_handler", own.__name__]


def test_one_that_is_installed_in_another_is_taken_out_with_it(own):
    before = handlers()

    def outer(number, frame):
        """Ours."""

    def inner(number, frame):
        """Ours, for a while."""

    put_back = install(outer, *NUMBERS)
    put_inner_back = install(inner, signal.SIGTERM)
    assert handlers() == [outer, inner, outer]
    child = os.fork()
    if child == 0:
        os._exit(0 if handlers() == before else 1)
    assert f._until(child) == 0
    put_inner_back()
    assert handlers() == [outer] * 3
    put_back()
    put_back()  # once more does nothing
    assert handlers() == before


def test_what_a_program_ignores_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen = []
    try:
        start(
            Dag([task(lambda: seen.append(signal.getsignal(signal.SIGHUP)), name="looks")]),
            store=tmp_path, environment={},
        )  # fmt: skip
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIG_IGN]


@pytest.mark.parametrize("processes", [False, True])
def test_a_run_in_another_thread_leaves_them_alone(tmp_path, own, processes):
    before = handlers()
    came = []

    def work():
        result = start(
            Dag([task(t.one, returns="x")]), store=tmp_path, processes=processes, workers=1,
            environment={},
        )  # fmt: skip
        came.append((result.status, handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert came == [("succeeded", before)]
    assert handlers() == before


def test_a_pool_of_the_users_own_that_forks(tmp_path):
    """Its workers are children of this process, and a step in one may fork again."""

    def pool():
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))

    dag = Dag([task(f.forks, returns="code"), task(f.terminates, returns="ended")])
    result = start(dag, {"how": "raise"}, store=tmp_path, executor=pool, environment={})
    assert (result.values()["code"], result.values()["ended"]) == (1, -15)
    records = sorted(path.name for path in tmp_path.glob("runs/*/**/attempts/*.json"))
    assert len(records) == 4, "a start and an end of each, whoever came out of them"
