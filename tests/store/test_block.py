"""A `with` block around an attempt: how it ends, and what can be kept."""

from __future__ import annotations

import pytest

import runstore
from runstore import Task, sequence
from runstore.errors import ParameterError, ValueNotJsonError

DAG = sequence(Task(name="a", returns=("x",)), Task(name="b", params=("x",), returns=("y",)))


@pytest.fixture
def run(tmp_path):
    return runstore.open_store(tmp_path / "store", durable=False).create_run(DAG, run_id="r")


def again(run):
    """Another invocation, for which what failed before is to be run."""
    run.begin_invocation("retry")
    return run


def test_leaving_the_block_ends_the_attempt(run):
    with pytest.raises(ZeroDivisionError), run.begin("a"):
        1 / 0  # noqa: B018 - this is what fails
    end = run.read_end("a", 1)
    assert (end.outcome, end.error["type"]) == ("failed", "ZeroDivisionError")
    assert "1 / 0" in end.error["traceback"]
    with pytest.raises(KeyboardInterrupt), again(run).begin("a"):
        raise KeyboardInterrupt
    assert run.read_end("a", 2).outcome == "cancelled"
    with pytest.raises(SystemExit), again(run).begin("a"):
        raise SystemExit(3)
    assert run.read_end("a", 3).outcome == "failed"
    with again(run).begin("a") as attempt:
        attempt.outputs["x"] = 1
        attempt.metrics["loss"] = 0.5
    assert attempt.end.outcome == "succeeded"
    assert run.read_end("a", 4).metrics == {"loss": 0.5}
    with run.begin("b") as attempt:
        attempt.fail("on purpose")
    assert run.read_end("b", 1).outcome == "failed"


@pytest.mark.parametrize(
    ("outputs", "error", "said"),
    [
        ({"x": float("nan")}, ValueNotJsonError, "'x' returned by a"),
        ({"x": {1, 2}}, ValueNotJsonError, "'x' returned by a"),
        ({"x": object()}, ValueNotJsonError, "'x' returned by a"),
        ({"x": {"deep": [b"bytes"]}}, ValueNotJsonError, "'x' returned by a"),
        ({"x": {1: 2}}, ValueNotJsonError, "'x' returned by a"),
        ({}, ParameterError, "a is to return 'x'"),
        ({"x": 1, "z": 2}, ParameterError, "a returned 'z'"),
    ],
)
def test_what_cannot_be_kept_fails_the_attempt(run, outputs, error, said):
    with pytest.raises(error, match=said), run.begin("a") as attempt:
        attempt.outputs.update(outputs)
    end = run.read_end("a", 1)
    assert end.outcome == "failed"
    assert said in end.error["message"]
    assert not end.outputs
    with pytest.raises(error):
        again(run).begin("a").succeed(outputs)
    assert [start.attempt for start in run.history().open()] == [2], "succeed() leaves it open"


class RudeError(Exception):
    def __str__(self):
        raise ValueError("no")


def test_a_failure_is_recorded_whatever_comes_with_it(run):
    with pytest.raises(ValueNotJsonError, match="'loss'"), run.begin("a") as attempt:  # noqa: PT012
        attempt.outputs["x"] = 1
        attempt.metrics["loss"] = float("nan")
        attempt.metrics["ok"] = 2
    end = run.read_end("a", 1)
    assert (end.outcome, end.metrics) == ("failed", {"ok": 2})
    with pytest.raises(RudeError), again(run).begin("a"):
        raise RudeError
    assert "RudeError" in run.read_end("a", 2).error["type"]
    with pytest.raises(RuntimeError), again(run).begin("a"):
        raise RuntimeError("\ud800 half a pair " + "x" * 100_000)
    assert len(run.read_end("a", 3).error["message"]) < 20_000


class NamelessError(Exception):
    def __str__(self):
        raise SystemExit(3)


NamelessError.__module__ = None  # type: ignore[assignment]


class EmptyError(NamelessError):
    __notes__ = 5


EmptyError.__module__ = 5  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [NamelessError, EmptyError])
def test_whatever_an_exception_says_of_itself(run, kind):
    with pytest.raises(kind), run.begin("a"):
        raise kind
    end = run.read_end("a", 1)
    assert (end.outcome, end.error["type"]) == ("failed", kind.__name__)
    assert "SystemExit" in end.error["message"]
