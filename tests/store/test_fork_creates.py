"""What a fork costs, and what becomes of the logs that it takes over."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import runstore
from benchmarks.counting import Counting
from runstore.dag import Dag
from runstore.errors import RefusedError
from runstore.records import Consumed
from runstore.storage import open_storage
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from runstore.upkeep import Sweep, remove_run
from tests.cli.conftest import Shell
from tests.places import home
from tests.verified import verified

STEPS = 1_000
MAP = Dag.from_json(
    {
        "nodes": [
            {"name": "list", "kind": "task", "returns": ["items"]},
            {"name": "each", "kind": "map", "after": ["list"], "over": "items", "as": "item",
             "body": {"nodes": [{"name": "work", "kind": "task", "params": ["item"],
                                 "returns": ["y"]}]}},
        ]
    }
)  # fmt: skip


def logged(run: Run, path: str, text: bytes, outputs: dict[str, object]) -> None:
    attempt = run.begin(path, number=1, consumed=Consumed())
    attempt.log = run.blobs.put(text)
    attempt.succeed(outputs)


def made(store: Store, steps: int) -> Run:
    run = store.create_run(MAP, run_id="r")
    run.begin_invocation("start")
    with_list = run.begin("list")
    with_list.log = run.blobs.put(b"made a list")
    with_list.succeed({"items": list(range(steps))})
    for step in run.plan().ready:
        attempt = run.begin(step)
        attempt.log = run.blobs.put(f"log of {step.path}\n".encode())
        attempt.succeed({"y": 1})
    return store.get_run("r")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_fork_of_a_thousand_steps_is_two_objects(tmp_path, where):
    inner = MemoryStorage("forks") if where == "memory" else open_storage(tmp_path, durable=False)
    made(Store(inner), STEPS)
    storage = Counting(inner)
    store = Store(storage)
    fork = store.fork_run(store.get_run("r"), run_id="f")
    assert len(storage.created) == 2
    assert storage.created[0].startswith(f"{fork.prefix}packs/")
    assert storage.created[1] == "runs/f/run.json"
    if where == "disk":
        files = [file for file in (tmp_path / "runs/f").rglob("*") if file.is_file()]
        assert len(files) == 2
    remove_run(inner, "r")
    assert fork.plan().status == "succeeded"
    assert fork.logs("each[17]/work") == b"log of each[17]/work\n"
    assert fork.logs("list") == b"made a list"


def test_a_fork_of_a_fork_an_export_an_import_and_a_pull_keep_the_logs(tmp_path):
    store = runstore.open_store(tmp_path / "s", durable=False)
    made(store, 3)
    first = store.fork_run(store.get_run("r"), run_id="f")
    second = store.fork_run(first, run_id="g")
    remove_run(store.storage, "r")
    remove_run(store.storage, "f")
    export_run(second, tmp_path / "g.json")
    imported = import_run(Store(MemoryStorage("imported")), tmp_path / "g.json")
    there = Store(MemoryStorage("pulled"))
    transfer_run(store, "g", there)
    for run in (
        second,
        imported,
        there.get_run("g"),
        runstore.open_store(tmp_path / "g.json").get_run("g"),
    ):
        assert run.logs("list") == b"made a list"
        assert run.logs("each[2]/work") == b"log of each[2]/work\n"
        checked = list(verified(run))
        assert [problem for _, problem in checked if problem] == []
    for _ in Sweep(store.storage, timedelta(0)).run(dry_run=False):
        pass
    assert sorted(file.parent.name for file in home(tmp_path / "s", "g").rglob("*.json")) == [
        "packs"
    ]
    shell = Shell(tmp_path)
    code, out, err = shell("logs", "g", "each[1]/work", "--store", str(tmp_path / "s"))
    assert (code, out) == (0, "log of each[1]/work\n"), err


def test_a_log_that_is_missing_at_the_origin_is_missing_in_the_fork(tmp_path):
    store = runstore.open_store(tmp_path / "s", durable=False)
    run = made(store, 2)
    end = run.read_end("list", 1)
    (tmp_path / "s" / run.blobs.key(end.log.sha256)).unlink()
    fork = store.fork_run(run, run_id="f")
    assert fork.plan().status == "succeeded"
    assert fork.logs("each[1]/work") == b"log of each[1]/work\n"
    with pytest.raises(runstore.errors.BlobMissingError):
        fork.logs("list")
    assert [problem for _, problem in verified(fork) if problem] == []


def test_a_damaged_value_of_the_origin_is_missing_in_the_fork(tmp_path):
    """A copy would be damaged under the fork's name; no copy is a step that runs again."""
    store = runstore.open_store(tmp_path / "s", durable=False)
    nodes = [
        {"name": "load", "kind": "task", "returns": ["text"]},
        {"name": "use", "kind": "task", "params": ["text"], "after": ["load"]},
    ]
    run = store.create_run(Dag.from_json({"nodes": nodes}), run_id="r")
    run.begin_invocation("start")
    run.begin("load").succeed({"text": "x" * 20_000})
    end = run.read_end("load", 1)
    path = tmp_path / "s" / run.blobs.key(end.outputs["text"].sha256)
    path.write_bytes(path.read_bytes()[:-2] + b'y"')
    fork = store.fork_run(run, run_id="f")
    assert not [file for file in (home(tmp_path / "s", "f") / "blobs").rglob("*") if file.is_file()]
    fork = store.get_run("f")
    fork.begin_invocation("retry")
    (load,) = fork.plan().ready
    assert load.path == "load"
    fork.begin(load).succeed({"text": "x" * 20_000})
    assert fork.values()["text"] == "x" * 20_000
    assert [str(step.path) for step in fork.plan().ready] == ["use"]


