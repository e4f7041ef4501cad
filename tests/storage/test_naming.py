"""Disks without hard links: how an object gets its name there, and who may meet half of it.

Where the machine lets a test mount one, real file systems are in ``test_mounted.py``; here the call
is made to fail, as it does there.
"""

from __future__ import annotations

import errno
import fcntl
import io
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from runstore.errors import KeyExistsError, StorageError
from runstore.storage import in_place, local_disk
from runstore.storage.local import LocalStorage
from runstore.upkeep.doctor import examine

FORK = multiprocessing.get_context("fork")
KEY = "runs/k/attempts/n.000001.start.json"
BIG = bytes(range(256)) * 20_000  # five pieces


def no_links(patch: pytest.MonkeyPatch, code: int = errno.EPERM, *, renames: bool) -> None:
    def link(*_args, **_options):
        raise OSError(code, os.strerror(code))

    patch.setattr(os, "link", link)
    if not renames:
        patch.setattr(local_disk, "_rename_if_free", lambda *_: False)


def files(root: Path) -> dict[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file() and path.name != in_place.NOTE]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
@pytest.mark.parametrize("renames", [True, False])
def test_creates_are_still_exclusive(tmp_path, monkeypatch, code, renames):
    no_links(monkeypatch, code, renames=renames)
    storage = LocalStorage(tmp_path)
    storage.create(KEY, io.BytesIO(BIG))
    storage.create(KEY, BIG)
    with pytest.raises(KeyExistsError):
        storage.create(KEY, b"2")
    assert files(tmp_path) == {KEY: BIG}
    storage.create(KEY, b"2", repair=True)
    assert files(tmp_path) == {KEY: b"2"}
    assert list(storage.list("")) == [KEY]
    assert (tmp_path / in_place.NOTE).exists() == (not renames)


def test_other_failures_of_a_link_are_failures(tmp_path, monkeypatch):
    no_links(monkeypatch, errno.EIO, renames=True)
    with pytest.raises(StorageError, match="the disk failed"):
        LocalStorage(tmp_path).create(KEY, b"1")
    assert files(tmp_path) == {}


def test_by_a_rename_no_reader_meets_a_part(tmp_path, monkeypatch):
    """The kernel's own exclusive rename, as vfat, exfat and SMB have it."""
    no_links(monkeypatch, renames=True)
    keys = [f"a/{n:04d}" for n in range(300)]

    def write() -> None:
        storage = LocalStorage(tmp_path, durable=False)
        for key in keys:
            storage.create(key, key.encode() * 40_000)

    writer = FORK.Process(target=write)
    writer.start()
    seen: set[str] = set()
    storage = LocalStorage(tmp_path)
    while len(seen) < len(keys):
        for key in set(storage.list("a/")) - seen:
            assert (tmp_path / key).read_bytes() == key.encode() * 40_000
            seen.add(key)
        assert writer.is_alive() or sorted(storage.list("a/")) == keys
    writer.join(30)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("verb", ["read", "read_many", "stream", "create"])
def test_a_reader_waits_for_a_living_writer(tmp_path, monkeypatch, verb):
    no_links(monkeypatch, renames=False)
    stopped = FORK.Event()

    def write() -> None:
        real = local_disk.write_all

        def slowly(fd: int, data: bytes) -> None:
            if "/.tmp-" in os.readlink(f"/proc/self/fd/{fd}"):
                real(fd, data)
                return
            os.write(fd, data[:1000])
            stopped.set()
            time.sleep(0.3)
            os.write(fd, data[1000:])

        monkeypatch.setattr(in_place, "write_all", slowly)
        LocalStorage(tmp_path).create(KEY, b"x" * 5000)

    writer = FORK.Process(target=write)
    writer.start()
    assert stopped.wait(30)
    assert len((tmp_path / KEY).read_bytes()) == 1000, "half of it is there, under its name"
    storage = LocalStorage(tmp_path)
    if verb == "read":
        assert storage.read(KEY) == b"x" * 5000
    elif verb == "read_many":
        assert dict(storage.read_many([KEY, KEY])) == {KEY: b"x" * 5000}
    elif verb == "stream":
        with storage.stream(KEY) as file:
            assert file.read() == b"x" * 5000
    else:
        storage.create(KEY, b"x" * 5000)  # the same bytes: no conflict
    writer.join(30)
    assert writer.exitcode == 0


def test_a_reader_waits_for_bounded_time_and_says_what_it_met(tmp_path, monkeypatch):
    monkeypatch.setattr(in_place, "WAIT_SECONDS", 0.2)
    storage = LocalStorage(tmp_path)
    storage.create(KEY, b"half")
    (tmp_path / in_place.NOTE).touch()
    with open(tmp_path / KEY, "rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        for reading in (lambda: storage.read(KEY), lambda: storage.stream(KEY)):
            with pytest.raises(StorageError, match="still being written"):
                reading()
        ((_, found),) = storage.read_many([KEY])
        assert "still being written" in str(found)
    assert storage.read(KEY) == b"half"


def test_what_a_killed_writer_left_is_read_as_it_is(tmp_path, monkeypatch):
    no_links(monkeypatch, renames=False)

    def write() -> None:
        def die(fd: int, data: bytes) -> None:
            os.write(fd, data[:3])
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(in_place, "write_all", die)
        LocalStorage(tmp_path).create(KEY, b"12345")

    writer = FORK.Process(target=write)
    writer.start()
    writer.join(30)
    assert writer.exitcode == -signal.SIGKILL
    storage = LocalStorage(tmp_path)
    assert storage.read(KEY) == b"123"  # its digest tells those who know what it is
    with pytest.raises(KeyExistsError):
        storage.create(KEY, b"12345")


def test_an_object_of_no_bytes_is_one(tmp_path, monkeypatch):
    no_links(monkeypatch, renames=False)
    storage = LocalStorage(tmp_path)
    storage.create(KEY, b"")
    assert storage.read(KEY) == b""


def test_a_failed_write_frees_the_name(tmp_path, monkeypatch):
    no_links(monkeypatch, renames=False)

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(in_place, "write_all", full)
    with pytest.raises(StorageError, match="free some space"):
        LocalStorage(tmp_path).create(KEY, b"12345")
    assert files(tmp_path) == {}


def test_bytes_are_flushed_under_their_final_name(tmp_path, monkeypatch):
    no_links(monkeypatch, renames=False)
    flushed = []
    real = os.fsync

    def fsync(fd: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{fd}"), (tmp_path / "a/b").exists()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    LocalStorage(tmp_path).create("a/b", b"1")
    assert (f"{tmp_path}/a/b", True) in flushed
    assert flushed[-2:] == [(f"{tmp_path}/a", True), (f"{tmp_path}", True)]


@pytest.mark.parametrize(
    ("links", "renames", "ok", "says"),
    [
        (True, True, True, "hard link"),
        (False, True, True, "rename"),
        (False, False, None, "a kill or a power cut can leave a part"),
    ],
)
def test_the_doctor_says_how_objects_get_their_names(
    tmp_path, monkeypatch, links, renames, ok, says
):
    if not links:
        no_links(monkeypatch, renames=renames)
    (found,) = [each for each in examine(tmp_path) if each.name == "whole"]
    assert found.ok is ok
    assert says in found.detail
    assert not list(tmp_path.rglob(".tmp-*"))
