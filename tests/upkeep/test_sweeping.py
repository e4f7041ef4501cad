"""Sweeping: litter goes, and nothing that anybody may still name."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings

import runstore
from runstore.dag import Dag
from runstore.errors import RefusedError
from runstore.storage.unfinished import TEMP, machine
from runstore.store import Store
from runstore.transfer import export_run, transfer_run
from runstore.upkeep import Sweep, remove_run
from tests.crash.breaking import Death
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.places import NONCE, home
from tests.planning.generate import dags
from tests.transfer.lives import files, live, memory, objects, told
from tests.upkeep.interrupted import Interrupted
from tests.upkeep.test_packing import LINE
from tests.verified import verified

DAG = Dag.from_json(LINE)
ALL = timedelta(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return runstore.open_store(tmp_path / "s", durable=False)


def age(folder: Path, days: float = 2) -> None:
    """Make everything look old."""
    then = time.time() - days * 86400
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, (then, then))


def swept(store: Store, older_than: timedelta = timedelta(days=1)) -> dict[str, str]:
    """What a sweep finds: first dry, then for good; both tell the same."""
    dry = list(Sweep(store.storage, older_than).run())
    assert list(Sweep(store.storage, older_than).run(dry_run=False)) == dry
    assert list(Sweep(store.storage, older_than).run()) == []
    return dict(dry)


@reaches(0.3)
@settings(max_examples=scaled(0.4))
@given(dag=dags(12, 10), seed=SEEDS)
def test_a_run_that_is_whole_loses_nothing(dag: Dag, seed: int) -> None:
    store = memory()
    run = live(store, dag, seed)
    before = told(run)
    reached(times=len(before["attempts"]) > 1)
    list(Sweep(store.storage, ALL).run(dry_run=False))
    assert told(run) == before
    assert all(problem is None for _, problem in verified(run))


def test_a_dry_run_removes_nothing(store: Store, tmp_path: Path) -> None:
    litter(store, tmp_path)
    before = files(tmp_path)
    assert len(list(Sweep(store.storage, ALL).run())) == 3
    assert files(tmp_path) == before


def gone(tmp_path: Path) -> Path:
    return tmp_path / f"s/runs/gone/{NONCE}"


def litter(store: Store, tmp_path: Path) -> None:
    """An unfinished write, an unnamed blob, and the rest of a run."""
    run = store.create_run(DAG, run_id="r")
    run.blobs.put(b"nobody names this")
    with run.begin("a") as attempt:
        attempt.save_bytes("kept.txt", b"somebody names this")
        attempt.outputs["va"] = "x" * 20_000
    (home(tmp_path / "s") / f"attempts/{TEMP}{machine()}-abc").write_bytes(b"half")
    (gone(tmp_path) / "blobs/sha256/ab").mkdir(parents=True)
    (gone(tmp_path) / f"blobs/sha256/ab/{'ab' * 32}").write_bytes(b"")


def test_what_is_young_stays(store: Store, tmp_path: Path) -> None:
    litter(store, tmp_path)
    assert swept(store) == {}
    age(tmp_path, 0.9)
    assert swept(store) == {}
    age(tmp_path)
    found = swept(store)
    assert sorted(what for what in found.values()) == [
        "a blob that no record names",
        "an unfinished write",
        "of a run that is not there",
    ]
    assert not (tmp_path / "s/runs/gone").exists()
    run = store.get_run("r")
    assert all(problem is None for _, problem in verified(run))
    assert run.values() == {"va": "x" * 20_000}


def test_the_rest_of_a_run_goes_only_if_all_of_it_is_old(store: Store, tmp_path: Path) -> None:
    litter(store, tmp_path)
    age(tmp_path)
    young = gone(tmp_path) / "blobs/sha256/cd"
    young.mkdir()
    (young / ("cd" * 32)).write_bytes(b"of an import that is under way")
    assert "of a run that is not there" not in swept(store).values()
    assert len(files(tmp_path / "s/runs/gone")) == 2


def test_blobs_of_a_run_at_work_stay_however_old(store: Store, tmp_path: Path) -> None:
    litter(store, tmp_path)
    run = store.get_run("r")
    attempt = run.begin("b")  # saved days ago, and not ended yet
    attempt.save_bytes("x", b"at the start of a long step")
    age(tmp_path)
    sweep = Sweep(store.storage)
    assert "a blob that no record names" not in dict(sweep.run(dry_run=False)).values()
    assert "in progress is attempt 1 at b" in sweep.spared[run.prefix]
    attempt.succeed({"vb": 1})
    # Whoever ended it is likely to begin the next one.
    age(tmp_path)
    invocation = next((home(tmp_path / "s") / "invocations").iterdir())
    os.utime(invocation)
    sweep = Sweep(store.storage)
    assert list(sweep.run()) == []
    assert "not long ago" in sweep.spared[run.prefix]
    age(tmp_path)
    assert list(swept(store).values()) == ["a blob that no record names"]
    assert all(problem is None for _, problem in verified(run))


def test_an_old_blob_that_is_saved_again_is_young(store: Store, tmp_path: Path) -> None:
    litter(store, tmp_path)
    age(tmp_path)
    store.get_run("r").blobs.put(b"nobody names this")
    assert "a blob that no record names" not in swept(store).values()


def test_what_a_damaged_record_names_is_not_known(store: Store, tmp_path: Path) -> None:
    litter(store, tmp_path)
    age(tmp_path)
    run = store.get_run("r")
    record = home(tmp_path / "s") / "attempts/a.000001.end.json"
    record.write_bytes(record.read_bytes()[:-1])
    sweep = Sweep(store.storage, ALL)
    assert "a blob that no record names" not in dict(sweep.run(dry_run=False)).values()
    assert "is not known" in sweep.spared[run.prefix]
    assert len(list((home(tmp_path / "s") / "blobs").rglob("*/*/*"))) == 3


def test_an_interrupted_removal_and_an_interrupted_import(tmp_path: Path) -> None:
    store, target = memory(), memory()
    live(store, DAG, 3, "r")
    with pytest.raises(Death):
        transfer_run(store, "r", Store(Interrupted(target.storage, 12)), workers=1)
    with pytest.raises(Death):
        remove_run(Interrupted(store.storage, 5), "r", force=True)
    for left in (store, target):
        assert len(objects(left)) > 1
        # Memory cannot tell an age: only all of it, or nothing.
        assert list(Sweep(left.storage).run()) == []
        assert set(swept(left, ALL).values()) == {"of a run that is not there"}
        assert set(objects(left)) == {"runstore.json"}


def test_probes_go(tmp_path: Path) -> None:
    store = memory()
    store.storage.create("probe/abc", b"x")
    store.storage.create("other/abc", b"not ours")
    assert swept(store, ALL) == {"probe/abc": "left by a probe of the endpoint"}


def test_an_exported_file_is_read_only(tmp_path: Path) -> None:
    store = memory()
    live(store, DAG, 3, "r")
    export_run(store.get_run("r"), tmp_path / "x.json")
    with pytest.raises(RefusedError, match="read-only"):
        list(Sweep(runstore.open_store(tmp_path / "x.json").storage).run())
