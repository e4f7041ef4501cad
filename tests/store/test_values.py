"""Values come back exactly; secrets are nowhere on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runstore
from runstore import Attempt, Map, Pipeline, Task, fork, retry, sequence, start, task
from runstore.errors import InputError, ParameterError, ValueNotJsonError
from runstore.executor import Silent
from tests.verified import verified

DAG = sequence(Task(name="a", returns=("x",)), Task(name="b", params=("x",), returns=("y",)))


def nested(depth: int):
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def same(one, other) -> bool:
    """Equal, types and signs of zero included."""
    return repr(one) == repr(other)


EXACT = {
    "huge": 10**30,
    "negative": -(2**53) - 1,
    "edge": 2**53,
    "whole float": 1.0,
    "floats": [1.0, -0.0, 1e22, 5e-324, 0.1, 1e16],
    "large whole floats": [float(n) for n in range(10_000)],
    "unicode": "é\u2028\U0001f600\0\x7f",
    "odd keys": {"": 1, "\U0001f600": 2, "\ue000": 3},
    "mixed": [1, 1.0, True, None, "1"],
    "order": {"b": 1, "a": {"d": 1, "c": 2}},
    "10 MB": "é" * 5_000_000,
    "100,000 items": list(range(100_000)),
    "digits": 10**4_000,
    **{
        f"deep {depth}": nested(depth)
        for depth in (100, 249, 250, 251, 252, 253, 254, 255, 260, 490)
    },
}


@pytest.mark.parametrize("what", EXACT)
def test_a_value_comes_back_exactly(tmp_path, what):
    value = EXACT[what]
    store = runstore.open_store(tmp_path, durable=False)
    run = store.create_run(DAG, {"p": value}, run_id="r")
    run.begin("a").succeed({"x": value})
    run = store.get_run("r")
    assert same(run.parameters()["p"], value)
    attempt = run.begin("b")
    assert same(attempt.params()["x"], value)
    attempt.succeed({"y": [value] if not what.startswith("deep 490") else 0})
    assert same(store.get_run("r").values()["x"], value)
    assert not [problem for _, problem in verified(run) if problem]
    assert store.get_run("r").plan().status == "succeeded"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(json_values)
def test_any_json_value_comes_back_exactly(value):
    run = runstore.open_store("memory://values").create_run(DAG)
    run.begin("a").succeed({"x": value})
    assert same(run.begin("b").params()["x"], value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1}, (1,), object(), b"", {1: 2}, "\ud800", nested(600)]
)
def test_what_json_cannot_hold_is_refused_by_name_and_nothing_is_written(tmp_path, value):
    store = runstore.open_store(tmp_path / "store")
    with pytest.raises(ValueNotJsonError, match="'p'"):
        store.create_run(DAG, {"p": value})
    assert not (tmp_path / "store").exists()


def listed():
    return ["x" * 20_000, 10**30, 1.0, ["y" * 20_000]]


def each(item):
    return item


def test_map_items_that_stand_in_blobs(tmp_path):
    pipeline = sequence(
        task(listed, returns="items"),
        Map(name="m", over="items", as_="item", body=sequence(task(each, returns="back"))),
        Map(name="n", over="back", as_="item", body=sequence(task(each, returns="twice"))),
    )
    result = start(pipeline, store=tmp_path, environment={})
    assert result.status == "succeeded"
    assert same(result.values()["twice"], listed())


def test_a_map_over_a_large_parameter(tmp_path):
    pipeline = sequence(
        Map(name="m", over="items", as_="item", body=sequence(task(each, returns="back")))
    )
    items = [f"{n}" * 6_000 for n in range(4)]
    result = start(pipeline, {"items": items}, store=tmp_path, environment={})
    assert (result.status, result.values()["back"]) == ("succeeded", items)


# -- secrets -------------------------------------------------------------------------------------

SECRET = "correct-horse-battery-staple"


def uses(token, attempt: Attempt):
    assert token == SECRET
    return len(token)


def fails_once(token, flag):
    if Path(flag).exists():
        raise RuntimeError("flag")
    return token == SECRET


def no_secret(token):
    return 1


PIPELINE = Pipeline(
    sequence(task(uses, returns="length"), task(fails_once, returns="right")), {}, ("token",)
)


def leaks(root: Path) -> list[str]:
    needle = SECRET.encode()
    return [str(p) for p in root.rglob("*") if p.is_file() and needle in p.read_bytes()]


def test_a_secret_is_nowhere_on_disk_and_asked_for_again(tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    root = tmp_path / "store"
    options = {"store": root, "environment": {}, "run_id": "r"}
    with pytest.raises(InputError, match="'token'"):
        start(PIPELINE, {"flag": str(flag)}, **options)
    assert not root.exists()
    secrets = {"token": SECRET}
    result = start(PIPELINE, {"flag": str(flag)}, secrets=secrets, **options)
    assert result.status == "failed"
    files = sorted(root.rglob("*"))
    with pytest.raises(ParameterError, match=r"'token'.*never stored"):
        retry("r", PIPELINE, store=root)
    assert sorted(root.rglob("*")) == files
    flag.unlink()
    result = retry("r", PIPELINE, {"token": SECRET}, secrets=secrets, store=root)
    assert result.status == "succeeded"
    assert result.warnings == ()
    forked = fork("r", PIPELINE, {"token": SECRET}, store=root, new_run_id="f")
    assert forked.status == "succeeded"
    assert leaks(root) == []


def test_a_secret_goes_to_worker_processes_and_shells_and_stays_there(tmp_path):
    shell = Task(
        name="sh",
        type="shell",
        params=("token",),
        after=("uses",),
        config={"command": f'test "$token" = {SECRET[:8]}"{SECRET[8:]}"'},
    )
    pipeline = Pipeline(runstore.Dag([task(uses, returns="length"), shell]), {}, ("token",))
    result = start(
        pipeline,
        secrets={"token": SECRET},
        store=tmp_path,
        processes=True,
        workers=1,
        environment={},
        reporter=Silent(),
    )
    assert result.status == "succeeded"
    assert leaks(tmp_path) == []


def test_the_secret_itself_is_not_compared(tmp_path):
    """Another value of it makes nothing stale: its name is what was consumed."""
    pipeline = Pipeline(sequence(task(no_secret, returns="n")), {}, ("token",))
    result = start(pipeline, secrets={"token": "first"}, store=tmp_path, environment={})
    result = fork(result.run_id, pipeline, store=tmp_path, secrets={"token": "second"})
    assert (result.status, result.ran) == ("succeeded", ())
