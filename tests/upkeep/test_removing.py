"""Removing a run: gone at once, and what an interruption leaves is never taken for a run."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import runstore
from runstore.dag import Dag
from runstore.errors import (
    InputError,
    RefusedError,
    RunNotFoundError,
    RunRemovedError,
    StorageError,
)
from runstore.records import keys
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from runstore.transfer import export_run, transfer_run
from runstore.upkeep import Sweep, open_attempts, pack_run, remove_run
from tests.crash.breaking import Death
from tests.transfer.lives import files, live, memory, objects, told
from tests.upkeep.interrupted import Interrupted
from tests.upkeep.test_packing import LINE

DAG = Dag.from_json(LINE)


def test_a_removed_run_is_gone_and_nothing_else(tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path / "s", durable=False)
    live(store, DAG, 3, "a")
    before = files(tmp_path / "s")
    live(store, DAG, 4, "a b")  # its key begins like the other one's
    count = len(files(tmp_path / "s")) - len(before)
    assert remove_run(store.storage, "a b", force=True) == count
    assert files(tmp_path / "s") == before
    assert [folder.name for folder in (tmp_path / "s/runs").iterdir()] == ["a"]
    with pytest.raises(RunNotFoundError, match="runstore ls"):
        remove_run(store.storage, "a b")
    live(store, DAG, 4, "a b")  # the id is free again


@pytest.mark.parametrize("how", ["dies before", "dies after"])
def test_interrupted_anywhere_it_is_the_whole_run_or_none(how: str) -> None:
    at = 0
    while True:
        store = memory()
        live(store, DAG, 3, "r")
        pack_run(store.get_run("r"))
        before, whole = told(store.get_run("r")), objects(store)
        broken = Interrupted(store.storage, at, how)  # type: ignore[arg-type]
        try:
            remove_run(broken, "r", force=True)
        except Death:
            pass
        else:
            break
        if keys.run_key("r") in objects(store):
            assert objects(store) == whole
            assert told(store.get_run("r")) == before
        else:
            with pytest.raises(RunNotFoundError):
                store.get_run("r")
            # What is left of it is nobody's: a new run of this id has nothing to do with it.
            again = store.create_run(DAG, {"v0": 1}, run_id="r")
            assert not again.history().attempts
            remove_run(store.storage, "r")
            for _ in Sweep(store.storage, timedelta(0)).run(dry_run=False):
                pass
            assert set(objects(store)) == {"runstore.json"}
        at += 1
    assert set(objects(store)) == {"runstore.json"}
    assert at > 10


def test_what_is_in_progress_holds_it_up(tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path / "s", durable=False)
    run = store.create_run(DAG, run_id="r")
    run.begin_invocation("start")
    attempt = run.begin("a")
    before = files(tmp_path / "s")
    with pytest.raises(RefusedError, match=r"attempt 1 at a, by process [0-9]+ on .*--force"):
        remove_run(store.storage, "r")
    assert files(tmp_path / "s") == before
    attempt.succeed({"va": 1})
    assert open_attempts(store.storage, run.prefix) == []
    pack_run(run)
    assert open_attempts(store.storage, run.prefix) == []
    remove_run(store.storage, "r")


def test_an_attempt_of_a_dead_process_does_not(tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path / "s", durable=False)
    run = store.create_run(DAG, run_id="r")
    code = f"import runstore; runstore.open_store({str(tmp_path / 's')!r}).get_run('r').begin('a')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(list(run.history().open())) == 1
    remove_run(store.storage, "r")


def test_a_start_that_cannot_be_read_is_somebody(tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path / "s", durable=False)
    run = store.create_run(DAG, run_id="r")
    attempt = run.begin("a")
    (tmp_path / "s" / attempt.key).write_bytes(b"{")
    with pytest.raises(RefusedError, match="cannot be read"):
        remove_run(store.storage, "r")


def test_of_a_run_whose_record_is_damaged_only_that_is_known(tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path / "s", durable=False)
    store.create_run(DAG, run_id="r").begin("a")
    (tmp_path / "s/runs/r/run.json").write_bytes(b"{")
    with pytest.raises(RefusedError, match="damaged"):
        remove_run(store.storage, "r")
    assert remove_run(store.storage, "r", force=True) == 1
    with pytest.raises(RunNotFoundError):
        store.get_run("r")
    assert {litter.what for litter in Sweep(store.storage, timedelta(0)).run(dry_run=False)} == {
        "of a run that is not there"
    }
    assert set(files(tmp_path / "s")) == {"runstore.json"}


def test_remains_of_a_copy_are_finished_by_copying_again() -> None:
    source, target = memory(), memory()
    live(source, DAG, 3, "r")
    storage = target.storage
    assert isinstance(storage, MemoryStorage)
    with pytest.raises(Death):
        transfer_run(source, "r", Store(Interrupted(storage, 16)), workers=1)
    assert any("/attempts/" in key for key in objects(target))
    transfer_run(source, "r", target)
    assert told(target.get_run("r")) == told(source.get_run("r"))


def test_an_exported_file_is_read_only(tmp_path: Path) -> None:
    store = memory()
    live(store, DAG, 3, "r")
    export_run(store.get_run("r"), tmp_path / "x.json")
    with pytest.raises(RefusedError, match="read-only"):
        remove_run(runstore.open_store(tmp_path / "x.json").storage, "r")


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path / "s", durable=False)
    store.create_run(DAG, run_id="r")
    with pytest.raises(StorageError, match="not a key"):
        store.storage.remove(["../x"])  # type: ignore[attr-defined]


def test_who_works_on_a_run_that_is_removed_is_told_at_the_next_write(tmp_path: Path) -> None:
    """And cannot name anything of another run that was made under its id."""
    store = runstore.open_store(tmp_path / "s", durable=False)
    zombie = store.create_run(DAG, run_id="r")
    zombie.begin_invocation("start")
    planned, attempt = zombie.step("a"), store.get_run("r").begin("a")
    token = attempt.token
    remove_run(store.storage, "r", force=True)
    with pytest.raises(RunRemovedError, match="was removed"):
        zombie.begin(planned)
    with pytest.raises(RunRemovedError):
        zombie.begin_invocation("retry")
    again = store.create_run(DAG, run_id="r")
    again.begin("a").succeed({"va": "new"})
    raw = {k: v for k, v in files(tmp_path / "s").items() if again.record.nonce in k}
    with pytest.raises(RunRemovedError):
        attempt.succeed({"va": "old"})
    with pytest.raises(InputError, match="earlier run"):
        store.get_run("r").attempt_of(token)
    assert {k: v for k, v in files(tmp_path / "s").items() if again.record.nonce in k} == raw
    assert store.get_run("r").history().latest("a").outputs == {"va": "new"}  # type: ignore[union-attr]