def test_logs_beyond_the_bound_and_artifacts_are_blobs(tmp_path):
    """At most 16 MiB of logs stand in the pack, which whoever reads the history reads."""
    store = runstore.open_store(tmp_path / "s", durable=False)
    run = store.create_run(
        Dag.from_json({"nodes": [{"name": n, "kind": "task", "returns": [n]} for n in "abc"]}),
        run_id="r",
    )
    logs = {"a": os.urandom(9 << 20), "b": os.urandom(8 << 20), "c": b"short"}
    for name, text in logs.items():
        logged(run, name, text, {name: "x" * 20_000})
    fork = store.fork_run(run, run_id="f")
    remove_run(store.storage, "r")
    at = home(tmp_path / "s", "f")
    (pack,) = (at / "packs").iterdir()
    assert (8 << 20) < pack.stat().st_size < (24 << 20)  # of b, in base64, and not of a
    blobs = [file for file in (at / "blobs").rglob("*") if file.is_file()]
    assert len(blobs) == 2  # the log of a; the value, of which all have the same
    assert {name: fork.logs(name) for name in logs} == logs
    assert fork.values() == dict.fromkeys("abc", "x" * 20_000)
    assert [problem for _, problem in verified(fork) if problem] == []
    for _ in Sweep(store.storage, timedelta(0)).run(dry_run=False):
        pass
    assert {name: fork.logs(name) for name in logs} == logs


class Together(MemoryStorage):
    """Creates blobs only four at once: who comes alone waits in vain."""

    def __init__(self) -> None:
        super().__init__("together")
        self.others = threading.Barrier(4)
        self.together = False

    def create(self, key, data, *, repair=False):
        if self.together and "/blobs/" in key:
            self.others.wait(60)
        super().create(key, data, repair=repair)


def test_large_values_and_artifacts_are_copied_side_by_side():
    storage = Together()
    run = Store(storage).create_run(MAP, run_id="r")
    run.begin("list").succeed({"items": list(range(4))})
    for step in run.plan().ready:
        attempt = run.begin(step)
        attempt.save_bytes("f", step.path.encode())
        attempt.succeed({"y": step.path * 5_000})
    storage.together = True
    fork = Store(storage).fork_run(run, run_id="f")
    assert len(list(storage.list(f"{fork.prefix}blobs/"))) == 8
    assert fork.plan().status == "succeeded"


def test_nothing_is_written_for_an_id_that_is_taken(tmp_path: Path):
    store = runstore.open_store(tmp_path / "s", durable=False)
    run = made(store, 2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RefusedError):
        store.fork_run(run, run_id="r")
    assert sorted(tmp_path.rglob("*")) == before
