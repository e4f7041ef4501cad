"""A run that comes to a disk is durable when that is said: at once if new, else one by one."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from pathlib import Path

import pytest

import runstore
from runstore.errors import KeyExistsError, RunNotFoundError, StorageError
from runstore.records import keys
from runstore.storage import fsync as flushing
from runstore.storage.capabilities import Batching
from runstore.storage.local import LocalStorage
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from tests.planning.generate import make
from tests.transfer.lives import RUN_ID, files, invoke, live, memory, objects, of_run


class Kernel:
    """What a process asked to be made durable, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        fsync, syncfs = os.fsync, flushing._syncfs

        def one(fd: int) -> None:
            self.asked.append(os.readlink(f"/proc/self/fd/{fd}"))
            fsync(fd)

        def everything(fd: int) -> None:
            self.asked.append("everything")
            syncfs(fd)

        # Whatever disk this test runs on: which one it is has tests of its own.
        patch.setattr(flushing, "_is_synced_whole", lambda device: True)
        patch.setattr(os, "fsync", one)
        patch.setattr(flushing, "_syncfs", everything)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture(scope="module")
def run() -> Run:
    return live(memory(), make(4, 12), 3)


def test_a_new_run_is_made_durable_at_once_and_before_its_own_record(run, kernel, tmp_path):
    target = runstore.open_store(str(tmp_path))
    transfer_run(Store(run.storage), RUN_ID, target)
    assert kernel.asked.count("everything") == 1
    after = kernel.asked[kernel.asked.index("everything") + 1 :]
    before = kernel.asked[: kernel.asked.index("everything")]
    assert not [name for name in before if "/attempts" in name or "/invocations" in name]
    # What comes after is `run.json` and the folder it stands in, and nothing else.
    home = f"{tmp_path}/{keys.run_folder(RUN_ID)}".rstrip("/")
    assert after[-1] == home or home.startswith(after[-1])
    assert {os.path.dirname(name) for name in after if ".tmp-" in name} == {home}
    assert {k: d for k, d in files(tmp_path).items() if k.startswith("runs/")} == of_run(
        objects(Store(run.storage))
    )


def test_an_import_is_durable_at_once(run, kernel, tmp_path):
    export_run(run, tmp_path / "r.json", artifacts="all")
    kernel.asked.clear()
    import_run(runstore.open_store(str(tmp_path / "store")), tmp_path / "r.json")
    assert kernel.asked.count("everything") == 1


def test_into_a_run_that_is_there_each_record_is_durable_before_the_next_phase(kernel, tmp_path):
    source = live(memory(), make(4, 12), 3)
    target = runstore.open_store(str(tmp_path))
    transfer_run(Store(source.storage), RUN_ID, target)
    for seed in range(6):
        invoke(source, random.Random(seed), "retry")
    kernel.asked.clear()
    done = transfer_run(Store(source.storage), RUN_ID, target)
    assert "everything" not in kernel.asked
    written = [name for name in kernel.asked if ".tmp-" in name]
    assert len(written) == done.records + done.packs + done.blobs > 3


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_what_a_power_cut_left_torn_is_made_good(run, tmp_path, left):
    """Until the run itself is there, its records may be short, under their names."""
    source = Store(run.storage)
    whole = of_run(objects(source))
    first = runstore.open_store(str(tmp_path))
    transfer_run(source, RUN_ID, first)
    os.unlink(tmp_path / keys.run_key(RUN_ID))
    for n, key in enumerate(sorted(whole)):
        path = tmp_path / key
        if path.exists() and "/blobs/" not in key and n % 2:
            path.write_bytes(b"" if left == "nothing" else whole[key][: len(whole[key]) // 2])
    with pytest.raises(RunNotFoundError):
        first.get_run(RUN_ID)
    again = runstore.open_store(str(tmp_path))
    transfer_run(source, RUN_ID, again)
    assert {k: d for k, d in files(tmp_path).items() if k.startswith("runs/")} == whole


def test_in_a_batch_a_create_is_exclusive_and_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert isinstance(storage, Batching)
    storage.create("runs/a", b"1")
    with storage.batch() as batch:
        batch.create("runs/b", b"2")
        assert storage.read("runs/b") == b"2"
        with pytest.raises(KeyExistsError):
            batch.create("runs/a", b"2")
        with pytest.raises(KeyExistsError):
            storage.create("runs/b", b"3")
    assert files(tmp_path) == {"runs/a": b"1", "runs/b": b"2"}


def test_a_disk_that_fails_at_the_end_is_told(tmp_path, monkeypatch):
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(flushing, "_is_synced_whole", lambda device: True)
    monkeypatch.setattr(flushing, "_syncfs", fails)
    source = live(memory(), make(4, 12), 3)
    target = runstore.open_store(str(tmp_path))
    with pytest.raises(StorageError, match="make durable"):
        transfer_run(Store(source.storage), RUN_ID, target)
    with pytest.raises(RunNotFoundError):
        target.get_run(RUN_ID)
    monkeypatch.undo()
    transfer_run(Store(source.storage), RUN_ID, target)
    assert (
        target.get_run(RUN_ID).plan().to_json()
        == Store(source.storage).get_run(RUN_ID).plan().to_json()
    )


def test_where_one_sync_may_not_do_each_file_is_synced(run, kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(flushing, "_is_synced_whole", lambda device: False)
    target = runstore.open_store(str(tmp_path))
    transfer_run(Store(run.storage), RUN_ID, target)
    assert "everything" not in kernel.asked
    asked = set(kernel.asked)
    for key in of_run(objects(Store(run.storage))):
        if not key.endswith("/run.json") and "/blobs/" not in key:
            assert f"{tmp_path}/{key}" in asked
            assert os.path.dirname(f"{tmp_path}/{key}") in asked


def test_another_device_inside_the_store_is_synced_file_by_file(run, kernel, tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        store = tmp_path / "store"
        store.mkdir()
        (store / "runs").symlink_to(elsewhere)
        transfer_run(Store(run.storage), RUN_ID, runstore.open_store(str(store)))
        assert "everything" not in kernel.asked
        assert sum("/attempts/" in name for name in kernel.asked) > 3


@pytest.mark.parametrize(
    ("release", "tells"),
    [("5.8.0", True), ("6.1.0-13-amd64", True), ("5.7.19", False), ("x", False)],
)
def test_old_kernels_do_not_tell_of_errors(release, tells):
    assert flushing._tells_errors(release) is tells


def test_a_file_system_in_memory_is_no_disk():
    assert not flushing._is_synced_whole(os.stat("/dev/shm").st_dev)
