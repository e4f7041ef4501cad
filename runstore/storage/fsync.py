"""Making files and folders of a local disk durable: one by one, or many with one call.

For many, one ``syncfs(2)`` takes the place of an fsync of each file: "sync() or syncfs() provide
the same guarantees as fsync() called on every file in the system or filesystem respectively"
(sync(2)). That holds within one file system on a disk of this machine, with a kernel that reports
errors (Linux 5.8). Anywhere else (a mount inside the store, FUSE, NFS) each file is fsynced.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Collection
from contextlib import suppress

__all__ = ["flush_all", "flush_folder", "make_folders"]

# fsync(2) of a folder that "does not support synchronization", as on some FUSE and SMB file
# systems, which send each change of a name at once. Any other error is raised.
_NO_FOLDER_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

# How often a folder may be gone again when we look, before it is an error.
_TRIES = 6

_DISKS = {"ext2", "ext3", "ext4", "xfs"}
"""Types of file systems whose device number is that of their files, and that a syncfs writes."""


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
        # Another process may have made those above a moment ago. One that this user may not read
        # (often /home) was made by somebody who can flush it.
        above = os.path.dirname(made[0])
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            with suppress(PermissionError):
                flush_folder(above)


def flush_all(files: Collection[str], root: str, root_fd: int) -> None:
    """Make files below a folder durable, and all folders up to it. Raises ``OSError``.

    ``root_fd``: the folder, opened before the first file was written, so that an error that
    anybody meets in writing them back is reported here.
    """
    folders = {os.path.dirname(file) for file in files}
    devices = {os.stat(folder).st_dev for folder in folders}
    if devices == {os.fstat(root_fd).st_dev} and _is_synced_whole(devices.pop()):
        _syncfs(root_fd)
        return
    for file in sorted(files):
        _fsync(file)
    while folders:
        folder = folders.pop()
        flush_folder(folder)
        if len(folder) > len(root):
            folders.add(os.path.dirname(folder))


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
