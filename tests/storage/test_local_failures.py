"""Disks that are full, read-only, failing or poor in features, and things in the way.

Real file systems and limits where the test may have them; an injected errno where not.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runstore.errors import KeyExistsError, KeyMissingError, StorageError
from runstore.storage import fsync as flushing
from runstore.storage import local, local_care, local_disk, unfinished
from runstore.storage.local import LocalStorage

KEY = "runs/k/attempts/n.000001.start.json"


def files(root: Path) -> dict[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


class Disk:
    """`os` as the module under test sees it, with calls that can be replaced."""

    def __init__(self) -> None:
        self.replaced: dict[str, Callable] = {}

    def __getattr__(self, name: str):
        return self.replaced.get(name) or getattr(os, name)


def fails(code: int) -> Callable:
    def call(*_args, **_options):
        raise OSError(code, os.strerror(code))

    return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    for module in (local, local_care, local_disk, flushing, unfinished):
        monkeypatch.setattr(module, "os", disk)
    return disk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "mount"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def in_child(work: Callable[[], None]) -> None:
    """Run it in a forked child, whose limits and user are its own; it must come out well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


# --- the real thing ---------------------------------------------------------------------------


def test_a_full_disk_says_so_and_keeps_what_it_has(small_disk):
    storage = LocalStorage(small_disk)
    written: dict[str, bytes] = {}

    def fill() -> None:
        for n in range(100):
            written[f"a/{n}"] = b"x" * 3000 + b"%d" % n
            storage.create(f"a/{n}", io.BytesIO(written[f"a/{n}"]))

    with pytest.raises(StorageError, match="free some space") as raised:
        fill()
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.__cause__.errno == errno.ENOSPC
    refused = raised.value.key
    assert refused in str(raised.value)
    assert len(written) > 5
    body = written.pop(refused)
    assert files(small_disk) == written, "nothing of the refused one stays, not even a temp file"
    os.unlink(small_disk / "a/0")
    storage.create(refused, body)
    assert storage.read(refused) == body


def test_a_read_only_disk_says_so(small_disk):
    storage = LocalStorage(small_disk / "store")
    storage.create(KEY, b"1")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for key in ("runs/k/attempts/other", "runs/new/folder"):
        with pytest.raises(StorageError, match="mount the file system writable") as raised:
            storage.create(key, b"2")
        assert raised.value.errno == errno.EROFS
        assert raised.value.url == str(small_disk / "store")
    assert storage.read(KEY) == b"1"
    assert list(storage.list("")) == [KEY]


def test_a_file_size_limit_leaves_nothing(root):
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(StorageError, match="ulimit -f") as raised:
            LocalStorage(root).create(KEY, b"x" * 10_001)  # its last byte is a short write
        assert raised.value.errno == errno.EFBIG

    in_child(work)
    assert files(root) == {}


def test_without_permission_every_verb_says_so(tmp_path, root):
    LocalStorage(root).create(KEY, b"1")
    os.chmod(tmp_path, 0)

    def work() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        storage = LocalStorage(root)
        for verb in (
            lambda: storage.create("runs/k/x", b""),
            lambda: storage.read(KEY),
            lambda: storage.stream(KEY),
            lambda: list(storage.list("runs/")),
        ):
            with pytest.raises(StorageError, match="correct the owner or the mode") as raised:
                verb()
            assert raised.value.errno == errno.EACCES

    try:
        in_child(work)
    finally:
        os.chmod(tmp_path, 0o700)


def test_strange_things_in_the_way(root):
    storage = LocalStorage(root)
    storage.create("a/b", b"1")
    with pytest.raises(StorageError, match="the file that is where a folder") as raised:
        storage.create("a/b/c", b"2")
    assert raised.value.errno == errno.ENOTDIR
    with pytest.raises(StorageError, match="the folder that is where an object"):
        storage.create("a", b"2")
    os.symlink("nowhere", root / "a/dangling")
    with pytest.raises(StorageError, match="taken by something") as raised:
        storage.create("a/dangling", b"2")
    assert not isinstance(raised.value, KeyExistsError), "a failure is no conflict"
    with pytest.raises(KeyMissingError):
        storage.read("a/dangling")
    assert files(root) == {"a/b": b"1"}


def test_list_ignores_what_is_no_object(root):
    storage = LocalStorage(root)
    storage.create("a/b", b"1")
    for name in ("a/.tmp-1-0f", "a/.nfs0001", ".DS_Store", "a/b (copy)", "a/B", "Notes.txt"):
        (root / name).write_bytes(b"")
    (root / ".git/x").mkdir(parents=True)
    (root / ".git/x/y").write_bytes(b"")
    os.mkdir(os.fsencode(root) + b"/\xff")
    (root / os.fsdecode(b"a/\xfe")).write_bytes(b"")
    assert list(storage.list("")) == ["a/b"]
    assert list(storage.list("a/")) == ["a/b"]


