"""Python tasks: what they take, return, print, and how they fail."""

from __future__ import annotations

import re
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

import runstore
from runstore import Dag, Map, retry, sequence, start, task
from runstore.errors import InputError, PipelineError, RunstoreError
from tests.executor import tasks as t


def run(pipeline, parameters=None, **options):
    options.setdefault("store", "memory://python-tasks")
    return start(pipeline, parameters, environment={}, **options)


def end_of(result, path, number=1):
    return result.run.read_end(path, number)


def test_returns_by_name():
    pipeline = Dag(
        [
            task(t.pair, returns=("l", "r")),
            task(t.named, returns=("a", "b")),
            task(t.one, returns="x"),
            task(t.describes, returns="about", after="one"),
            task(t.quoted, returns="n"),
        ]
    )
    result = run(pipeline, run_id="by-name")
    assert result.values() == {
        "l": "left", "r": "right", "a": 1, "b": 2, "x": 1, "n": 1,
        "about": ["describes", 1, "by-name", 1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (task(t.tripled, returns=("a", "b")), "returned a tuple of 3.*names 2: a, b"),
        (task(t.one, name="p", returns=("a", "b")), "returned a int.*names 2"),
        (task(t.named, returns=("a", "c")), "named is to return 'c' .* it returned 'b' instead"),
        (task(t.leaves), r"sys\.exit\('bye'\)"),
        (task(t.leaves, name="p", returns="x"), r"sys\.exit\('bye'\)"),
        (task(t.add, returns="y"), "can only concatenate|unsupported operand"),
        (task(object, name="o", returns="x"), "'x' returned by o is no JSON value"),
        (task(lambda: {1}, name="set", returns="x"), "'x' returned by set is no JSON value"),
        (task(lambda: float("nan"), name="nan", returns="x"), "'x' returned by nan"),
    ],
)
def test_failures_say_what_is_wrong_and_the_rest_goes_on(node, said):
    result = run(Dag([node, task(t.one, name="other", returns="o")]), {"x": "text"})
    assert result.status == "failed"
    assert result.values()["o"] == 1
    error = end_of(result, node.name).error
    assert re.search(said, error["message"]), error
    assert "runstore/executor" not in error.get("traceback", "") or "add" in node.name


def test_a_task_that_leaves_shows_where():
    error = end_of(run(sequence(task(t.leaves))), "leaves").error
    assert error["type"] == "TaskFailedError"
    assert 'sys.exit("bye")' in error["traceback"]
    assert "runstore/executor/step.py" not in error["traceback"].replace("tests/executor", "")
    assert "in do" not in error["traceback"]


def test_a_traceback_begins_in_the_task():
    result = run(sequence(task(t.fails_while)), {"flag": "/"})
    error = end_of(result, "fails_while").error
    assert error["type"] == "RuntimeError"
    assert "the flag is up" in error["traceback"]
    assert "executor/tasks.py" in error["traceback"].splitlines()[1]
    assert "runstore/executor" not in error["traceback"]


def test_a_value_nobody_names_is_warned_of():
    result = run(sequence(task(t.unkept)))
    assert result.status == "succeeded"
    assert "unkept returned a str" in result.warnings[0]


def test_a_task_that_raises_an_interrupt_has_failed():
    """Nobody interrupted it. See test_signals for what it is when somebody did."""
    result = run(sequence(task(t.interrupts)))
    end = end_of(result, "interrupts")
    assert end.outcome == "failed"
    assert "the task raised KeyboardInterrupt" in end.error["message"]
    assert result.status == "failed"


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_what_is_printed_is_kept_apart(tmp_path, capfd, how):
    items = list("abcdef")
    pipeline = sequence(
        Map(name="m", over="items", as_="item", body=sequence(task(t.talks, returns="said")))
    )
    before = sys.stdout
    result = run(
        pipeline, {"items": items}, store=tmp_path, workers=6 if how == "threads" else 2,
        processes=how == "processes",
    )  # fmt: skip
    assert result.status == "succeeded"
    assert sys.stdout is before
    for item in items:
        lines = result.run.logs(f'm["{item}"]/talks').decode().splitlines()
        assert lines == [
            *(f"{item}: line {n}" for n in range(20)), f"{item}: error", f"{item}: bytes",
        ]  # fmt: skip
    assert "line" not in capfd.readouterr().out, "nothing of it on the terminal"
    assert result.run.logs('m["a"]/talks', 1)
    with pytest.raises(runstore.errors.RefusedError):
        result.run.logs('m["a"]/talks', 2)


@pytest.mark.parametrize("death", [t.killed, lambda: None])
def test_a_worker_that_dies_fails_its_step_and_the_rest_goes_on(tmp_path, death):
    killed = task(t.killed, name="gone") if death is t.killed else task(t.dies, name="gone")
    pipeline = Dag(
        [
            killed,
            task(t.add, name="needs", after="gone", returns="never"),
            task(t.one, name="aside", returns="o"),
            task(t.add, name="later", after="aside", returns="z"),
        ]
    )
    result = run(pipeline, {"x": 1}, store=tmp_path, processes=True, workers=1)
    assert result.status == "failed"
    error = end_of(result, "gone").error
    assert "its worker process" in error["message"]
    assert ("SIGKILL" if death is t.killed else "exited with code 3") in error["message"]
    assert result.values()["z"] == 2
    actions = {step.path: step.action.value for step in result.plan.steps}
    assert actions == {"gone": "FAILED", "needs": "OMIT", "aside": "SKIP", "later": "SKIP"}
    fixed = Dag([task(t.one, name="gone"), *pipeline.nodes[1:]])
    again = retry(result.run_id, fixed, store=tmp_path, keep_unchanged=True)
    assert again.status == "succeeded"
    assert again.ran == ("gone", "needs")


class Inline(Executor):
    """Whatever has ``submit``."""

    def __init__(self, *, shares_memory: bool) -> None:
        self.shares_memory = shares_memory
        self.submitted = 0

    def submit(self, function, /, *arguments, **named):
        self.submitted += 1
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - an executor hands it on
            future.set_exception(error)
        return future


@pytest.mark.parametrize("shares_memory", [True, False])
def test_any_executor(tmp_path, shares_memory):
    pool = Inline(shares_memory=shares_memory)
    pipeline = sequence(task(t.one, returns="x"), task(t.describes, returns="about"))
    result = run(pipeline, store=tmp_path, executor=pool, run_id="any")
    assert (result.status, pool.submitted) == ("succeeded", 2)
    assert result.values()["about"] == ["describes", 1, "any", 1]


def test_a_pool_of_ones_own_is_left_open(tmp_path):
    pipeline = sequence(task(t.one, returns="x"))
    with ThreadPoolExecutor(2) as pool:
        assert run(pipeline, executor=pool).status == "succeeded"
        assert run(pipeline, executor=lambda: ThreadPoolExecutor(1)).status == "succeeded"
        assert pool.submit(t.one).result() == 1


def test_what_cannot_be_sent_is_said(tmp_path):
    pipeline = sequence(task(lambda: 1, name="local", returns="x"))
    with pytest.raises((PipelineError, RunstoreError), match="local cannot be sent"):
        run(pipeline, store=tmp_path, processes=True, workers=1)


def test_memory_is_not_shared_with_processes():
    store = runstore.open_store("memory://not-shared")
    with pytest.raises(InputError, match="memory"):
        run(sequence(task(t.one, returns="x")), store=store, processes=True)
    assert list(store.run_ids()) == []
