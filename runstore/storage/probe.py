"""Whether an endpoint creates exclusively: tried out before a store is made there."""

from __future__ import annotations

import os
from typing import NamedTuple

from runstore.errors import KeyExistsError, StorageError
from runstore.storage.base import Storage, has_single_writer
from runstore.storage.client import NotExclusive

__all__ = ["Probe", "probe", "require"]


class Probe(NamedTuple):
    """``exclusive``: a second create of one key, with other bytes, was refused, and changed
    nothing. It cannot prove that of two creates at the same moment one is refused."""

    exclusive: bool
    key: str
    detail: str


def probe(storage: Storage) -> Probe:
    """Create one key under ``probe/`` twice, with different bytes, and look what is there.

    Leaves one small object. Raises `StorageError` if the storage cannot be used at all.
    """
    key = f"probe/{os.urandom(16).hex()}"
    first, second = b"first " + key.encode(), b"second " + key.encode()
    storage.create(key, first)
    try:
        storage.create(key, second)
    except KeyExistsError:
        found = storage.read(key)
        if found == first:
            return Probe(True, key, "a second create of a key is refused")
        return Probe(False, key, "a second create is answered 'exists', and replaces the object")
    return Probe(False, key, "a second create of a key replaces the first")


def require(storage: Storage) -> bool:
    """Whether the marker of a new store must say ``single_writer``.

    Raises `StorageError`, naming the way out, if the endpoint does not create exclusively and its
    user has not promised to be the only writer.
    """
    if has_single_writer(storage):
        return True
    try:
        found = probe(storage)
    except StorageError as error:
        if not isinstance(error.__cause__, NotExclusive):
            raise
        found = Probe(False, "", str(error.__cause__))
    if found.exclusive:
        return False
    raise StorageError(
        f"Cannot make a store at {storage.url}: the endpoint does not create exclusively "
        f"({found.detail}), so of two writers both would win",
        advice="if nobody else will ever write there, open it with single_writer=True",
        url=storage.url,
        probe=found,
    )
