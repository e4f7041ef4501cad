"""What is promised to outlive a power cut is flushed in the right order, and a flush that fails is
told: in creating, removing, making folders, batches and exports."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runstore.errors import OutcomeUnknownError, StorageError
from runstore.storage import fsync as flushing
from runstore.storage.local import LocalStorage
from runstore.transfer import export_run
from tests.planning.generate import make
from tests.transfer.lives import live, memory

KEY = "runs/k/attempts/n.000001.start.json"


class Kernel:
    """`os.fsync`, watched, and failing where it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.flushed: list[str] = []
        self.failing: Callable[[str], bool] = lambda path: False
        self.code = errno.EIO
        real = os.fsync

        def fsync(fd: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            self.flushed.append(path)
            if self.failing(path):
                raise OSError(self.code, os.strerror(self.code))
            real(fd)

        patch.setattr(os, "fsync", fsync)

    def take(self) -> list[str]:
        taken, self.flushed = self.flushed, []
        return taken


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# -- creating ------------------------------------------------------------------------------------


def test_a_folder_that_failed_leaves_the_outcome_unknown(tmp_path, kernel):
    storage = LocalStorage(tmp_path)
    storage.create("runs/k/attempts/first", b"1")
    kernel.failing = os.path.isdir
    with pytest.raises(OutcomeUnknownError, match="Cannot make durable") as raised:
        storage.create(KEY, b"2")
    assert (raised.value.errno, raised.value.key) == (errno.EIO, KEY)
    assert (tmp_path / KEY).read_bytes() == b"2", "it is there, and may not last"
    kernel.failing = lambda path: False
    kernel.take()
    storage.create(KEY, b"2")
    assert kernel.take()[-1] == str(tmp_path / "runs/k/attempts")


def test_a_file_that_failed_was_not_created(tmp_path, kernel):
    storage = LocalStorage(tmp_path)
    storage.create("runs/k/attempts/first", b"1")
    kernel.failing = os.path.isfile
    with pytest.raises(StorageError, match="Cannot create") as raised:
        storage.create(KEY, b"2")
    assert type(raised.value) is StorageError
    assert files(tmp_path) == ["runs/k/attempts/first"]


def test_new_folders_above_the_root_are_flushed_up_to_the_top(tmp_path, kernel):
    root = tmp_path / "new/er/store"
    LocalStorage(root).create("a/b", b"1")
    flushed = kernel.take()
    link = flushed.index(str(root / "a"), 1)
    above = [str(folder) for folder in root.parents]
    assert str(tmp_path / "new/er") == above[0]
    for folder in above:
        assert folder in flushed[:link], "its new name is on the disk before anything leads on"
    LocalStorage(root).create("a/c", b"1")
    assert not set(above) & set(kernel.take()), "only who makes the root does it"


def test_a_folder_above_that_cannot_be_flushed_is_told(tmp_path, kernel):
    kernel.failing = lambda path: path == str(tmp_path)
    with pytest.raises(StorageError, match="the disk failed"):
        LocalStorage(tmp_path / "new/store").create("a", b"1")
    assert files(tmp_path) == []


def test_folders_above_that_may_not_be_read_are_for_who_made_them(tmp_path, monkeypatch):
    """`/home` is 0711 on many machines."""
    real = os.open

    def no_reading(path, flags, *rest, **options):
        if path == str(tmp_path.parent):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", no_reading)
    LocalStorage(tmp_path / "new/store").create("a", b"1")
    assert files(tmp_path) == ["new/store/a"]


def test_a_link_that_leads_nowhere_above_the_root_is_told(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "link")
    with pytest.raises(StorageError, match="link in the path leads nowhere"):
        LocalStorage(tmp_path / "link/store").create("a", b"1")


# -- removing ------------------------------------------------------------------------------------


def test_removing_flushes_each_folder_that_lost_a_name(tmp_path, kernel):
    storage = LocalStorage(tmp_path)
    for key in ("runs/k/a/1", "runs/k/a/2", "runs/k/b/1", "runs/k/run.json"):
        storage.create(key, b"")
    kernel.take()
    storage.remove(["runs/k/a/1"])
    assert kernel.take() == [str(tmp_path / "runs/k/a")]
    storage.remove(["runs/k/a/2", "runs/k/b/1"])
    assert kernel.take() == [str(tmp_path / "runs/k")], "the folders went with them"
    storage.remove(["runs/k/run.json"])
    assert kernel.take() == [str(tmp_path / "runs")]
    storage.remove(["runs/k/run.json"])
    assert kernel.take() == [str(tmp_path / "runs")], "whoever removed it may not have flushed"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_removal_that_may_not_last_is_told_until_it_does(tmp_path, kernel, code):
    storage = LocalStorage(tmp_path)
    storage.create("runs/k/a", b"")
    storage.create("runs/k/b", b"")
    kernel.failing, kernel.code = os.path.isdir, code
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError, match="Cannot make durable what was removed"):
            storage.remove(["runs/k/a"])
    kernel.failing = lambda path: False
    storage.remove(["runs/k/a"])
    assert files(tmp_path) == ["runs/k/b"]


