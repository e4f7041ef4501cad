"""Unfinished writes on a local disk: temp files, and whether the writer of one still lives.

A writer holds a lock (flock(2)) on its temp file from before its first byte until the object has
its name. The kernel releases it when the writer ends, however it ends, across containers and users:
on one machine, a lock that can be had means that nobody writes.

Some network file systems keep locks to each machine. So the name says under which kernel the file
was made: one of another kernel, or without locks, is abandoned only when it was not touched for
`FOREIGN_SECONDS`.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FOREIGN_SECONDS", "TEMP", "abandoned", "begin", "machine"]

TEMP = ".tmp-"
"""What the names of unfinished writes begin with: no key does."""

FOREIGN_SECONDS = 86400.0
"""Whatever age is asked for: what may be another machine's is left alone for so long."""

_WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW

# How often a sweep may get in between making a file and locking it.
_TRIES = 100


@functools.cache
def machine() -> str:
    """Tells the kernel of this machine, since it was booted, from others; empty if not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return hashlib.sha256(file.read().strip()).hexdigest()[:12]
    except OSError:
        return ""


def begin(folder: str) -> tuple[int, str]:
    """A new temp file in a folder, open for writing and locked, and its path. Raises ``OSError``.

    To let go of the lock, close it; before it is unlinked: NFS only renames a file that is open.
    """
    for _ in range(_TRIES):
        # The random part tells hosts and threads apart.
        temp = f"{folder}/{TEMP}{machine()}-{os.urandom(8).hex()}"
        fd = os.open(temp, _WRITE_NEW, 0o666)
        if _hold(fd, temp):
            break
        os.close(fd)
    return fd, temp


def _hold(fd: int, temp: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # a sweep looks at it, and will remove it
        return False
    except OSError:  # no locks here: then a sweep gets none either
        return True
    try:
        os.stat(temp)
    except FileNotFoundError:  # a sweep was here before the lock
        return False
    return True


@contextmanager
def abandoned(path: str, before: float) -> Iterator[bool]:
    """Whether an unfinished write that nobody has touched since ``before`` has no writer. It stays
    so inside the block. Raises ``OSError``."""
    found = os.stat(path, follow_symlinks=False)
    if found.st_mtime > before or not stat.S_ISREG(found.st_mode):
        yield False
        return
    foreign = found.st_mtime <= time.time() - FOREIGN_SECONDS
    try:
        fd = os.open(path, _LOOK)
    except PermissionError:
        yield foreign
        return
    try:
        try:
            # Shared, which suffices to see an exclusive one, and needs no right to write.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:
            yield foreign
        else:
            mine = os.path.basename(path).startswith(f"{TEMP}{machine()}-") and bool(machine())
            yield mine or foreign
    finally:
        os.close(fd)
