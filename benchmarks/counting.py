"""A storage that counts what is asked of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from runstore.errors import StorageError
from runstore.storage import Storage
from runstore.storage.capabilities import Dated
from runstore.storage.client import Info

__all__ = ["Counting"]


class Counting:
    """Passes everything on, and counts: ``requests`` by verb, ``keys`` and ``bytes`` that moved."""

    def __init__(self, storage: Storage, url: str = "") -> None:
        """
        :param url: what it calls itself: of a disk more is read than of a bucket.
        """
        self._storage = storage
        self.url = url or storage.url
        self.requests: Counter[str] = Counter()
        """``create``, ``read``, ``info``, ``stream``, ``list``; of ``read_many``, each key."""
        self.created: list[str] = []
        self.read_keys: list[str] = []
        self.listed: list[str] = []
        """The prefixes."""
        self.bytes_created = 0
        self.bytes_read = 0

    @property
    def durable(self) -> bool:
        return self._storage.durable

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        self.requests["create"] += 1
        self.created.append(key)
        self.bytes_created += len(data) if isinstance(data, bytes) else 0
        self._storage.create(key, data, repair=repair)

    def read(self, key: str) -> bytes:
        self.requests["read"] += 1
        self.read_keys.append(key)
        data = self._storage.read(key)
        self.bytes_read += len(data)
        return data

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        for key, data in self._storage.read_many(keys):
            self.requests["read"] += 1
            self.read_keys.append(key)
            self.bytes_read += len(data) if isinstance(data, bytes) else 0
            yield key, data

    def info(self, key: str) -> Info:
        self.requests["info"] += 1
        assert isinstance(self._storage, Dated)
        return self._storage.info(key)

    def stream(self, key: str) -> BinaryIO:
        self.requests["stream"] += 1
        return self._storage.stream(key)

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        self.requests["list"] += 1
        self.listed.append(prefix)
        return self._storage.list(prefix, shallow=shallow)
