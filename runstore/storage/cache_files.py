"""The files of the local cache. Nothing in here raises for what a disk does: it forgets."""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

__all__ = ["Log", "Objects", "Room"]

_TEMP = ".tmp-"
_TEMP_SECONDS = 86400.0
_FLUSH_BYTES = 4 << 20


class Room:
    """The folder of the whole cache, and how much may be in it."""

    def __init__(self, folder: str, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._unseen = limit  # bytes written since it was last measured: at first, not known
        self._full = False

    def write(self, path: str, write: Callable[[], int]) -> None:
        """Let ``write`` write to the cache; a disk that refuses is not asked again."""
        if self._full:
            return
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._unseen += write()
        except (OSError, ValueError):
            self._full = True
        if self._unseen * 32 > self.limit:
            self._unseen = 0
            self._shrink()

    def _shrink(self) -> None:
        """Remove what was used longest ago, until a tenth is free."""
        found: list[tuple[float, int, str]] = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                with suppress(OSError):
                    is_ = os.stat(path)
                    found.append((is_.st_mtime, is_.st_size, path))
        total = sum(size for _, size, _ in found)
        most = self.limit if total <= self.limit else self.limit * 9 // 10
        old = time.time() - _TEMP_SECONDS
        for modified, size, path in sorted(found):
            litter = os.path.basename(path).startswith(_TEMP) and modified < old
            if total > most or litter:
                forget(path)
                total -= size


def forget(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def temp_beside(path: str) -> str:
    return os.path.join(os.path.dirname(path), f"{_TEMP}{os.getpid()}-{os.urandom(8).hex()}")


class Log:
    """The records of one run: ``key tag length``, a newline, the record, a newline; the last entry
    of a key counts. A tear, by whatever cut an append short, ends it, until it is written anew."""

    def __init__(self, room: Room, path: str) -> None:
        self._room = room
        self._path = path
        self._map: mmap.mmap | None = None
        self._index: dict[str, tuple[bytes, int, int]] = {}
        self._seen = 0
        self._torn = False
        self._pending: list[bytes] = []
        self._size = 0
        self._load()
        with suppress(OSError):
            os.utime(path)

    def get(self, key: str, tag: str) -> bytes | None:
        found = self._index.get(key)
        if found is None or self._map is None or found[0] != _short(tag):
            return None
        return self._map[found[1] : found[1] + found[2]]

    def drop(self, key: str) -> None:
        """It is damaged."""
        self._index.pop(key, None)
        self._torn = True

    def put(self, key: str, tag: str, data: bytes) -> None:
        entry = b"%b %b %d\n%b\n" % (key.encode(), _short(tag), len(data), data)
        self._pending.append(entry)
        self._size += len(entry)
        if self._size >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was put."""
        if self._pending:
            pending, self._pending, self._size = b"".join(self._pending), [], 0
            self._room.write(self._path, lambda: self._write(pending))
            self._load()

    def _write(self, data: bytes) -> int:
        if not self._torn:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # One write: what other processes append does not come between.
                if os.write(fd, data) < len(data):
                    self._torn = True
            finally:
                os.close(fd)
            return len(data)
        temp = temp_beside(self._path)
        try:
            with open(temp, "xb", opener=_private) as file:
                for key, (tag, at, length) in self._index.items():
                    assert self._map is not None
                    file.write(b"%b %b %d\n" % (key.encode(), tag, length))
                    file.write(self._map[at : at + length + 1])
                file.write(data)
                size = file.tell()
            os.replace(temp, self._path)
        except BaseException:
            forget(temp)
            raise
        self._index, self._seen, self._torn = {}, 0, False
        return size

    def _load(self) -> None:
        """Learn what was appended, by whomever."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._map = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(fd)
        except (OSError, ValueError):  # none yet, or empty
            self._map, self._index, self._seen = None, {}, 0
            return
        if len(self._map) < self._seen:  # another file
            self._index, self._seen = {}, 0
        self._torn = False
        for key, tag, at, length in self._entries(self._map):
            self._index[key] = (tag, at, length)

    def _entries(self, data: mmap.mmap) -> Iterator[tuple[str, bytes, int, int]]:
        size, at = len(data), self._seen
        while at < size:
            end = data.find(b"\n", at, at + 1200)
            try:
                key, tag, number = data[at:end].split(b" ")
                length, begin = int(number), end + 1
                if length < 0 or data[begin + length] != 10:
                    raise ValueError
                yield key.decode(), tag, begin, length
            except (ValueError, IndexError):
                self._torn = True
                return
            at = self._seen = begin + length + 1


class Objects:
    """Files named by a digest."""

    def __init__(self, room: Room, folder: str) -> None:
        self._room = room
        self._folder = folder

    def open(self, name: str) -> IO[bytes] | None:
        try:
            file = open(self._path(name), "rb")
            with suppress(OSError):
                os.utime(file.fileno())
            return file
        except OSError:
            return None

    def drop(self, name: str) -> None:
        forget(self._path(name))

    def fits(self, size: int) -> bool:
        return size <= self._room.limit // 2

    def put(self, name: str, data: bytes) -> None:
        def write() -> int:
            temp = temp_beside(self._path(name))
            try:
                with open(temp, "xb", opener=_private) as file:
                    file.write(data)
                os.replace(temp, self._path(name))
            except BaseException:
                forget(temp)
                raise
            return len(data)

        if self.fits(len(data)):
            self._room.write(self._path(name), write)

    def begin(self, name: str) -> tuple[IO[bytes], str] | None:
        """A file to write an object into, and its name."""
        made: list[tuple[IO[bytes], str]] = []

        def write() -> int:
            temp = temp_beside(self._path(name))
            made.append((open(temp, "xb", opener=_private), temp))  # noqa: SIM115 - the caller's
            return 0

        self._room.write(self._path(name), write)
        return made[0] if made else None

    def finish(self, name: str, temp: str, size: int) -> None:
        """It is written, and what it should be."""

        def write() -> int:
            os.replace(temp, self._path(name))
            return size

        self._room.write(self._path(name), write)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _short(tag: str) -> bytes:
    return hashlib.sha256(tag.encode()).hexdigest()[:32].encode()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
