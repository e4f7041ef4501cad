"""A storage that counts what it is asked for, or fails at one of its creates."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from runstore.errors import StorageError
from runstore.storage import Storage

__all__ = ["Counting"]


class Counting:
    """``storage``, counted; its ``fails_at``-th create raises, before or after it is done."""

    durable = False

    def __init__(
        self, storage: Storage, fails_at: int | None = None, *, after: bool = False
    ) -> None:
        self.storage = storage
        self.url = storage.url
        self.asked: Counter[str] = Counter()
        self._fails_at = fails_at
        self._after = after
        self._lock = threading.Lock()

    def count(self, verb: str) -> int:
        return self.asked[verb]

    def _note(self, verb: str) -> int:
        with self._lock:
            self.asked[verb] += 1
            return self.asked[verb]

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        fails = self._note("create") == self._fails_at
        if not fails or self._after:
            self.storage.create(key, data, repair=repair)
        if fails:
            raise StorageError(f"the storage failed at {key}")

    def read(self, key: str) -> bytes:
        self._note("read")
        return self.storage.read(key)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        for key, data in self.storage.read_many(keys):
            self._note("read")
            yield key, data

    def stream(self, key: str) -> BinaryIO:
        self._note("read")
        return self.storage.stream(key)

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        self._note("list")
        return self.storage.list(prefix, shallow=shallow)
