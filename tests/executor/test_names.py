"""Outputs of names that a step does not return: the error names the step, and each of them."""

from __future__ import annotations

import pytest

import runstore
from runstore import Attempt, Dag, Task, start, task
from runstore.errors import InputError, ParameterError


def more(attempt: Attempt):
    attempt.outputs["extra"] = 1
    return 1


def other_names():
    return {"x": 1, "odd": 2, "strange": 3}


def missing(attempt: Attempt):
    attempt.outputs["x"] = 1


def by_outputs(attempt: Attempt):
    attempt.outputs["x"] = 1
    attempt.outputs["y"] = 2


def nothing_asked(attempt: Attempt):
    attempt.outputs["x"] = 1


def shell(written, *returns):
    config = {"command": f"printf '%s' '{written}' > \"$RUNSTORE_RETURNS\""}
    return Task(name="sh", type="shell", config=config, returns=returns)


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
@pytest.mark.parametrize(
    ("node", "said"),
    [
        (task(more, returns="x"), "more returned 'extra', and its `returns` lists 'x'"),
        (
            task(other_names, returns=("x", "y")),
            "other_names is to return 'y' and did not; it returned 'odd', 'strange' instead",
        ),
        (task(missing, returns=("x", "y")), "missing is to return 'y' and did not"),
        (
            task(nothing_asked),
            "nothing_asked returned 'x', and its `returns` lists nothing: add it there",
        ),
        (shell('{"x": 1, "odd": 2}', "x"), "sh returned 'odd', and its `returns` lists 'x'"),
        (shell('{"odd": 2}', "x"), "sh is to return 'x' and did not"),
        (shell('{"odd": 2}'), "sh returned 'odd', and its `returns` lists nothing"),
    ],
)
def test_a_step_fails_by_name(tmp_path, node, said, processes):
    result = start(Dag([node]), store=tmp_path, processes=processes, workers=1, environment={})
    end = result.run.read_end(node.name, 1)
    assert end.outcome == "failed"
    assert end.error["message"].startswith(said)


def test_what_is_set_is_what_is_returned(tmp_path):
    result = start(
        Dag([task(by_outputs, returns=("x", "y"))]), store=tmp_path, environment={}
    )  # fmt: skip
    assert result.values() == {"x": 1, "y": 2}


def test_an_attempt_of_ones_own_refuses_by_name_and_stays_open(tmp_path):
    run = runstore.open_store(tmp_path).create_run(Dag([task(by_outputs, returns=("x", "y"))]))
    attempt = run.begin("by_outputs")
    with pytest.raises(ParameterError, match=r"by_outputs returned 'z', and .* lists 'x', 'y'"):
        attempt.succeed({"x": 1, "y": 2, "z": 3})
    with pytest.raises(ParameterError, match="by_outputs is to return 'y'"):
        attempt.succeed({"x": 1})
    with pytest.raises(InputError, match="what by_outputs returned has a name of type int"):
        attempt.succeed({"x": 1, "y": 2, 3: 3})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="what by_outputs returned is a list: it must be a dict"):
        attempt.succeed([("x", 1)])
    other = run.attempt_of(attempt.token)
    with pytest.raises(ParameterError, match="by_outputs returned 'z'"):
        other.succeed({"x": 1, "y": 2, "z": 3})
    assert attempt.succeed({"x": 1, "y": 2}).outcome == "succeeded"


def test_a_block_ends_its_attempt_all_the_same(tmp_path):
    run = runstore.open_store(tmp_path).create_run(Dag([task(by_outputs, returns=("x", "y"))]))

    def block():
        with run.begin("by_outputs") as attempt:
            attempt.outputs["z"] = 1

    with pytest.raises(ParameterError, match="'x', 'y'"):
        block()
    assert run.read_end("by_outputs", 1).outcome == "failed"
