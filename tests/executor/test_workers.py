"""Worker processes: what is sent to them, and what happens when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task, sequence, start, task
from runstore.errors import PipelineError, RunstoreError
from runstore.executor.pool import Pool
from runstore.executor.workers import WorkerDiedError, Workers
from runstore.storage.local import LocalStorage
from tests.executor import tasks as t


def run(pipeline, parameters=None, **options):
    return start(pipeline, parameters, environment={}, run_id="r", **options)


def outcomes(result):
    history = result.run.history()
    return {p: [end.outcome for end in history.ends(p)] for p in sorted(history.paths())}


def three(folder: Path) -> Dag:
    """Two that are innocent, and one that takes its process along while they are at work."""
    nap = {"config": {"callable": "tests.executor.tasks:naps"}, "params": ("item", "folder")}
    nodes = []
    for name in "ab":
        giver = Task(
            name=f"to_{name}", returns=("item",),
            config={"callable": f"tests.executor.test_workers:to_{name}"},
        )  # fmt: skip
        body = Dag([giver, Task(name="nap", after=(giver.name,), **nap)])
        nodes.append(runstore.Parallel(name=name, branches={"only": body}))
    return Dag([task(t.doomed), *nodes])


def to_a():
    return "a"


def to_b():
    return "b"


def test_a_worker_that_dies_takes_nobody_along(tmp_path):
    result = run(
        three(tmp_path), {"folder": str(tmp_path)}, store=tmp_path / "s", processes=True, workers=3
    )
    assert outcomes(result) == {
        "a:only/nap": ["succeeded"], "a:only/to_a": ["succeeded"],
        "b:only/nap": ["succeeded"], "b:only/to_b": ["succeeded"],
        "doomed": ["failed"],
    }  # fmt: skip
    assert result.status == "failed"


def spawned():
    return ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn"))


def test_where_nobody_knows_who_broke_the_pool_it_shows_when_they_run_alone(tmp_path):
    result = run(
        three(tmp_path), {"folder": str(tmp_path)}, store=tmp_path / "s", executor=spawned,
        workers=3,
    )  # fmt: skip
    came = outcomes(result)
    assert result.status == "failed"
    assert came["doomed"] in (["lost", "failed"], ["failed"])
    for name in "ab":
        assert came[f"{name}:only/nap"][-1] == "succeeded"
        assert "failed" not in came[f"{name}:only/nap"]
    assert not list(result.run.history().open())


class Losing(Executor):
    """Runs what it is given here, and says that it was lost."""

    shares_memory = False

    def __init__(self, error, times, *, after=True):
        self.error, self.times, self.after = error, times, after

    def submit(self, function, /, *arguments, **named):
        future: Future = Future()
        if self.times > 0 and not self.after:
            self.times -= 1
            future.set_exception(self.error)
            return future
        try:
            done = function(*arguments, **named)
        except BaseException as error:  # noqa: BLE001 - an executor hands it on
            future.set_exception(error)
            return future
        if self.times > 0:
            self.times -= 1
            future.set_exception(self.error)
        else:
            future.set_result(done)
        return future


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), CancelledError()])
@pytest.mark.parametrize("after", [True, False])
def test_any_executor_may_lose_a_step(tmp_path, error, after):
    """Whatever class the executor's own error is of: what was recorded counts, the rest runs."""
    pool = Losing(error, 2, after=after)
    pipeline = sequence(task(t.one, returns="x"), task(t.add, returns="y"))
    result = run(pipeline, store=tmp_path, executor=lambda: pool)
    assert (result.status, result.values()["y"]) == ("succeeded", 2)
    assert outcomes(result) == {"one": ["succeeded"], "add": ["succeeded"]}


def test_one_that_is_lost_over_and_over_before_it_begins(tmp_path):
    with pytest.raises(RunstoreError, match="before they begin one"):
        run(
            sequence(task(t.one, returns="x")), store=tmp_path,
            executor=lambda: Losing(CancelledError(), 99, after=False),
        )  # fmt: skip


def test_a_task_in_a_worker_can_ask_its_run(tmp_path):
    pipeline = Dag([task(t.one, returns="o"), task(t.looks, returns="seen", after="one")])
    result = run(pipeline, {"x": 5}, store=tmp_path, processes=True, workers=1)
    assert result.status == "succeeded"
    names, x, steps = result.values()["seen"]
    assert (names, x, steps["one"]) == (["one", "looks"], 5, "SKIP")


class Special(LocalStorage):
    """A storage that was opened in a way its URL does not tell."""

    option = None


