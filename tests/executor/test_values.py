"""Between steps a value is its bytes: what a task does to an object is seen by nobody else.

The oracle is what stands on the disk, and what a person who knows the pipeline expects; threads and
processes must give the same.
"""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
import rfc8785

import runstore
from runstore import Dag, sequence, start, task
from tests.executor import shared
from tests.verified import verified

EXPECTED = {
    "input": {
        "conf": {"debug": True, "rows": [3, 1, 2]}, "first": 1, "one": 1,
        "seen": [{"debug": True, "rows": [3, 1, 2]}, 1],
    },
    "kept": {"made": {"a": [1]}, "n": 2, "seen": [{"a": [1]}, 2]},
    "items": {
        "got": [101, 102],
        "looked": [{"n": 1, "rows": [[]]}, {"n": 2, "rows": [[]]}],
        "all": [[{"n": 1, "rows": [[]]}, {"n": 2, "rows": [[]]}], [101, 102], 2],
        "again": [{"n": 1, "rows": [[]]}, {"n": 2, "rows": [[]]}],
    },
    "rows": {"rows": [[0], [0], [0]], "changed": [[0, 1], [0], [0]]},
    "large": {
        "big": list(range(20_000)), "size": 20_000, "seen": [0, 1, 20_000, sum(range(20_000))],
    },
    "types": {
        "kinds": {
            "f": 1.0, "minus": -0.0, "i": 1, "big": 10**40, "t": True, "b": 1e22,
            "a": {"z": 1, "b": 2},
        },
        "seen": f"{{'f': 1.0, 'minus': -0.0, 'i': 1, 'big': {10**40}, 't': True, 'b': 1e+22, "
        "'a': {'z': 1, 'b': 2}}",
    },
    "loop": {"carry": [0, 1, 2], "done": True, "end": [0, 1, 2]},
    "metrics": {"o": [1], "n": 2},
}  # fmt: skip


def records(root, run_id):
    """Path -> raw end record."""
    found = {}
    for file in root.glob(f"runs/{run_id}/**/attempts/*.end.json"):
        record = json.loads(file.read_bytes())["record"]
        found[record["path"]] = record
    return found


def digests(value):
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


@pytest.fixture(autouse=True)
def _fresh():
    shared.KEPT.clear()
    shared.LARGE[:] = range(20_000)


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
@pytest.mark.parametrize("which", EXPECTED)
def test_nobody_sees_what_a_task_does_to_an_object(tmp_path, which, processes):
    given = copy.deepcopy(shared.PARAMETERS)
    read = {name: given[name] for name in ("conf", "items", "carry") if which in {
        "conf": ("input",), "items": ("items",), "carry": ("loop",)}[name]}  # fmt: skip
    result = start(
        shared.PIPELINES[which], read, store=tmp_path, run_id="r", processes=processes, workers=2,
        environment={},
    )  # fmt: skip
    assert result.status == "succeeded"
    expected = {n: v for n, v in EXPECTED[which].items() if n not in read or n in result.values()}  # type: ignore[attr-defined]
    seen = {name: result.values()[name] for name in expected}
    assert repr(seen) == repr(expected)  # types and signs of zero, too
    assert given == shared.PARAMETERS, "nor do the caller's own"
    # A reader of the disk alone finds the same, and nothing left to do.
    run = runstore.open_store(tmp_path).get_run("r")
    assert {name: run.values()[name] for name in expected} == expected
    assert {step.reason.value for step in run.plan().steps if step.kind == "task"} == {"succeeded"}
    ends = records(tmp_path, "r")
    if which == "kept":
        assert ends["sees"]["consumed"]["params"] == {
            "made": digests({"a": [1]}), "n": digests(2),
        }  # fmt: skip
    if which == "input":
        assert ends["reads"]["consumed"]["params"]["conf"] == digests(shared.PARAMETERS["conf"])
    if which == "metrics":
        assert ends["measures"]["metrics"] == {"m": [1]}


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_value_that_changes_while_it_is_recorded_is_one_value(tmp_path, processes):
    """The digest that the next step consumed is that of the bytes that are there."""
    for n in range(3):
        start(
            shared.PIPELINES["unsteady"], store=tmp_path, run_id=f"r{n}", processes=processes,
            environment={},
        )  # fmt: skip
        ends = records(tmp_path, f"r{n}")
        assert ends["unsteady"]["outcome"] == ends["counts"]["outcome"] == "succeeded"
        consumed = ends["counts"]["consumed"]["params"]["wild"]
        if "wild" in ends["unsteady"].get("outputs", {}):
            value = ends["unsteady"]["outputs"]["wild"]
        else:
            blob = ends["unsteady"]["large"]["wild"]
            (file,) = tmp_path.glob(f"runs/r{n}/**/blobs/sha256/*/{blob['sha256']}")
            value = json.loads(file.read_bytes())
            assert blob["value"] == consumed
        assert digests(value) == consumed
        assert not [
            problem
            for _, problem in verified(runstore.open_store(tmp_path).get_run(f"r{n}"))
            if problem
        ]


def test_what_the_caller_is_given_is_his_own(tmp_path):
    given = copy.deepcopy(shared.PARAMETERS)
    result = start(
        shared.PIPELINES["input"], {"conf": given["conf"]}, store=tmp_path, run_id="r",
        environment={},
    )  # fmt: skip
    result.values()["seen"][0]["rows"].append("changed")
    result.run.parameters()["conf"]["rows"].append("changed")
    assert result.values()["seen"] == EXPECTED["input"]["seen"]
    assert result.run.parameters()["conf"] == shared.PARAMETERS["conf"]


def first(token):
    token.append("changed")


def second(token):
    return len(token)


def test_a_secret_is_a_copy_too(tmp_path):
    steps = sequence(task(first), task(second, returns="n"))
    pipeline = runstore.Pipeline(steps, secrets=("token",))
    result = start(
        pipeline, store=tmp_path, secrets={"token": ["a secret word"]}, environment={}
    )  # fmt: skip
    assert result.values()["n"] == 1


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
@pytest.mark.parametrize(
    "value", [(1, 2), {1: "one"}, {"a": (1,)}], ids=["tuple", "keys", "inside"]
)
def test_threads_refuse_what_processes_refuse(tmp_path, processes, value):
    node = task(_gives, returns="x")
    result = start(
        Dag([node]), {"which": repr(value)}, store=tmp_path, processes=processes, environment={}
    )
    assert result.status == "failed"
    assert "no JSON value" in result.run.read_end("_gives", 1).error["message"]


def _gives(which):
    return eval(which)


def test_a_context_gives_its_own_copies(tmp_path):
    """Whoever claims attempts without an executor has the same."""
    run = runstore.open_store(tmp_path).create_run(shared.PIPELINES["rows"], run_id="r")
    row = [0]
    with run.begin("twice") as attempt:
        attempt.outputs["rows"] = [row, row]
    end = attempt.end
    row.append(1)
    assert end.outputs["rows"] == [[0], [0]]
    again = run.begin("changes_a_row")
    again.params()["rows"][0].append(1)
    assert again.params()["rows"] == [[0, 1], [0]]
    assert run.values()["rows"] == [[0], [0]]
