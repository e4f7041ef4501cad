"""Many creates on a local disk, made durable together: `runstore.storage.capabilities.Batching`.

One ``syncfs(2)`` in place of an fsync for each file, where it is known to promise the same: "Linux
waits for I/O completions, and thus sync() or syncfs() provide the same guarantees as fsync() called
on every file in the system or filesystem respectively" (sync(2)). That is for a disk of this
machine, all in one file system, and a kernel that tells of errors (5.8 and later). Anywhere else -
a mount inside the store, FUSE, NFS, another system - each file is fsynced at the end, as ever.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from runstore.storage import Storage
from runstore.storage.local import LocalStorage
from runstore.storage.local_disk import flush_folder, make_folders

__all__ = ["batch"]

_DISKS = {"ext2", "ext3", "ext4", "xfs"}
"""Types of file systems whose device number is that of their files, and that a syncfs writes."""


class _Batch(LocalStorage):
    """Creates without an fsync, and remembers what it created."""

    def __init__(self, root: str) -> None:
        super().__init__(root, durable=False)
        self.created: set[str] = set()

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        super().create(key, data, repair=repair)
        self.created.add(key)

    def settle(self, root: int) -> None:
        """Make it all durable. ``root``: the folder, opened before the first of them, so that an
        error that anybody meets in writing them back is told here."""
        folders = {os.path.dirname(self._base + key) for key in self.created}
        devices = {os.stat(folder).st_dev for folder in folders}
        if devices == {os.fstat(root).st_dev} and _is_synced_whole(devices.pop()):
            _syncfs(root)
            return
        for key in sorted(self.created):
            _fsync(self._base + key)
        while folders:
            folder = folders.pop()
            flush_folder(folder)
            if len(folder) > len(self.url):
                folders.add(os.path.dirname(folder))


@contextmanager
def batch(storage: LocalStorage) -> Iterator[Storage]:
    """See `runstore.storage.capabilities.Batching.batch`."""
    if not storage.durable:
        yield storage
        return
    quick = _Batch(storage.url)
    try:
        # Those above it too: it may be made here, and what comes later looks no higher.
        if not os.path.isdir(storage.url):
            make_folders(storage.url, storage.url, durable=True)
        root = os.open(storage.url, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise storage._error("create", "", error) from error
    try:
        yield quick
        try:
            quick.settle(root)
        except OSError as error:
            raise quick._unknown("", error) from error
    finally:
        os.close(root)


def _is_synced_whole(device: int) -> bool:
    if sys.platform != "linux" or not _tells_errors(os.uname().release):
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo") as file:
            found = [line.split() for line in file]
    except OSError:
        return False
    # proc(5): 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    types = {words[words.index("-") + 1] for words in found if words[2] == wanted}
    return bool(types) and types <= _DISKS


def _tells_errors(release: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= (5, 8)


def _syncfs(fd: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
