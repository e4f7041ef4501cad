"""Artifacts: saved once, checked when loaded, never served from an attempt that failed."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import runstore
from runstore import Attempt, Dag, Map, Task, retry, sequence, start, task
from runstore.errors import BlobDamagedError, BlobMissingError, InputError, StorageError
from tests.verified import verified

DAG = sequence(Task(name="a"), Task(name="b"))


@pytest.fixture
def store(tmp_path):
    return runstore.open_store(tmp_path / "store", durable=False)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    for name, text in {
        "one.csv": "1",
        "two.csv": "2",
        "same.csv": "1",
        "deep/er/three.csv": "3",
        ".hidden": "h",
        "odd [name] ü.txt": "odd",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def blobs(root: Path) -> list[str]:
    found = [path for path in root.rglob("*") if "blobs" in path.parts and path.is_file()]
    for path in found:
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()
    return [path.name for path in found]


def test_globs_there_and_back(store, files, tmp_path):
    run = store.create_run(DAG, run_id="r")
    with run.begin("a") as attempt:
        assert attempt.save("*.csv", base=files) == ["one.csv", "same.csv", "two.csv"]
        assert attempt.save("**/*.csv", base=files)[0] == "deep/er/three.csv"
        assert attempt.save(".hidden", base=files) == [".hidden"]
        assert attempt.save("odd [name] ü.txt", base=files) == ["odd [name] ü.txt"]
        assert attempt.save("odd [[]name] ü.txt", base=files) == ["odd [name] ü.txt"]
        with pytest.raises(InputError, match="no such file"):
            attempt.save("*.parquet", base=files)
    assert len(blobs(tmp_path / "store")) == 5, "equal files are kept once"
    attempt = run.begin("b")
    to = tmp_path / "to"
    names = ["deep/er/three.csv", "one.csv", "same.csv", "two.csv"]
    assert attempt.load("*.csv", to=to) == [to / name for name in names]
    assert attempt.load("odd [name] ü.txt", to=to) == [to / "odd [name] ü.txt"]
    for name in ("one.csv", "deep/er/three.csv", "odd [name] ü.txt"):
        assert (to / name).read_bytes() == (files / name).read_bytes()
    with pytest.raises(BlobMissingError, match=r"'\*\.parquet'.*in sight: \.hidden"):
        attempt.load("*.parquet")
    end = attempt.succeed()
    assert set(end.consumed.artifacts) == {
        "deep/er/three.csv", "one.csv", "same.csv", "two.csv", "odd [name] ü.txt",
    }  # fmt: skip
    assert end.consumed.artifacts["one.csv"].source == "a"
    assert run.plan().status == "succeeded"
    assert sorted(path.name for path in to.rglob("*") if path.is_file()) == [
        "odd [name] ü.txt", "one.csv", "same.csv", "three.csv", "two.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "..", ".", "", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(store, tmp_path, name):
    (tmp_path / "out").write_text("x")
    run = store.create_run(DAG, run_id="r")
    attempt = run.begin("a")
    with pytest.raises(InputError):
        attempt.save_bytes(name, b"x")
    if "\0" not in name:
        (tmp_path / "base/a").mkdir(parents=True)
        with pytest.raises(InputError):
            attempt.save(name, base=tmp_path / "base")
    assert not attempt.succeed().artifacts
    assert blobs(tmp_path / "store") == []


def test_a_name_that_is_no_text_is_refused(store, tmp_path):
    path = os.fsencode(tmp_path / "base") + b"/\xff.csv"
    (tmp_path / "base").mkdir()
    with open(path, "wb") as file:
        file.write(b"x")
    attempt = store.create_run(DAG, run_id="r").begin("a")
    with pytest.raises(InputError, match="UTF-8"):
        attempt.save("*.csv", base=tmp_path / "base")
    assert attempt.fail("so").outcome == "failed"


def test_what_a_failed_attempt_saved_is_kept_and_never_served(store, tmp_path):
    run = store.create_run(DAG, run_id="r")
    with pytest.raises(RuntimeError), run.begin("a") as attempt:  # noqa: PT012 - the block is it
        attempt.save_bytes("model.bin", b"half")
        raise RuntimeError("after half of it")
    (end,) = run.history().ends("a")
    assert run.blobs.read(end.artifacts["model.bin"]) == b"half"
    run.begin_invocation("retry")
    attempt = run.begin("a")
    attempt.save_bytes("other.bin", b"whole")
    attempt.succeed()
    with pytest.raises(BlobMissingError, match="in sight: other"):
        run.begin("b").load("model.bin", to=tmp_path)


def test_a_damaged_or_missing_blob_is_named_and_no_file_is_left(store, tmp_path):
    run = store.create_run(DAG, run_id="r")
    with run.begin("a") as attempt:
        attempt.save_bytes("x.bin", b"x" * 3_000_000)
    (name,) = blobs(tmp_path / "store")
    (path,) = (tmp_path / "store").rglob(name)
    path.write_bytes(b"y" * 3_000_000)
    attempt = run.begin("b")
    with pytest.raises(BlobDamagedError, match=name):
        attempt.load("x.bin", to=tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
    path.unlink()
    with pytest.raises(BlobMissingError, match=name):
        attempt.load("x.bin", to=tmp_path / "to")
    assert not attempt.succeed().consumed.artifacts


def test_a_file_that_changes_while_it_is_saved_is_refused(store, tmp_path, monkeypatch):
    run = store.create_run(DAG, run_id="r")
    attempt = run.begin("a")
    path = tmp_path / "growing.log"
    path.write_bytes(b"x" * 100)
    create = run.storage.create

    def late(key, data, **options):
        if "blobs" in key:
            path.write_bytes(b"y" * 100)
        create(key, data, **options)

    monkeypatch.setattr(run.storage, "create", late)
    with pytest.raises(StorageError, match="changed while"):
        attempt.save("growing.log", base=tmp_path)
    assert [each for each in blobs(tmp_path / "store")] == []  # noqa: C416 - reads the names
    assert not attempt.succeed().artifacts


def test_threads_load_the_same_name_into_one_folder(store, tmp_path):
    run = store.create_run(DAG, run_id="r")
    with run.begin("a") as attempt:
        attempt.save_bytes("x.bin", b"x" * 2_000_000)
    attempt = run.begin("b")
    with ThreadPoolExecutor(8) as pool:
        for names in pool.map(lambda _: attempt.load("x.bin", to=tmp_path / "to"), range(64)):
            assert names == [tmp_path / "to/x.bin"]
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["x.bin"]
    assert (tmp_path / "to/x.bin").stat().st_size == 2_000_000


def write(attempt: Attempt, item):
    attempt.save_bytes("out.txt", str(item).encode())
    return str(item)


ITEMS = ["eu", "a/b", "../up", 'q"uote', {"k": 1}, 1, "1"]


def read(attempt: Attempt, tmp):
    every = attempt.load("scan[*]/out.txt", to=tmp)
    (one,) = attempt.load('scan["eu"]/out.txt', to=tmp)
    (two,) = attempt.load("scan[1]/out.txt", to=tmp)
    return [sorted(path.read_text() for path in every), one.read_text(), two.read_text()]


def test_what_a_map_saved_is_addressed_by_item(tmp_path):
    pipeline = Dag(
        [
            Map(name="scan", over="items", as_="item", body=sequence(task(write, returns="n"))),
            task(read, returns="found", after="scan"),
        ]
    )
    tmp = tmp_path / "tmp"
    options = {"store": tmp_path / "store", "run_id": "r", "environment": {}}
    result = start(pipeline, {"items": ITEMS, "tmp": str(tmp)}, **options)
    assert result.status == "succeeded", result.plan.to_json()
    assert result.values()["found"] == [sorted(map(str, ITEMS)), "eu", "1"]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and tmp in path.parents]
    assert len(files) == len(ITEMS)
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "store"}


def remember(attempt: Attempt, path):
    attempt.save_bytes("data", Path(path).read_bytes())


def use(attempt: Attempt):
    (path,) = attempt.load("data")
    assert str(path).startswith(str(attempt.folder))
    return path.read_text()


def test_another_content_makes_who_loaded_it_stale(tmp_path):
    pipeline = sequence(task(remember), task(use, returns="text"))
    source = tmp_path / "source"
    source.write_text("one")
    given = {"path": str(source)}
    start(pipeline, given, store=tmp_path / "s", run_id="r", environment={})
    result = retry("r", pipeline, store=tmp_path / "s", force=["remember"])
    assert result.ran == ("remember",), "the same content again"
    source.write_text("two")
    result = retry("r", pipeline, store=tmp_path / "s", force=["remember"])
    assert (result.ran, result.values()["text"]) == (("remember", "use"), "two")


def test_not_durable_keeps_the_same_records(tmp_path):
    for durable in (True, False):
        run = runstore.open_store(tmp_path / str(durable), durable=durable).create_run(
            DAG, run_id="r"
        )
        assert run.storage.durable is durable
        with run.begin("a") as attempt:
            attempt.save_bytes("x", b"1")
        assert [key for key, problem in verified(run) if problem] == []
    names = [sorted(str(p.relative_to(tmp_path / d)) for p in (tmp_path / d).rglob("*"))
             for d in ("True", "False")]  # fmt: skip
    assert len(names[0]) == len(names[1])
