"""Creating a run: everything is looked at before anything is written."""

from __future__ import annotations

import pytest

import runstore
from runstore import Dag, Pipeline, Task, fork, sequence, start, task
from runstore.errors import DagError, RunstoreError, ValueNotJsonError
from tests.executor import tasks as t


def deep(levels: int):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "config", [{"x": object()}, {"x": 2**60}, {"x": float("nan")}, {"x": deep(256)}, {"\ud800": 1}]
)
def test_configuration_a_record_cannot_hold(tmp_path, config):
    store = runstore.open_store(tmp_path / "store")
    with pytest.raises((DagError, ValueNotJsonError)):
        store.create_run(Dag([Task(name="a", config=config)]))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("labels", [{"a": 1}, {1: "a"}, {"a": None}, {"\ud800": "a"}])
def test_labels_are_texts(tmp_path, labels):
    with pytest.raises(RunstoreError):
        runstore.open_store(tmp_path / "store").create_run(Dag([]), labels=labels)
    assert not (tmp_path / "store").exists()


def test_a_command_line_may_hold_any_bytes():
    pipeline = sequence(task(t.one, returns="x"))
    result = start(pipeline, store="memory://bytes", environment={}, command=["run", "\udcff.py"])
    (invocation,) = result.run.history().invocations.values()
    assert invocation.command == ("run", "?.py")


def test_a_fork_may_bring_a_secret_of_its_own(tmp_path):
    first = sequence(task(t.one, returns="x"))
    start(first, store=tmp_path, run_id="r", environment={})
    more = Dag([*first.nodes, task(t.length, name="new", after="one", returns="y")])
    result = fork(
        "r", Pipeline(more, {}, ("key",)), store=tmp_path, new_run_id="f", keep_unchanged=True,
        secrets={"key": "s3cret-value"},
    )  # fmt: skip
    assert (result.status, result.ran, result.values()["y"]) == ("succeeded", ("new",), 12)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]


def test_a_worker_that_dies_before_it_begins_does_not_go_round_for_ever(tmp_path):
    path = tmp_path / "pipeline.py"
    path.write_text(
        "import multiprocessing, os\n"
        "if multiprocessing.parent_process() is not None:\n"
        "    os._exit(7)\n"
        "from runstore import sequence, task\n"
        "def one():\n    return 1\n"
        "pipeline = sequence(task(one, returns='x'))\n"
    )
    pipeline = runstore.load_pipeline(str(path))
    store = tmp_path / "s"
    with pytest.raises(RunstoreError, match="die before they begin one"):
        start(pipeline, store=store, processes=True, workers=1, environment={}, run_id="r")
    assert not runstore.open_store(store).get_run("r").history().attempts
