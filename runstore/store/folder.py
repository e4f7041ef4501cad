"""The folder of an attempt: files are written below it and nowhere else; and how it goes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runstore.errors import InputError, StorageError

__all__ = ["left_files", "make_folder", "place_in", "remove"]

# Not to list the folder, only to pass through it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def make_folder(nonce: str) -> str:
    """Make the folder of the attempt whose start has this nonce, for this user alone. It is the
    same one for every process of this machine that has the attempt.

    :raises StorageError: if something of another user's is there.
    """
    path = _path_of(nonce)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        about = os.lstat(path)
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            raise StorageError(
                f"{path} is there, and is no folder of this user's",
                advice="remove it, or set TMPDIR",
            ) from None
    return path


def left_files(nonce: str) -> str:
    """To be put behind a message about an attempt that did not end itself: where its files are.
    Empty if none are found on this machine."""
    path = _path_of(nonce)
    try:
        with os.scandir(path) as entries:
            return f"; its files are in {path}" if next(entries, None) is not None else ""
    except OSError:
        return ""


def _path_of(nonce: str) -> str:
    if _is_nonce(nonce) is None:  # of a writer that makes them otherwise
        nonce = hashlib.sha256(nonce.encode("utf-8", "replace")).hexdigest()[:32]
    return os.path.join(tempfile.gettempdir(), f"runstore-{nonce}")


_is_nonce = re.compile(r"[0-9a-f]{32}").fullmatch


@contextmanager
def place_in(root: str, name: str) -> Iterator[tuple[int, str]]:
    """Where to write the file ``name`` below ``root``: the descriptor of its folder, and the last
    part of its name. Folders that are not there are made.

    ``root`` may be a link; below it no link is followed, so nothing is written anywhere else,
    whatever is done to the folder meanwhile.

    :raises InputError: if a link, or something that is no folder, stands in the way, or something
        that is no file at the end of it.
    """
    *parents, last = name.split("/")
    os.makedirs(root or ".", exist_ok=True)
    fd = os.open(root or ".", _FOLDER)
    try:
        for n, part in enumerate(parents, 1):
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=fd)
            try:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise _in_the_way(fd, part, root, "/".join(parents[:n]), name, error) from None
            os.close(fd)
            fd = inner
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(last, dir_fd=fd, follow_symlinks=False).st_mode):
                raise _in_the_way(fd, last, root, name, name, None)
        yield fd, last
    finally:
        os.close(fd)


def _in_the_way(
    fd: int, part: str, root: str, at: str, name: str, error: OSError | None
) -> Exception:
    mode = os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        what = f"a link, to {os.readlink(part, dir_fd=fd)!r}"
    elif stat.S_ISDIR(mode):
        if error is not None:
            return error
        what = "a folder"
    else:
        what = "a file" if stat.S_ISREG(mode) else "no file"
    return InputError(
        f"{name!r} cannot be loaded into {root}: {at!r} is {what} there",
        advice="remove it, or load into another folder, with `to`",
    )


def remove(folder: str) -> None:
    """Remove a folder and what is in it, also what its owner made read-only. Never raises: what
    cannot be removed is litter."""
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        return
    for here, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            with suppress(OSError):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
