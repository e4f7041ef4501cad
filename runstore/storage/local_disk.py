"""What a POSIX disk is asked to do, and what its refusals mean: flushing, making folders, naming.

Every flush of the local storage goes through here. What a failed flush means is decided by whoever
asked for it: nothing is passed over but what is said at `flush_folder`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from runstore.storage import CHUNK_BYTES

__all__ = ["ADVICE", "flush_folder", "how_named", "make_folders", "name_it", "pieces", "write_all"]

ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then do it again.",
    errno.EDQUOT: "Your disk quota is used up: free some space, then do it again.",
    errno.EROFS: "The file system is mounted read-only: mount it writable, or use another store.",
    errno.EACCES: "This user may not: correct the owner or the mode of the folder.",
    errno.EPERM: "The file system forbids it: correct the owner, mode or attributes of the folder.",
    errno.ENAMETOOLONG: "The path is too long for this file system: use a shorter store path.",
    errno.ENOTDIR: "A file is where a folder of the store belongs: move it away.",
    errno.EISDIR: "A folder is where an object of the store belongs: move it away.",
    errno.ENOENT: "The folder was removed meanwhile, or a link in the path leads nowhere.",
    errno.ELOOP: "A link is where an object of the store belongs: move it away.",
    errno.EFBIG: "It is larger than this file system or 'ulimit -f' allows.",
    errno.EMFILE: "This process has too many files open: raise 'ulimit -n'.",
    errno.ENFILE: "This machine has too many files open.",
    errno.EIO: "The disk failed: look into the kernel's log.",
    errno.ESTALE: "The network file system lost the folder: check its mount.",
}
"""What to do about an error of the operating system."""

# What fsync(2) says of a folder that "does not support synchronization": there it does nothing on
# any file of this kind, so it has nothing to tell. Some FUSE and SMB file systems are so: they send
# each change of a name to where it is kept at once. Any other error, EIO above all, is told.
_NO_FOLDER_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

# link(2) on a file system without hard links: vfat and exfat, FUSE, some SMB servers.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

# renameat2(2) on a file system, or a kernel, that does not know RENAME_NOREPLACE.
_NO_SUCH_RENAME = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# How often a folder may be gone again when we look, before it is an error.
_TRIES = 6

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def flush_folder(folder: str) -> None:
    """Make the names in a folder last. Raises ``OSError``: they may or may not."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
    finally:
        os.close(fd)


def make_folders(folder: str, root: str, *, durable: bool) -> None:
    """Make a folder of the store in ``root``, and those above it that are missing, up to the root
    of the disk; their names last when this returns, on any file system. Raises ``OSError``."""
    made: list[str] = []
    missing = [folder]
    for _ in range(_TRIES * (folder.count("/") + 1)):
        try:
            os.mkdir(missing[-1])
        except FileNotFoundError:
            # Not there yet, or removed a moment ago, or a link that leads nowhere: then for ever.
            missing.append(os.path.dirname(missing[-1]))
            continue
        except FileExistsError:  # somebody else makes it too, and has not come to flush it yet
            pass
        made.append(missing.pop())
        if not missing:
            break
    else:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    if not durable:
        return
    for each in made:
        flush_folder(os.path.dirname(each))
    if root in made:
        # What stands above them was perhaps made a moment ago too, by another process. A folder
        # that this user may pass and not read (/home, often) was made by somebody who can flush it.
        above = os.path.dirname(made[0])
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            with suppress(PermissionError):
                flush_folder(above)


def name_it(temp: str, path: str) -> bool:
    """Give a file another name that is free, at once and whole: of many who try one wins.

    Raises ``FileExistsError`` if the name is taken, ``OSError`` for what fails. ``False``: this
    file system has no way to do it, neither ``link(2)`` nor ``renameat2(2)``.
    """
    try:
        os.link(temp, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        return True
    return _rename_if_free(temp, path)


def how_named(folder: str) -> str:
    """How files get their names in a folder: ``link``, ``rename``, or ``in place``, where there is
    neither. Makes a file and removes it. Raises ``OSError``."""
    temp, other = (os.path.join(folder, f".tmp--{os.urandom(8).hex()}") for _ in range(2))
    os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        if not name_it(temp, other):
            return "in place"
        return "link" if os.path.exists(temp) else "rename"
    finally:
        for name in (temp, other):
            with suppress(OSError):
                os.unlink(name)


def _rename_if_free(temp: str, path: str) -> bool:
    import ctypes  # here: few ever need it

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(temp), os.fsencode(path)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_SUCH_RENAME:
        return False
    raise OSError(code, os.strerror(code), path)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it. Raises ``OSError``: then some may be."""
    done = os.write(fd, data)
    while done < len(data):  # 2 GiB at most at a time, and less when a disk fills or a limit nears
        done += os.write(fd, memoryview(data)[done:])


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """A stream, some at a time."""
    while piece := stream.read(CHUNK_BYTES):
        yield piece
