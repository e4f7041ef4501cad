"""Which files a step means by a name or a pattern, and how one is opened to be saved.

A pattern is read part by part, between the slashes. A part that is the exact name of something in
that folder means that; otherwise ``*``, ``?`` and ``[...]`` are as in fnmatch(3), for hidden names
too, and a part ``**`` is any number of folders, none included.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from runstore.errors import InputError

__all__ = ["MAX_FILES", "artifact_name", "find", "is_artifact_name", "open_file"]

MAX_FILES = 100_000
"""The most files that one attempt saves: its end record names them all."""

_MAX_NAME = 2_048
_MAX_PART = 255  # NAME_MAX of Linux, macOS and every file system in use

_has_magic = re.compile(r"[*?\[]").search

_KINDS: list[tuple[Callable[[int], bool], str]] = [
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
]


def artifact_name(name: str) -> str:
    """A name as artifacts have it: relative, below its folder, and one that every disk takes.

    :raises InputError: for any other one, saying what to write. As in all of this module, the text
        goes on from "step saves".
    """
    clean = _relative(name)
    encoded = clean.encode()
    if len(encoded) > _MAX_NAME or max(map(len, encoded.split(b"/"))) > _MAX_PART:
        raise InputError(
            f"{_shown(name)}, which is too long to be loaded again: up to {_MAX_PART} bytes "
            f"between slashes, and {_MAX_NAME:,} in all"
        )
    return clean


def is_artifact_name(name: str) -> bool:
    """Whether :func:`artifact_name` gives the name as it is."""
    try:
        return artifact_name(name) == name
    except InputError:
        return False


def find(base: str, pattern: str) -> list[str]:
    """The files that ``pattern`` means, by their names below ``base``, sorted; at least one.

    A link to a file is a file under the link's name. ``**`` goes into each folder once, by its own
    name rather than by a link's, so a link that leads back ends. Folders, and what is no file
    (pipes, sockets, devices, links that lead nowhere), are passed over by a pattern.

    :raises InputError: if there is none, saying what is there instead and what to write; for a
        folder that may not be read; for more than :data:`MAX_FILES`.
    """
    name = _inside(base, pattern)
    said = _exact(base, name)
    if said == "":
        if not pattern.endswith("/"):
            return [artifact_name(name)]
        said = "is a file, and the name ends in '/': leave that out"
    if _has_magic(name):
        if pattern.endswith("/"):
            raise InputError(
                f"{_shown(pattern)}, which means folders",
                advice=f"write {pattern + '**'!r} for all in them, or {pattern + '*'!r} for their "
                "own files",
                pattern=pattern,
            )
        walk = _Walk(base, name)
        if walk.found:
            return sorted(map(artifact_name, walk.found))
        if walk.odd:
            odd = min(walk.odd)
            said = f"matches no file; {odd!r} {walk.odd[odd]}"
    raise InputError(f"{_shown(pattern)}, which {said or _missing(base, name)}", pattern=pattern)


def open_file(base: str, name: str) -> BinaryIO:
    """Open what :func:`find` found. Never waits, whatever stands there by now.

    :raises InputError: if it cannot be read, or is no file any more.
    """
    path = os.path.join(base, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        why = error.strerror or error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            why = "it was there a moment ago; save it when nothing works on it any more"
        raise InputError(f"{_shown(name)}, which cannot be read: {why}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{_shown(name)}, which {_exact(base, name) or 'is no file'}")
    return open(path, "rb", opener=lambda *_: fd)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 300 else f"{name[:200]}...{name[-60:]}")


def _relative(name: str) -> str:
    """The name, or pattern, without what means nothing (``./``, ``a//b``)."""
    if not name:
        raise InputError("a file with an empty name", advice="write its name, or a pattern")
    if "\0" in name:
        raise InputError(
            f"{_shown(name)}, which has a NUL in it, as no file's name can", advice="rename it"
        )
    if name.startswith("/"):
        raise InputError(
            f"{_shown(name)}, which is an absolute path",
            advice="name it relative to the folder of the attempt (where a command runs), or to "
            "another `base`",
        )
    clean = os.path.normpath(name)
    if clean == ".." or clean.startswith("../"):
        raise InputError(
            f"{_shown(name)}, which leads out of its folder",
            advice="copy the file into the folder of the attempt (where a command runs), or give "
            "its own as `base`",
        )
    if clean == ".":
        raise InputError(
            f"{_shown(name)}, which is the folder itself", advice="write '**' for all that is in it"
        )
    try:
        clean.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{_shown(name)}, which is not UTF-8, as an artifact's name must be", advice="rename it"
        ) from None
    return clean