def test_the_storage_is_sent_as_it_was_opened(tmp_path):
    storage = Special(tmp_path, durable=False)
    storage.option = "kept"
    pipeline = sequence(task(t.opened, returns=("kind", "option")))
    result = run(pipeline, store=runstore.Store(storage), processes=True, workers=1)
    assert result.values() == {"kind": "Special", "option": "kept"}


CHANGING = """
import pathlib
from runstore import sequence, task
def first():
    path = pathlib.Path(__file__)
    path.write_text(path.read_text() + "\\n# changed\\n")
    return 1
def second(x):
    return x
pipeline = sequence(task(first, returns="x"), task(second, returns="y"))
"""


def test_a_pipeline_file_that_changes_while_it_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "changing_pipeline.py"
    path.write_text(CHANGING)
    pipeline = runstore.load_pipeline(str(path))
    path.write_text(CHANGING + "# another one\n")
    with pytest.raises(PipelineError, match="changed while it was running: retry"):
        run(pipeline, store=tmp_path / "s", processes=True, workers=1)
    history = runstore.open_store(tmp_path / "s").get_run("r").history()
    assert not list(history.paths()), "it was found out before anything began"


def test_what_cannot_be_sent_is_found_out_before_it_is_sent(tmp_path):
    pool = Losing(TypeError("an error of the executor's own"), 1)
    with pytest.raises(TypeError, match="own"):
        run(sequence(task(t.one, returns="x")), store=tmp_path, executor=pool)
    local = sequence(task(lambda: 1, name="local", returns="x"))
    with pytest.raises(PipelineError, match="local cannot be sent"):
        start(local, store=tmp_path, executor=pool, environment={})


@pytest.mark.parametrize("now", [True, False])
def test_processes_of_somebody_elses_pool_are_left_alone(now):
    with spawned() as theirs:
        pool = Pool(theirs, 1, processes=False)
        assert pool.submit(t.one).result() == 1
        pool.end_processes(0.0, now=now)
        pool.close()
        assert theirs.submit(t.one).result() == 1


def test_a_worker_that_died_while_it_had_nothing_to_do_takes_no_step_along():
    """Whether or not that was seen when the next step is given to it."""
    with Workers() as workers:
        for wait in (0.0, 1.0, 0.0):
            assert workers.submit(t.one).result(60) == 1
            (process,) = workers.processes()
            os.kill(process.pid, signal.SIGKILL)
            time.sleep(wait)
            future = workers.submit(t.one)
            error = future.exception(60)
            assert error is None or isinstance(error, WorkerDiedError)
            assert error is None or error.code == -signal.SIGKILL


def test_values_of_megabytes_go_both_ways():
    with Workers() as workers:
        futures = [workers.submit(bytes.__add__, b"x" * 5_000_000, b"y") for _ in range(3)]
        assert [len(future.result(60)) for future in futures] == [5_000_001] * 3
        with pytest.raises(TypeError) as caught:
            workers.submit(t.add, "x").result(60)
        assert "in add" in str(caught.value.__cause__), "where it was, in the worker"
    assert workers.processes() == []
    with pytest.raises(RuntimeError):
        workers.submit(t.one)


FAILS = """
import time, runstore
from runstore.executor import workers

def a():
    time.sleep(0.3)
    return 1

if __name__ == "__main__":
    hear = workers.Workers._hear
    def fails(self, worker):
        if worker.job is None:
            return hear(self, worker)
        raise MemoryError("no more of it")
    workers.Workers._hear = fails
    try:
        runstore.start(runstore.sequence(runstore.task(a)), store="s", processes=True)
    except runstore.RunstoreError as error:
        print(error)
"""


def test_a_program_whose_listener_fails_says_so_and_ends(tmp_path):
    """Its workers wait for work that nobody will give them, and it waits for its workers."""
    (tmp_path / "p.py").write_text(FAILS)
    done = subprocess.run(
        [sys.executable, "p.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "worker processes were lost: no more of it\n")


def sockets_of_a_command():
    said = subprocess.run(
        "ls -l /proc/self/fd", shell=True, close_fds=False, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return [line for line in said.stdout.splitlines() if "socket:" in line]


def test_a_command_that_a_step_starts_does_not_hold_its_pipe():
    """It would be read on for ever, if the worker died while it says something."""
    with Workers() as workers:
        assert workers.submit(sockets_of_a_command).result(60) == []


def test_an_executor_need_not_know_how_to_cancel(tmp_path):
    """As those of loky, whose `shutdown` takes other options."""
    closed = []

    class Plain(Losing):
        def shutdown(self, wait=True, kill_workers=False):  # type: ignore[override]
            closed.append(wait)

    result = run(
        sequence(task(t.one, returns="x")), store=tmp_path, executor=lambda: Plain(OSError(), 0)
    )
    assert result.values() == {"x": 1}
    assert closed == [False]