def test_a_folder_that_was_moved_away_and_linked_is_one(root):
    storage = LocalStorage(root)
    for key in ("runs/k/run.json", "runs/k/attempts/1", "runs/other/run.json"):
        storage.create(key, key.encode())
    (root / "runs/k").rename(root.parent / "moved")
    os.symlink(root.parent / "moved", root / "runs/k")
    assert sorted(storage.list("runs/", shallow=True)) == ["runs/k/", "runs/other/"]
    whole = ["runs/k/attempts/1", "runs/k/run.json", "runs/other/run.json"]
    assert sorted(storage.list("")) == whole
    assert dict(storage.read_many(whole)) == {key: key.encode() for key in whole}
    storage.create("runs/k/attempts/2", b"")
    assert (root.parent / "moved/attempts/2").exists()


def test_a_listing_of_links_in_a_circle_ends(root):
    storage = LocalStorage(root)
    storage.create("a/b", b"1")
    for name in ("c1", "c2", "c3"):
        os.symlink(root, root / f"a/{name}")
    os.symlink("self", root / "a/self")
    listed = list(storage.list(""))
    assert {"a/b", "a/self"} <= set(listed)
    assert len(listed) < 20


def test_what_is_neither_file_nor_folder_is_no_object_and_nobody_waits_for_it(root):
    storage = LocalStorage(root)
    storage.create("a/b", b"1")
    os.mkfifo(root / "a/fifo")
    assert list(storage.list("a/")) == ["a/b"]
    assert storage.read("a/fifo") == b""
    with storage.stream("a/fifo") as file:
        assert file.read() in (b"", None)
    with pytest.raises(KeyExistsError):
        storage.create("a/fifo", b"2")


# --- injected ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "close", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("as_stream", [False, True])
def test_any_call_that_fails_leaves_nothing(root, disk, call, code, as_stream):
    storage = LocalStorage(root)
    storage.create("runs/k/attempts/first", b"1")
    disk.replaced[call] = fails(code)
    with pytest.raises(StorageError) as raised:
        storage.create(KEY, io.BytesIO(b"2" * 10) if as_stream else b"2" * 10)
    assert type(raised.value) is StorageError
    assert (raised.value.errno, raised.value.key) == (code, KEY)
    assert files(root) == {"runs/k/attempts/first": b"1"}
    disk.replaced.clear()
    storage.create(KEY, b"3")


def test_a_folder_that_cannot_be_fsynced_is_an_error_and_the_retry_tells(root, disk):
    storage = LocalStorage(root)
    storage.create("runs/k/attempts/first", b"1")

    def fsync(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            fails(errno.EIO)()

    disk.replaced["fsync"] = fsync
    with pytest.raises(StorageError, match="Cannot make durable"):
        storage.create(KEY, b"2")
    disk.replaced.clear()
    storage.create(KEY, b"2")
    assert files(root)[KEY] == b"2"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_folders_that_have_no_fsync_do_not_matter(root, disk, code):
    disk.replaced["fsync"] = lambda fd: (
        fails(code)() if os.path.isdir(f"/proc/self/fd/{fd}") else None
    )
    LocalStorage(root).create(KEY, b"1")
    assert files(root) == {KEY: b"1"}


def test_short_writes_are_continued(root, disk):
    disk.replaced["write"] = lambda fd, data: os.write(fd, bytes(data[:7]))
    storage = LocalStorage(root)
    storage.create("a", b"0123456789" * 5)
    storage.create("b", io.BytesIO(b"0123456789" * 5))
    assert files(root) == {"a": b"0123456789" * 5, "b": b"0123456789" * 5}


def test_nfs_that_lost_the_answer_of_link_is_no_conflict(root, disk, monkeypatch):
    def link(temp: str, path: str) -> None:
        os.link(temp, path)
        fails(errno.EEXIST)()

    disk.replaced["link"] = link
    storage = LocalStorage(root)
    with monkeypatch.context() as patch:  # the file itself tells, without a look at the bytes
        patch.setattr(local, "open", fails(errno.ESTALE), raising=False)
        storage.create(KEY, b"1")
    assert files(root) == {KEY: b"1"}
    with pytest.raises(KeyExistsError):
        storage.create(KEY, b"2")


def test_a_link_of_somebody_else_to_our_temp_file_is_no_victory(root, disk):
    """A backup that links all it finds (cp -al) links unfinished writes too."""

    def link(temp: str, path: str) -> None:
        os.link(temp, root.parent / "backup")
        os.link(temp, path)

    storage = LocalStorage(root)
    storage.create(KEY, b"theirs")
    disk.replaced["link"] = link
    with pytest.raises(KeyExistsError):
        storage.create(KEY, b"mine")
    assert files(root) == {KEY: b"theirs"}


def test_an_interrupt_after_the_link_leaves_the_whole_object(root, disk):
    def link(temp: str, path: str) -> None:
        os.link(temp, path)
        raise KeyboardInterrupt

    disk.replaced["link"] = link
    with pytest.raises(KeyboardInterrupt):
        LocalStorage(root).create(KEY, b"1")
    assert files(root) == {KEY: b"1"}
