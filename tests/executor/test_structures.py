"""Retries with a changed structure, with secrets, and the order in which steps are run."""

from __future__ import annotations

import threading

import pytest

import runstore
from runstore import Dag, Map, fork, retry, sequence, start, task
from runstore.errors import FormatVersionError, ParameterError, StorageError
from runstore.executor.checks import may_run
from runstore.pipeline import Pipeline
from runstore.records.framing import frame
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store
from runstore.store.writer import PackBuffer
from tests.executor import tasks as t


def begin(pipeline, parameters=None, **options):
    options.setdefault("store", "memory://structures")
    return start(pipeline, parameters, environment={}, **options)


def test_a_store_of_a_newer_format_is_not_written_to(tmp_path):
    pipeline = sequence(task(t.leaves, name="a"))
    assert begin(pipeline, run_id="r", store=tmp_path).status == "failed"
    marker = tmp_path / "runstore.json"
    newer = marker.read_bytes()[86:-1].replace(b"runstore/1", b"runstore/2")
    marker.write_bytes(frame(newer)[0])
    before = sorted(tmp_path.rglob("*"))
    for work in (retry, fork):
        with pytest.raises(FormatVersionError, match=r"runstore\.json.*upgrade"):
            work("r", pipeline, store=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def outcomes(result):
    history = result.run.history()
    return {p: [end.outcome for end in history.ends(p)] for p in sorted(history.paths())}


def test_a_structure_that_was_allowed_before_is_recorded_again(tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    one = sequence(task(t.one, returns="x"), task(t.fails_while, name="b"))
    two = sequence(task(t.one, returns="x"), task(t.fails_while, name="b", returns="up"))
    options = {"store": tmp_path / "s", "workers": 1}
    assert begin(one, {"flag": str(flag)}, run_id="r", **options).status == "failed"
    assert retry("r", two, keep_unchanged=True, **options).status == "failed"
    flag.unlink()

    class Stopping(runstore.executor.Silent):
        begun = 0

        def began(self, step):
            self.begun += 1
            assert self.begun < 5, "it runs for ever"

    result = retry("r", two, reporter=Stopping(), **options)
    assert result.status == "succeeded"
    assert outcomes(result)["b"] == ["failed", "failed", "succeeded"]
    with pytest.raises(runstore.errors.RunNotFailedError):
        retry("r", two, **options)


def secret_chain(last) -> Pipeline:
    nodes = sequence(task(t.one, returns="o"), task(t.length, returns="n"), task(last, name="last"))
    return Pipeline(nodes, {}, ("key",))


def test_a_forced_retry_asks_for_the_secrets_of_all_that_may_run():
    pipeline = secret_chain(t.one)
    begin(pipeline, {}, secrets={"key": "abcdef"}, run_id="s")
    run = runstore.open_store("memory://structures").get_run("s")
    for force in ("length", "one", "one+"):
        with pytest.raises(ParameterError, match="length reads the secret 'key'"):
            retry("s", pipeline, store="memory://structures", force=[force])
    assert len(run.history().invocations) == 1, "nothing was written"
    assert retry("s", pipeline, store="memory://structures", force=["last"]).ran == ("last",)
    secrets = {"key": "abcdef"}
    again = retry("s", pipeline, store="memory://structures", force=["one"], secrets=secrets)
    assert again.status == "succeeded"


def test_what_may_run_is_what_runs_and_all_that_follows():
    body = sequence(task(t.one, name="p", returns="q"), task(t.fails_while, name="f", returns="g"))
    dag = Dag(
        [
            task(t.one, name="before"),
            task(t.one, name="aside"),
            Map(name="m", over="items", as_="i", after=("before",), body=body),
            task(t.one, name="after", after="m"),
        ]
    )
    result = begin(dag, {"items": [1, 2], "flag": "/"}, run_id="may")
    history = result.run.history()
    run = Run(result.run.storage, result.run.record)
    assert may_run(run.plan(history=history), dag) == {"m/f", "after"}
    assert may_run(run.plan(history=result.run.history(["before"])), dag) >= {"m/f", "after"}


def test_secret_values_are_masked_in_logs_and_errors(tmp_path):
    pipeline = Pipeline(sequence(task(t.tells, name="tells")), {}, ("token",))
    for number, more in enumerate(({}, {"processes": True, "workers": 1})):
        store = tmp_path / str(number)
        result = begin(pipeline, secrets={"token": "hunter2é"}, store=store, **more)
        log = result.run.logs("tells").decode()
        assert log == f"the token is ***\n{'x' * (1 << 20)}***{'y' * 100}\n"
        error = result.run.read_end("tells", 1).error
        assert "cannot log in with" in error["message"]
        for path in store.rglob("*"):
            assert not path.is_file() or "hunter2é".encode() not in path.read_bytes()


class Unpackable(MemoryStorage):
    """It fails for packs, and for nothing else."""

    def create(self, key, data, **more):
        if "/packs/" in key:
            raise StorageError("no room for packs")
        super().create(key, data, **more)


def test_a_pack_that_cannot_be_written_ends_nothing(monkeypatch):
    monkeypatch.setattr(PackBuffer, "full", property(lambda pack: len(pack.records) > 3))
    pipeline = sequence(*(task(t.one, name=name, returns=name) for name in "abcde"))
    result = begin(pipeline, store=Store(Unpackable("unpackable")), run_id="r")
    assert result.status == "succeeded"
    assert "not packed" in result.warnings[0]


def test_what_becomes_ready_does_not_wait_for_all_that_is_queued():
    """Of a long queue and a step that was freed just now, the step comes first."""
    order: list[str] = []
    lock = threading.Lock()

    def note(name):
        with lock:
            order.append(name)
        threading.Event().wait(0.003)

    def quick():
        note("quick")
        return 1

    def critical(c):
        note("critical")

    def item(i):
        note(f"item {i}")

    dag = Dag(
        [
            task(quick, returns="c"),
            Map(name="m", over="items", as_="i", body=sequence(task(item))),
            task(critical, after="quick"),
        ]
    )
    result = begin(dag, {"items": list(range(300))}, run_id="queue", workers=2)
    assert result.status == "succeeded"
    assert order.index("critical") < 150