def test_the_first_failure_of_a_removal_is_the_one_that_is_told(tmp_path, kernel, monkeypatch):
    storage = LocalStorage(tmp_path)
    storage.create("runs/k/a", b"")
    storage.create("runs/k/b", b"")
    real = os.unlink

    def unlink(path, **options):
        if str(path).endswith("/b"):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    kernel.failing = os.path.isdir
    with pytest.raises(StorageError, match="Cannot remove runs/k/b"):
        storage.remove(["runs/k/a", "runs/k/b"])


def test_not_durable_means_no_flush(tmp_path, kernel):
    storage = LocalStorage(tmp_path / "new/store", durable=False)
    storage.create("runs/k/a", b"")
    storage.remove(["runs/k/a"])
    assert kernel.take() == []


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_a_batch_in_a_new_place_flushes_what_is_above(tmp_path, kernel, monkeypatch, whole):
    """On any file system: overlayfs, which containers have, is not flushed as a whole."""
    monkeypatch.setattr(flushing, "_is_synced_whole", lambda device: whole)
    root = tmp_path / "new/store"
    with LocalStorage(root).batch() as quick:
        quick.create("runs/k/a", b"1")
    flushed = kernel.take()
    assert str(tmp_path / "new") in flushed
    assert str(tmp_path) in flushed
    if not whole:
        at = flushed.index(f"{root}/runs/k/a")
        assert {str(root), f"{root}/runs", f"{root}/runs/k"} <= set(flushed[at:])


@pytest.mark.parametrize("failing", [os.path.isdir, os.path.isfile])
def test_a_batch_that_may_not_last_is_told(tmp_path, kernel, monkeypatch, failing):
    monkeypatch.setattr(flushing, "_is_synced_whole", lambda device: False)

    def work() -> None:
        with LocalStorage(tmp_path).batch() as quick:
            quick.create("runs/k/a", b"1")
            kernel.failing = failing

    with pytest.raises(OutcomeUnknownError, match="Cannot make durable"):
        work()


def test_a_batch_passes_over_folders_that_have_no_flush(tmp_path, kernel, monkeypatch):
    monkeypatch.setattr(flushing, "_is_synced_whole", lambda device: False)
    kernel.failing, kernel.code = os.path.isdir, errno.EINVAL
    with LocalStorage(tmp_path).batch() as quick:
        quick.create("runs/k/a", b"1")
    assert files(tmp_path) == ["runs/k/a"]


# -- exports -------------------------------------------------------------------------------------


def test_an_export_flushes_its_file_and_then_its_folder(tmp_path, kernel):
    run = live(memory(), make(4, 12), 3)
    export_run(run, tmp_path / "r.json")
    first, last = kernel.take()
    assert first.startswith(f"{tmp_path}/.r.json.")
    assert last == str(tmp_path)


@pytest.mark.parametrize(("failing", "there"), [(os.path.isfile, False), (os.path.isdir, True)])
def test_an_export_that_may_not_last_is_told(tmp_path, kernel, failing, there):
    run = live(memory(), make(4, 12), 3)
    kernel.failing = failing
    with pytest.raises(StorageError, match="may not outlive" if there else "cannot write"):
        export_run(run, tmp_path / "r.json")
    assert files(tmp_path) == (["r.json"] if there else [])
