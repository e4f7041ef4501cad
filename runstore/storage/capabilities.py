"""What a storage may offer besides the three verbs, each as a protocol of one method.

What a backend cannot do is absent. Who works on runs needs none of them, and cannot delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from runstore.storage.base import Storage
from runstore.storage.client import Info

__all__ = ["Batching", "Closing", "Dated", "Removing", "Sweeping", "Tagged"]


@runtime_checkable
class Batching(Protocol):
    """Can make many creates durable together, which costs less than each of them."""

    def batch(self) -> AbstractContextManager[Storage]:
        """A `Storage` of the same place, whose creates are exclusive and whole at once as ever, and
        durable, all of them, when the block is left without an error. Until then a power cut may
        leave any of them short, under its name: for what nobody has been told of yet."""


@runtime_checkable
class Closing(Protocol):
    """Keeps something open: connections, a file."""

    def close(self) -> None:
        """Close it. To do it again is no error."""


@runtime_checkable
class Removing(Protocol):
    """Can delete objects."""

    def remove(self, keys: Iterable[str]) -> None:
        """Delete objects, in no order; one that is not there is no error. All are gone, durably,
        when this returns. Raises `StorageError`: some may be gone then, and doing it again is
        safe."""


@runtime_checkable
class Dated(Protocol):
    """Knows of its objects, unread, when they were written, and which ones they are."""

    def info(self, key: str) -> Info:
        """Size, time and version of an object; raises what `Storage.read` raises. One request, or
        one ``stat``: never from a cache."""


@runtime_checkable
class Sweeping(Protocol):
    """Leaves unfinished writes behind when a process is killed."""

    def sweep(self, before: float, *, dry_run: bool) -> Iterator[str]:
        """Delete unfinished writes that nobody has touched since ``before`` (seconds since the
        epoch); their names, relative to the store. ``dry_run``: only tell. One whose writer lives,
        or may live, is left alone, however old."""


@runtime_checkable
class Tagged(Protocol):
    """Its listings tell one content of a key from another."""

    def entries(self, prefix: str) -> Iterator[tuple[str, str]]:
        """`Storage.list`, and with each key a tag: another one if the object has other bytes (an
        ETag and a size); empty if none is known. Costs what the listing costs."""
