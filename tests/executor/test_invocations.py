"""Start, retry, fork: what is refused, what is warned of, what is written."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

import runstore
from runstore import Conditional, Dag, Map, Parallel, fork, retry, sequence, start, task
from runstore.errors import (
    DagError,
    ForceError,
    InputError,
    PipelineError,
    RunExistsError,
    RunNotFailedError,
    RunNotFoundError,
    StructureChangedError,
    ValueNotJsonError,
)
from tests.executor import tasks as t
from tests.verified import verified

PIPELINE = Dag(
    [
        task(t.one, returns="x"),
        task(t.add, returns="y", after="one"),
        task(t.fails_while, returns="z", after="add"),
        task(t.one, name="last", returns="w", after="fails_while"),
    ]
)


def files(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


@pytest.fixture
def place(tmp_path):
    """A store with a run that failed at its third step, and the flag that made it fail."""
    flag = tmp_path / "flag"
    flag.touch()
    root = tmp_path / "store"
    result = start(PIPELINE, {"flag": str(flag)}, store=root, run_id="r", environment={})
    assert result.status == "failed"
    assert result.ran == ("one", "add", "fails_while")
    return root, flag


def finish(place):
    root, flag = place
    flag.unlink()
    assert retry("r", PIPELINE, store=root).status == "succeeded"
    return root


def test_a_retry_does_what_is_left(place):
    root, flag = place
    flag.unlink()
    result = retry("r", PIPELINE, store=root)
    assert (result.status, result.ran) == ("succeeded", ("fails_while", "last"))
    assert result.values()["z"] == "up and running"
    assert result.run.read_end("fails_while", 2).outcome == "succeeded"


def renamed(name: str) -> Dag:
    return Dag([task(t.one, name=name, returns="x")])


def test_what_is_refused_writes_nothing(place):
    root, flag = place
    before = files(root)
    given = {"flag": str(flag)}
    refused = [
        (RunExistsError, lambda: start(PIPELINE, given, store=root, run_id="r", environment={})),
        (DagError, lambda: start(PIPELINE, {}, store=root, environment={})),
        (ValueNotJsonError, lambda: start(PIPELINE, {"flag": {1}}, store=root, environment={})),
        (ValueError, lambda: start(PIPELINE, given, store=root, run_id="", environment={})),
        (
            PipelineError,
            lambda: start(Dag([runstore.Task(name="x", type="spark")]), store=root, environment={}),
        ),
        (RunNotFoundError, lambda: retry("other", PIPELINE, store=root)),
        (StructureChangedError, lambda: retry("r", renamed("one"), store=root)),
        (ForceError, lambda: retry("r", PIPELINE, store=root, force=["nowhere"])),
        (ForceError, lambda: retry("r", PIPELINE, store=root, only=["nowhere"])),
        (ForceError, lambda: retry("r", PIPELINE, store=root, until=["no*where"])),
        (RunNotFoundError, lambda: fork("other", PIPELINE, store=root)),
        (RunExistsError, lambda: fork("r", PIPELINE, store=root, new_run_id="r")),
        (StructureChangedError, lambda: fork("r", renamed("one"), store=root)),
        (ValueNotJsonError, lambda: fork("r", PIPELINE, {"flag": {1}}, store=root)),
    ]
    for error, refuse in refused:
        with pytest.raises(error):
            refuse()
        assert files(root) == before, error
    finish(place)
    before = files(root)
    for options in ({}, {"takeover": "all"}, {"only": ["one"]}):
        with pytest.raises(RunNotFailedError):
            retry("r", PIPELINE, store=root, **options)
    assert files(root) == before
    assert not (root.parent / "nowhere").exists()
    with pytest.raises(RunNotFoundError):
        retry("r", PIPELINE, store=root.parent / "nowhere")
    assert not (root.parent / "nowhere").exists()


def test_structure_changes_are_said_one_by_one(place):
    root, _ = place
    changed = Dag([*PIPELINE.nodes[:2], task(t.one, name="new", after="add", returns="z")])
    with pytest.raises(StructureChangedError) as caught:
        retry("r", changed, store=root)
    said = "; ".join(caught.value.changes)
    for name in ("new", "fails_while", "last"):
        assert name in said
    assert "one" not in {change.split()[-1] for change in caught.value.changes}
    result = retry("r", changed, store=root, keep_unchanged=True)
    assert (result.status, result.ran) == ("succeeded", ("new",))
    with pytest.raises(RunNotFailedError):
        retry("r", changed, store=root)  # the run knows this structure now


@pytest.mark.parametrize("name", ["RUNSTORE_RETRY_RUN_ID", "RUNNABLE_RETRY_RUN_ID"])
def test_an_environment_variable_turns_a_start_into_a_retry(place, monkeypatch, name):
    root, flag = place
    flag.unlink()
    monkeypatch.setenv(name, "r")
    result = start(PIPELINE, {"flag": str(flag)}, store=root)
    assert (result.run_id, result.ran) == ("r", ("fails_while", "last"))
    with pytest.raises(RunNotFailedError):
        start(PIPELINE, {"flag": str(flag)}, store=root)
    monkeypatch.setenv(name, "")
    assert start(PIPELINE, {"flag": str(flag)}, store=root).run_id != "r"


def test_parameters_of_a_retry_are_ignored_and_named(place):
    root, flag = place
    flag.unlink()
    result = retry("r", PIPELINE, {"flag": "other", "more": 1}, store=root)
    assert result.status == "succeeded"
    warned = [warning for warning in result.warnings if "ignored" in warning]
    assert ["'flag'" in w or "'more'" in w for w in warned] == [True, True]
    invocation = max(result.run.history().invocations.values(), key=lambda each: each.time)
    assert sorted(invocation.ignored) == ["flag", "more"]


def test_stopping_short(place):
    root, flag = place
    flag.unlink()
    result = retry("r", PIPELINE, store=root, until=["fails_while"])
    assert (result.status, result.ran) == ("stopped", ("fails_while",))
    result = retry("r", PIPELINE, store=root, force=["one"], only=["one"])
    assert result.ran == ("one",)
    result = retry("r", PIPELINE, store=root)
    assert (result.status, result.ran) == ("succeeded", ("last",))


def test_force_that_would_run_nothing_is_refused(tmp_path):
    pipeline = Dag(
        [
            task(t.one, returns="x"),
            Conditional(
                name="gate",
                on="x",
                after=("one",),
                branches={
                    "1": sequence(task(t.one, name="a")),
                    "2": sequence(task(t.one, name="b")),
                },
            ),
        ]
    )
    start(pipeline, store=tmp_path, run_id="r", environment={})
    before = files(tmp_path)
    with pytest.raises(RunNotFailedError, match="would not run"):
        retry("r", pipeline, store=tmp_path, force=["gate:2"])
    assert files(tmp_path) == before
    result = retry("r", pipeline, store=tmp_path, force=["gate:1"])
    assert (result.status, result.ran) == ("succeeded", ("gate:1/a",))


def test_a_failed_run_in_which_nothing_can_run_says_what_to_force(tmp_path):
    pipeline = Dag(
        [
            task(t.one, returns="x"),
            Conditional(name="gate", on="x", after=("one",), branches={"yes": Dag([])}),
        ]
    )
    assert start(pipeline, store=tmp_path, run_id="r", environment={}).status == "failed"
    result = retry("r", pipeline, store=tmp_path)
    assert (result.status, result.ran) == ("failed", ())
    (warning,) = result.warnings
    assert "names no branch" in warning
    assert "--force" in warning


def test_a_fork_stands_alone(place):
    root, flag = place
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    flag.unlink()
    result = fork("r", PIPELINE, store=root, new_run_id="f")
    assert (result.status, result.ran) == ("succeeded", ("fails_while", "last"))
    assert all(path.read_bytes() == data for path, data in before.items())
    shutil.rmtree(root / "runs/r")
    run = runstore.open_store(root).get_run("f")
    assert run.values() == result.values()
    assert not [problem for _, problem in verified(run) if problem]
    result = retry("f", PIPELINE, store=root, force=["one"])
    assert (result.status, result.ran) == ("succeeded", ("one",))
    again = fork("f", PIPELINE, {"flag": "elsewhere"}, store=root, new_run_id="g")
    assert (again.status, again.ran) == ("succeeded", ("fails_while",))


def test_a_fork_costs_no_object_for_each_step(tmp_path):
    pipeline = sequence(
        Map(name="m", over="items", as_="x", body=sequence(task(t.add, returns="ys"))),
        Parallel(name="p", branches={"a": sequence(task(t.one, returns="z"))}),
    )
    counts = []
    for size in (3, 40):
        store = runstore.open_store(tmp_path / str(size), durable=False)
        given = {"items": list(range(size))}
        start(pipeline, given, store=store, run_id="r", environment={})
        forked = store.fork_run(store.get_run("r"), run_id="f")
        assert forked.plan().status == "succeeded"
        counts.append(len([p for p in files(tmp_path / str(size) / "runs/f") if os.path.isfile(p)]))
    assert counts == [2, 2], "the run and one pack, with logs in it"


def race(queue, root, folder, gate) -> None:
    gate.wait()
    try:
        result = retry("r", RACE, store=runstore.open_store(root, durable=False), workers=3)
        queue.put((result.status, sorted(result.ran)))
    except (RunNotFailedError, InputError) as error:
        queue.put((type(error).__name__, []))


RACE = sequence(
    Map(name="m", over="items", as_="x", body=sequence(task(t.counts, returns="ys"))),
    task(t.one, name="last"),
)


def test_two_retries_at_once_share_the_work(tmp_path):
    context = multiprocessing.get_context("fork")
    folder = tmp_path / "ran"
    folder.mkdir()
    store = runstore.open_store(tmp_path / "store", durable=False)
    items = list(range(12))
    store.create_run(RACE, {"items": items, "folder": str(folder)}, run_id="r")
    gate, queue = context.Barrier(3), context.SimpleQueue()
    children = [
        context.Process(target=race, args=(queue, store.url, str(folder), gate)) for _ in range(3)
    ]
    for child in children:
        child.start()
    said = [queue.get() for _ in children]
    for child in children:
        child.join()
        assert child.exitcode == 0
    ran = [path for _, paths in said for path in paths]
    assert len(ran) == len(set(ran)), "nothing was done twice"
    assert len(list(folder.iterdir())) == len(items)
    assert {status for status, _ in said} <= {"succeeded", "waiting", "RunNotFailedError"}
    run = store.get_run("r")
    history = run.history()
    assert not list(history.open())
    assert all(len(history.attempts[path]) == 1 for path in history.paths())
    if run.plan().status != "succeeded":  # each of them waited for the others
        assert retry("r", RACE, store=store).status == "succeeded"


def test_five_of_many_that_are_in_progress_are_told_of_one_by_one():
    store = runstore.open_store("memory://many-in-progress")
    pipeline = Dag([task(lambda: None, name=f"t{n}") for n in range(8)])
    run = store.create_run(pipeline, run_id="r")
    for n in range(8):
        run.begin(f"t{n}")
    result = retry("r", pipeline, store=store)
    assert result.status == "waiting"
    assert sum("is in progress: " in told for told in result.warnings) == 5
    assert result.warnings[5:] == ("3 attempts more are in progress: `runstore plan` says which",)
