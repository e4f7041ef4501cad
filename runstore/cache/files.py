"""The files of the local cache. Nothing in here raises for what a disk does: it forgets."""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

__all__ = ["Log", "Objects", "Room"]

_TEMP = ".tmp-"
_TEMP_SECONDS = 86400.0
_FLUSH_BYTES = 4 << 20
_HEAD_BYTES = 1200  # a key, a tag, a number
_MOST_BYTES = 64 << 20


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
        self._index: dict[str, tuple[int, bytes, int]] = {}
        """Key -> where its entry begins, the head of it, the length of the record."""
        self._fd = -1
        self._end = 0
        self._torn = False
        self._pending: list[bytes] = []
        self._size = 0
        self._load()
        with suppress(OSError):
            os.utime(path)

    def get(self, key: str, tag: str) -> bytes | None:
        found = self._index.get(key)
        if found is None:
            return None
        at, head, length = found
        if head != _head(key, _short(tag), length):
            return None
        with suppress(OSError):
            entry = os.pread(self._fd, len(head) + length, at)
            # The file may not be the one it was.
            if entry.startswith(head):
                return entry[len(head) :]
        return None

    def drop(self, key: str) -> None:
        """It is damaged."""
        self._index.pop(key, None)
        self._torn = True

    def put(self, key: str, tag: str, data: bytes) -> None:
        if len(data) > _MOST_BYTES:
            return
        entry = b"%b%b\n" % (_head(key, _short(tag), len(data)), data)
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
                os.write(fd, data)  # at once: what other processes append does not come between
            finally:
                os.close(fd)
            return len(data)
        temp = temp_beside(self._path)
        try:
            with open(temp, "xb", opener=_private) as file:
                for at, head, length in self._index.values():
                    file.write(os.pread(self._fd, len(head) + length + 1, at))
                file.write(data)
                size = file.tell()
            os.replace(temp, self._path)
        except BaseException:
            forget(temp)
            raise
        return size

    def _load(self) -> None:
        """Learn what was appended, by whomever."""
        try:
            with open(self._path, "rb", _FLUSH_BYTES) as file:
                fresh = self._fd < 0 or not os.path.sameopenfile(self._fd, file.fileno())
                if fresh:
                    self._close()
                    self._fd = os.dup(file.fileno())
                    weakref.finalize(self, _close, self._fd)
                    self._index, self._end, self._torn = {}, 0, False
                file.seek(self._end)
                self._scan(file)
        except OSError:  # there is none yet
            self._index, self._end = {}, 0

    def _close(self) -> None:
        self._fd = -1  # closed when this object goes: another thread may be reading

    def _scan(self, file: BinaryIO) -> None:
        at = self._end
        while head := file.readline(_HEAD_BYTES):
            try:
                key, _, number = head.split(b" ")
                length = int(number)
                if not head.endswith(b"\n") or not 0 <= length <= _MOST_BYTES:
                    raise ValueError
                if file.read(length + 1)[length:] != b"\n":
                    raise ValueError
                self._index[key.decode()] = (at, head, length)
            except ValueError:
                self._torn = True
                return
            at = self._end = at + len(head) + length + 1


class Objects:
    """Files named by a digest."""

    def __init__(self, room: Room, folder: str) -> None:
        self._room = room
        self._folder = folder

    def open(self, name: str) -> BinaryIO | None:
        try:
            file = open(self._path(name), "rb")  # noqa: SIM115 - the caller's
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

    def begin(self, name: str) -> tuple[BinaryIO, str] | None:
        """A file to write an object into, and its name."""
        made: list[tuple[BinaryIO, str]] = []

        def write() -> int:
            temp = temp_beside(self._path(name))
            made.append((open(temp, "xb", opener=_private), temp))  # noqa: SIM115 - the caller's
            return 0

        self._room.write(self._path(name), write)
        return made[0] if made else None

    def finish(self, name: str, temp: str, size: int) -> None:
        """It is written, and what it should be."""

        def write() -> int:
            try:
                os.replace(temp, self._path(name))
            except OSError:
                forget(temp)
                raise
            return size

        self._room.write(self._path(name), write)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _short(tag: str) -> bytes:
    return hashlib.sha256(tag.encode()).hexdigest()[:32].encode()


def _head(key: str, tag: bytes, length: int) -> bytes:
    return b"%b %b %d\n" % (key.encode(), tag, length)


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
