"""A storage that fails, or kills whoever uses it, at its k-th operation."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal

from runstore.errors import StorageError
from runstore.storage import Storage

How = Literal["dies before", "dies after", "fails before", "fails after"]


class Death(BaseException):
    """The process is gone: nothing it does after this reaches the storage."""


class Breaking:
    """``storage``, whose ``at``-th operation breaks. ``at=None`` only counts."""

    durable = False

    def __init__(self, storage: Storage, at: int | None = None, how: How = "dies before") -> None:
        self.storage = storage
        self.url = storage.url
        self.at = at
        self.how = how
        self.count = 0
        self.broke = ""
        self.dead = False
        self._lock = threading.Lock()

    def _step(self, what: str) -> bool:
        """Count one operation; break before it, or say that it is to break after it."""
        with self._lock:
            if self.dead:
                raise Death("it is dead already")
            here = self.count == self.at
            self.count += 1
        if here:
            self.broke = what
            if self.how.endswith("before"):
                self._break(what)
        return here

    def _break(self, what: str) -> None:
        if self.how.startswith("dies"):
            self.dead = True
            raise Death(what)
        raise StorageError(f"the storage failed at {what}")

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        breaks = self._step(f"create {key}")
        self.storage.create(key, data, repair=repair)
        if breaks:
            self._break(f"create {key}")

    def read(self, key: str) -> bytes:
        breaks = self._step(f"read {key}")
        data = self.storage.read(key)
        if breaks:
            self._break(f"read {key}")
        return data

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        for key in keys:
            try:
                yield key, self.read(key)
            except StorageError as error:
                yield key, error

    def stream(self, key: str) -> BinaryIO:
        breaks = self._step(f"stream {key}")
        file = self.storage.stream(key)
        if breaks:
            self._break(f"stream {key}")
        return file

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        breaks = self._step(f"list {prefix}")
        found = self.storage.list(prefix, shallow=shallow)
        if breaks:
            self._break(f"list {prefix}")
        return found
