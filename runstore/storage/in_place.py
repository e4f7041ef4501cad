"""Disks without ``link(2)`` and ``renameat2(2)``, as some FUSE file systems over a bucket: no file
can be given its final name when it is complete.

There an object is written under its own name, which ``O_EXCL`` makes exclusive. A reader can meet
half of it, and a kill or a power cut leaves that half, with the name taken. So

* the writer locks the object while it writes, and readers wait for the lock a little;
* a note in the root of the store, made before the first such object, tells readers to do so. On
  other disks they pay one look for a file that is not there.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import BinaryIO

from runstore.storage.base import pieces
from runstore.storage.local_disk import write_all

__all__ = ["NOTE", "WAIT_SECONDS", "is_settled", "write"]

NOTE = ".written-in-place"
"""The name of the note. No key begins with a dot."""

WAIT_SECONDS = 5.0
"""How long a reader waits for a living writer."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

# The writer has made the file and not come to lock it or to write yet; or a blob of no bytes.
_EMPTY_SECONDS = 0.05

# Where there are no locks: a file that was written to a moment ago is looked at again.
_YOUNG_SECONDS = 2.0


def write(source: BinaryIO, path: str, root: str, *, durable: bool) -> None:
    """Copy a file to a name that is free. Raises ``FileExistsError`` if it is not."""
    with suppress(FileExistsError):
        os.close(os.open(os.path.join(root, NOTE), _NEW, 0o666))
    fd = os.open(path, _NEW, 0o666)
    try:
        try:
            with suppress(OSError):  # no locks here: then readers go by the time
                fcntl.flock(fd, fcntl.LOCK_EX)
            for piece in pieces(source):
                write_all(fd, piece)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        # The name is ours, and what it leads to may be short: better that it is free again.
        with suppress(OSError):
            os.unlink(path)
        raise


def is_settled(fd: int) -> bool:
    """Wait until nobody writes this file; ``False`` if somebody still does after `WAIT_SECONDS`."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < WAIT_SECONDS:
        found = os.fstat(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            settled = False
        except OSError:
            time.sleep(_EMPTY_SECONDS)
            after = os.fstat(fd)
            same = (found.st_size, found.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            settled = same or found.st_mtime < time.time() - _YOUNG_SECONDS
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)
            settled = os.fstat(fd).st_size > 0 or waited > _EMPTY_SECONDS
        if settled:
            return True
        time.sleep(0.005)
    return False
