"""Storage in this process: for tests, and for runs that nobody will resume."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from runstore.errors import StorageError
from runstore.storage.base import check_key, check_prefix, missing, one_by_one, pieces, taken
from runstore.storage.client import Info

__all__ = ["MemoryStorage", "named_store"]


class MemoryStorage:
    """A `Storage` that is a dict under a lock.

    After a fork the child has a copy of its own. Unlike a disk it cannot notice that one key is
    the folder of another one.
    """

    durable = False  # nothing in it outlives the process

    def __init__(self, name: str) -> None:
        self.url = f"memory://{name}"
        self._objects: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        self._made = itertools.count(1)
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        check_key(key, self.url)
        # The stream is read before the lock is taken: it may be slow, and it may raise.
        body = data if isinstance(data, bytes) else b"".join(pieces(data))
        with self._lock:
            there = self._objects.get(key)
            if there == body:
                return
            if there is not None and not repair:
                raise taken(key, self.url)
            self._objects[key] = body
            self._versions[key] = next(self._made)

    def read(self, key: str) -> bytes:
        check_key(key, self.url)
        with self._lock:
            body = self._objects.get(key)
        if body is None:
            raise missing(key, self.url)
        return body

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        return one_by_one(self.read, keys)

    def stream(self, key: str) -> BinaryIO:
        return io.BytesIO(self.read(key))

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        check_prefix(prefix, self.url)
        with self._lock:
            keys = [key for key in self._objects if key.startswith(prefix)]
        if not shallow:
            return iter(keys)
        at = prefix.rpartition("/")[0] + "/" if "/" in prefix else ""
        return iter({at + "".join(key[len(at) :].partition("/")[:2]) for key in keys})

    def info(self, key: str) -> Info:
        """See `runstore.storage.capabilities`. When it was written is not known."""
        size = len(self.read(key))
        return Info(size, None, str(self._versions.get(key, "")))

    def remove(self, keys: Iterable[str]) -> None:
        """See `runstore.storage.capabilities`."""
        for key in keys:
            check_key(key, self.url)
            with self._lock:
                self._objects.pop(key, None)


_stores: dict[str, MemoryStorage] = {}


def named_store(name: str) -> MemoryStorage:
    """The one store of this name in this process, made by whoever asks first."""
    return _stores.setdefault(name, MemoryStorage(name))  # one step under any threads
