"""Folders for what is not to stay: secrets in clear, and logs that are not masked yet.

Each is locked by the process that made it. The lock goes with the process, however that ends, and
so whoever comes next knows what was left.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runstore.store.folder import remove

__all__ = ["remove_left", "scratch"]

_PREFIX = "runstore-scratch-"


@contextmanager
def scratch() -> Iterator[str]:
    """An empty folder, for this user alone; removed at the end."""
    folder, lock = _made()
    try:
        yield folder
    finally:
        remove(folder)
        os.close(lock)


def _made() -> tuple[str, int]:
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX)  # 0700, as mkdtemp(3) says
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # somebody took it for one that was left: it is not locked yet
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)  # somebody is about to
            continue
        except OSError:
            pass  # there are no locks here: so nobody gets one, and nobody removes it
        if os.path.isdir(folder):
            return folder, lock
        os.close(lock)


def remove_left() -> None:
    """Remove the folders of this user's processes that were killed."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with suppress(OSError):
                    _remove_if_left(entry.path)


def _remove_if_left(folder: str) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(folder, flags)
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its process lives
            remove(folder)
    finally:
        os.close(lock)
