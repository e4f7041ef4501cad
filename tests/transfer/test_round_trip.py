"""What is exported and imported, or pushed and pulled, is the very same run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import runstore
from runstore.dag import Dag
from runstore.errors import (
    BlobMissingError,
    ImportRefusedError,
    InputError,
    RecordDamagedError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.planning.generate import dags
from tests.transfer.lives import (
    RUN_ID,
    files,
    invoke,
    is_arrival,
    live,
    memory,
    objects,
    of_run,
    told,
)
from tests.verified import verified


@reaches(0.3)
@settings(max_examples=scaled(0.6))
@given(dag=dags(), seed=SEEDS)
def test_an_import_is_the_run(
    dag: Dag, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("export")
    source, target = memory(), memory()
    run = live(source, dag, seed)
    reached(times=len(objects(source)) > 6)
    exported = export_run(run, folder / "run.json", artifacts="all")
    assert exported.size == (folder / "run.json").stat().st_size
    assert not exported.left_out
    arrived = import_run(target, folder / "run.json")
    assert (
        told(arrived) == told(run) == told(runstore.open_store(folder / "run.json").get_run(RUN_ID))
    )
    assert of_run(objects(target), packs=False) == of_run(objects(source), packs=False)
    # The same records are the same bytes, wherever they stand and however they are packed.
    assert all(problem is None for _, problem in verified(arrived))
    export_run(arrived, folder / "again.json", artifacts="all")
    one, two = (
        [
            str(item)
            for item in json.loads((folder / name).read_bytes())["objects"]
            if not is_arrival(str(item.get("data")).encode())
        ]
        for name in ("again.json", "run.json")
    )
    assert sorted(one) == sorted(two)


@reaches(0.3)
@settings(max_examples=scaled(0.6))
@given(dag=dags(), seed=SEEDS)
def test_a_push_is_the_run_and_a_pull_brings_back_what_was_done(dag: Dag, seed: int) -> None:
    laptop, bucket = memory(), memory()
    run = live(bucket, dag, seed)
    reached(times=len(objects(bucket)) > 6)
    done = transfer_run(bucket, RUN_ID, laptop)
    assert of_run(objects(laptop)) == of_run(objects(bucket))
    assert done.records + done.packs + done.blobs == len(of_run(objects(bucket)))
    mine = laptop.get_run(RUN_ID)
    assert told(mine) == told(run)

    invoke(mine, random.Random(seed), "retry")
    made = of_run(objects(laptop)).keys() - of_run(objects(bucket)).keys()
    back = transfer_run(laptop, RUN_ID, bucket)
    assert of_run(objects(laptop)) == of_run(objects(bucket))
    assert back.records + back.packs + back.blobs == len(made)
    assert told(mine) == told(run)
    again = transfer_run(laptop, RUN_ID, bucket)
    assert again.records + again.packs + again.blobs == 0


@reaches(0.3)
@settings(max_examples=scaled(0.25))
@given(dag=dags(), seed=SEEDS)
def test_a_fork_takes_its_pack_along(
    dag: Dag, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fork") / "f.json"
    source, target = memory(), memory()
    fork = source.fork_run(live(source, dag, seed), run_id="fork")
    invoke(fork, random.Random(seed), "fork")
    export_run(fork, path, artifacts="all")
    arrived = import_run(target, path)
    assert told(arrived) == told(fork) == told(runstore.open_store(path).get_run("fork"))
    pack = (fork.record.origin or {}).get("pack")
    if pack:
        reached()
        assert objects(target)[f"{fork.prefix}packs/{pack}.json"]
    again = target.fork_run(arrived, run_id="fork of the fork")
    export_run(again, path)
    assert import_run(memory(), path).run_id == "fork of the fork"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """One file that a later step will load, one that none will, a log, a large value."""
    dag = Dag.from_json(
        {
            "nodes": [
                {"name": "a", "kind": "task", "returns": ["v"]},
                {"name": "b", "kind": "task", "after": ["a"], "params": ["v"]},
                {"name": "other", "kind": "task"},
            ]
        }
    )
    run = runstore.open_store(tmp_path / "store", durable=False).create_run(dag, run_id="r")
    run.begin_invocation("start")
    with run.begin("a") as attempt:
        attempt.save_bytes("needed.bin", b"n" * 3_000_000)
        attempt.log = run.blobs.put(b"said")
        attempt.outputs["v"] = "large" * 10_000
    with run.begin("other") as attempt:
        attempt.save_bytes("unneeded", b"u")
    return run


def test_which_files_go_along(run: Run, tmp_path: Path) -> None:
    sizes = {}
    for which, blobs in {"none": 1, "needed": 2, "all": 4}.items():
        exported = export_run(run, tmp_path / f"{which}.json", artifacts=which)  # type: ignore[arg-type]
        assert exported.blobs == blobs
        sizes[which] = exported.size
        arrived = import_run(memory(), tmp_path / f"{which}.json")
        steps = arrived.plan()
        assert steps["a"].action == ("RUN" if which == "none" else "SKIP")
        assert steps["other"].action == "SKIP"
    assert sizes["none"] < 100_000 < 4_000_000 < sizes["needed"] < sizes["all"]
    arrived = import_run(memory(), tmp_path / "needed.json")
    with arrived.begin("b") as attempt:
        assert attempt.load("needed.bin", to=tmp_path) == [tmp_path / "needed.bin"]
    with pytest.raises(InputError, match="none, needed or all"):
        export_run(run, tmp_path / "x.json", artifacts="some")  # type: ignore[arg-type]


def test_blobs_that_are_gone_or_damaged_are_left_out_and_told(run: Run, tmp_path: Path) -> None:
    end = run.read_end("a", 1)
    assert end is not None
    lost, broken = end.log, end.artifacts["needed.bin"]
    assert lost is not None
    (tmp_path / "store" / run.blobs.key(lost.sha256)).unlink()
    (tmp_path / "store" / run.blobs.key(broken.sha256)).write_bytes(b"other bytes")
    exported = export_run(run, tmp_path / "r.json", artifacts="all")
    assert set(exported.left_out) == {lost.sha256, broken.sha256}
    arrived = import_run(memory(), tmp_path / "r.json")
    with pytest.raises(BlobMissingError):
        arrived.blobs.read(broken)
    pushed = transfer_run(Store(run.storage), "r", target := memory())
    assert pushed.left_out == [broken.sha256]
    assert target.get_run("r").plan()["a"].action == "RUN"


def test_a_damaged_record_stops_the_export_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    key = f"{run.prefix}attempts/other.000001.end.json"
    record = tmp_path / "store" / key
    record.write_bytes(record.read_bytes()[:-3])
    (tmp_path / "here").mkdir()
    with pytest.raises(RecordDamagedError, match=r"other\.000001\.end"):
        export_run(run, tmp_path / "here" / "r.json")
    assert files(tmp_path / "here") == {}
    with pytest.raises(RecordDamagedError, match=r"other\.000001\.end"):
        transfer_run(Store(run.storage), "r", target := memory())
    assert "runs/r/run.json" not in objects(target)


@pytest.mark.parametrize("how", [{"indent": 2}, {"sort_keys": True}, {"separators": (",", ":")}])
def test_a_file_that_was_reformatted_is_refused(run: Run, tmp_path: Path, how: Any) -> None:
    """It is read in lines, in bounded memory: what is not in lines has to be exported again."""
    export_run(run, tmp_path / "r.json", artifacts="all")
    path = tmp_path / "again.json"
    path.write_text(json.dumps(json.loads((tmp_path / "r.json").read_bytes()), **how))
    for opened in (lambda: import_run(memory(), path), lambda: runstore.open_store(path)):
        with pytest.raises(ImportRefusedError, match=r"reformatted.*export the run again"):
            opened()


def test_a_field_of_a_later_minor_version_is_ignored(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "r.json")
    data = (tmp_path / "r.json").read_bytes().replace(b'{"key":', b'{"since":"1.1","key":')
    (tmp_path / "r.json").write_bytes(data.replace(b'"count"', b'"new":[],"count"'))
    assert import_run(memory(), tmp_path / "r.json").run_id == "r"


def test_the_file_is_a_store_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "r.json", artifacts="all")
    store = runstore.open_store(tmp_path / "r.json")
    assert list(store.run_ids()) == ["r"]
    with pytest.raises(StorageError, match="read-only: `runstore import`"):
        store.get_run("r").begin("b")
    with pytest.raises(StorageError, match="read-only"):
        import_run(store, _other(tmp_path))
    with pytest.raises(RunNotFoundError):
        store.get_run("another")


def _other(tmp_path: Path) -> Path:
    other = memory().create_run(Dag([]), run_id="other")
    export_run(other, tmp_path / "other.json")
    return tmp_path / "other.json"


def test_an_import_into_a_store_that_has_the_run(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "old.json")
    target = memory()
    import_run(target, tmp_path / "old.json")
    run.begin("b").fail("as planned")
    export_run(run, tmp_path / "new.json")
    assert told(import_run(target, tmp_path / "new.json"))["attempts"] == told(run)["attempts"]
    before = objects(target)
    import_run(target, tmp_path / "old.json")
    assert objects(target) == before

    other = memory()
    other.create_run(run.dag, run_id="r")
    before = objects(other)
    with pytest.raises(RunExistsError, match="another run under the id 'r'"):
        import_run(other, tmp_path / "old.json")
    with pytest.raises(RunExistsError, match="another run under the id 'r'"):
        transfer_run(target, "r", other)
    assert objects(other) == before
