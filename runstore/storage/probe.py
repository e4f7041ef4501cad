"""Whether an endpoint creates exclusively: tried out before a store is made there."""

from __future__ import annotations

import os
from typing import NamedTuple

from runstore.errors import KeyExistsError, StorageError
from runstore.storage.base import Storage, has_single_writer
from runstore.storage.client import NotExclusive

__all__ = ["Probe", "create_again", "new_probe", "probe", "require"]


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
    key, body = new_probe()
    storage.create(key, body)
    return create_again(storage, key, body)


def new_probe() -> tuple[str, bytes]:
    """A key under ``probe/``, and what to create there."""
    key = f"probe/{os.urandom(16).hex()}"
    return key, b"first " + key.encode()


def create_again(storage: Storage, key: str, body: bytes) -> Probe:
    """Create other bytes where these are, and look what is there then."""
    try:
        storage.create(key, b"second " + key.encode())
    except KeyExistsError:
        if storage.read(key) == body:
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