def _inside(base: str, pattern: str) -> str:
    """As :func:`_relative`; of an absolute path, the error says its name below ``base``."""
    folder = os.path.abspath(base)
    if os.path.normpath(pattern).startswith(folder + "/"):
        inside = os.path.relpath(pattern, folder)
        raise InputError(
            f"{_shown(pattern)}, which is an absolute path", advice=f"write {inside!r}"
        )
    return _relative(pattern)


def _exact(base: str, name: str) -> str | None:
    """Empty for a file, ``None`` if nothing is there, else what is, and what to write."""
    path = os.path.join(base, name)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        try:
            link = os.readlink(path)
        except OSError:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                return None
            return f"cannot be looked at: {error.strerror or error}"
        if error.errno == errno.ELOOP:
            return f"is a link to {link!r}, which leads back to it: save the file itself"
        return f"is a link to {link!r}, which is not there: save the file itself, under its name"
    return _not_a_file(path, name, mode)


def _not_a_file(path: str, name: str, mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        with suppress(OSError), os.scandir(path) as entries:
            if next(entries, None) is None:
                return "is an empty folder, and only files are kept: write a file into it"
        return (
            f"is a folder: write {name + '/**'!r} for all that is in it, or {name + '/*'!r} for "
            f"its own files"
        )
    what = next((said for is_kind, said in _KINDS if is_kind(mode)), "no file")
    return f"is {what}: write what comes out of it to a file, and save that"


def _missing(base: str, name: str) -> str:
    try:
        with os.scandir(base) as entries:
            names = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in entries)
    except OSError as error:
        return f"is to be in {base}, which cannot be read: {error.strerror or error}"
    has = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5:,} more" * (len(names) > 5))
    said = f"matches nothing: the folder has no such file, it has {has or 'nothing at all'}"
    if "{" in name:
        said += "; in a pattern { } are themselves: write one pattern for each"
    if "[" in name:
        said += "; in a pattern [...] is any one of the characters in it, and [[] a bracket"
    return said


class _Walk:
    """What a pattern matches below a folder.

    What is left to look at is a folder and the part of the pattern that its entries are to match.
    Folders that are reached by a link come after all others.
    """

    def __init__(self, base: str, pattern: str) -> None:
        self.found: set[str] = set()
        self.odd: dict[str, str] = {}
        """Some of what matched and is no file, and what is to be said of it."""
        self._base = base
        self._parts = pattern.split("/")
        self._todo = [("", 0)]
        self._links: deque[tuple[str, int]] = deque()
        self._been: set[tuple[int, int, int]] = set()
        while self._todo or self._links:
            folder, at = self._todo.pop() if self._todo else self._links.popleft()
            if self._parts[at] == "**":
                self._descend(folder, at)
            else:
                self._match(folder, at)

    def _descend(self, folder: str, at: int) -> None:
        try:
            here = os.stat(os.path.join(self._base, folder))
        except OSError as error:
            self._failed(folder, error)
            return
        identity = (here.st_dev, here.st_ino, at)
        if identity in self._been:
            return
        self._been.add(identity)
        last = at == len(self._parts) - 1
        if not last:
            self._todo.append((folder, at + 1))
        for entry in self._entries(folder):
            name = os.path.join(folder, entry.name)
            if _is_folder(entry):
                self._enter(name, at)
            elif last:
                self._take(name)

    def _match(self, folder: str, at: int) -> None:
        part = self._parts[at]
        names = [part]
        if _has_magic(part) and not os.path.lexists(os.path.join(self._base, folder, part)):
            match = re.compile(fnmatch.translate(part)).match
            names = [entry.name for entry in self._entries(folder) if match(entry.name)]
        for name in names:
            path = os.path.join(folder, name)
            if at == len(self._parts) - 1:
                self._take(path)
            elif os.path.isdir(os.path.join(self._base, path)):
                self._enter(path, at + 1)

    def _enter(self, path: str, at: int) -> None:
        is_link = os.path.islink(os.path.join(self._base, path))
        (self._links if is_link else self._todo).append((path, at))

    def _take(self, name: str) -> None:
        said = _exact(self._base, name)
        if said == "":
            self.found.add(name)
            if len(self.found) > MAX_FILES:
                raise InputError(
                    f"{'/'.join(self._parts)!r}, which matches more than {MAX_FILES:,} files",
                    advice="put them into one archive (tar), and save that",
                )
        elif said and len(self.odd) < 100:
            self.odd[name] = said

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._base, folder)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._failed(folder, error)
            return []

    def _failed(self, folder: str, error: OSError) -> None:
        """Nothing is there any more; or it is, and what is in it would be missed."""
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise InputError(
                f"{'/'.join(self._parts)!r}, and may not look into the folder "
                f"{folder or self._base!r}: {error.strerror or error}"
            ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False
