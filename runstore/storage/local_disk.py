"""What a POSIX disk is asked to do, and what its refusals mean: names, reads, writes, listings."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from runstore.storage.base import CHUNK_BYTES

__all__ = [
    "ADVICE", "UNKNOWN", "how_named", "is_folder", "leads_on", "name_it", "only_keys", "read_whole",
    "write_all",
]  # fmt: skip

ADVICE = {
    errno.ENOSPC: "free some space on the disk, then do it again",
    errno.EDQUOT: "free some space within your disk quota, then do it again",
    errno.EROFS: "mount the file system writable, or use another store",
    errno.EACCES: "correct the owner or the mode of the folder",
    errno.EPERM: "correct the owner, mode or attributes of the folder",
    errno.ENAMETOOLONG: "use a shorter path for the store",
    errno.ENOTDIR: "move away the file that is where a folder of the store belongs",
    errno.EISDIR: "move away the folder that is where an object of the store belongs",
    errno.ENOENT: "see whether the folder was removed, or a link in the path leads nowhere",
    errno.ELOOP: "move away the link that is where an object of the store belongs",
    errno.EFBIG: "raise 'ulimit -f', or use a file system that takes larger files",
    errno.EMFILE: "raise 'ulimit -n', the number of files that a process may open",
    errno.ENFILE: "close files: this machine has too many of them open",
    errno.EIO: "look into the kernel's log: the disk failed",
    errno.ESTALE: "check the mount of the network file system, which lost the folder",
}
"""What to do about an error of the operating system."""
UNKNOWN = "see the error of the operating system, then do it again"

# link(2) on a file system without hard links: vfat and exfat, FUSE, some SMB servers.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

# renameat2(2) on a file system, or a kernel, that does not know RENAME_NOREPLACE.
_NO_SUCH_RENAME = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# Records are some 2 KB; one read takes them whole, and a buffer left unfilled is the file's end.
_BUFFER = 65536

_LEGAL_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789._/-"

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


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


def read_whole(fd: int) -> bytes:
    try:
        data = os.read(fd, _BUFFER)
        if len(data) < _BUFFER:
            return data
        pieces = [data]
        while data := os.read(fd, CHUNK_BYTES):
            pieces.append(data)
        return b"".join(pieces)
    finally:
        os.close(fd)


def leads_on(entry: os.DirEntry[str], entered: set[tuple[int, int]]) -> bool:
    """Whether a link leads to a folder, as of a run that was moved to another disk, to which no
    other link has led: so a listing ends, wherever they lead."""
    if not entry.is_symlink() or not is_folder(entry):
        return False
    found = entry.stat()
    before = len(entered)
    entered.add((found.st_dev, found.st_ino))
    return len(entered) > before


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle, or to what this user may not see
        return False


def only_keys(keys: Sequence[str]) -> Iterator[str]:
    # One look at all of them together; one by one only if somebody put a strange file there.
    if not os.fsencode("".join(keys)).translate(None, _LEGAL_BYTES):
        return iter(keys)
    return (key for key in keys if not os.fsencode(key).translate(None, _LEGAL_BYTES))
