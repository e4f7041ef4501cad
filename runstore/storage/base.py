"""What every storage promises: `Storage`, its keys, and reading many of them.

Imports nothing of this package, so that every backend can import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol

from runstore.errors import KeyExistsError, KeyMissingError, StorageError

__all__ = [
    "CHUNK_BYTES", "MAX_KEY_BYTES", "Storage", "assume_single_writer", "check_key", "check_prefix",
    "has_single_writer", "is_key", "is_near", "is_segment", "missing", "one_by_one",
    "pieces", "read_all", "taken",
]  # fmt: skip

CHUNK_BYTES = 1 << 20
"""A stream is copied in pieces of this size; no backend holds more of it in memory."""

MAX_KEY_BYTES = 1024
"""The longest key S3 and GCS take. Each segment is at most 255, the limit of every disk, so
that a store copied from a bucket fits on one."""

# Not possessive, though a wrong key would fail faster: the `re` of Python 3.11.2, Debian 12's, does
# not go back to where a possessive group began when the group fails half-way. The first character
# of a segment is never a dot: that keeps `..` out, and leaves the dotted names to temp files.
_SEGMENT = "[a-z0-9_-][a-z0-9._-]{0,254}"
is_segment = re.compile(_SEGMENT).fullmatch
is_key = re.compile(f"(?:{_SEGMENT}/)*{_SEGMENT}").fullmatch
_is_prefix = re.compile(f"(?:{_SEGMENT}/)*(?:{_SEGMENT})?").fullmatch


class Storage(Protocol):
    """Immutable objects under keys. This text is the contract every backend keeps.

    A key is relative: segments of ``[a-z0-9._-]`` joined by ``/``, none empty, none longer than
    255, none beginning with a dot, at most 1024 in all. No key is the folder of another one.
    Any other text raises `StorageError` and touches nothing.

    Objects are never changed and never removed through this seam. An instance may be shared by
    threads, and used in a child after a fork.
    """

    @property
    def url(self) -> str:
        """What `open_storage` takes to open this same store again, in any folder."""

    @property
    def durable(self) -> bool:
        """Whether a `create` that returned outlives a power cut."""

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        """Make the object, exclusively and whole: of many writers one wins, and nobody ever
        reads a part of it.

        Returns if the object is new, or if these very bytes are there already (one's own write
        whose answer was lost). A stream is read to its end in pieces of `CHUNK_BYTES`; what its
        ``read`` raises comes out unchanged, and leaves nothing behind.

        ``repair`` is for content-addressed objects only: other bytes that are there are damage,
        and are replaced atomically.

        Raises `KeyExistsError` if other bytes are there, `StorageError` if the storage failed, and
        of that `OutcomeUnknownError` if the object may be there, or is and may not last. A new
        ``create`` of the same bytes is safe then, and tells.
        """

    def read(self, key: str) -> bytes:
        """The bytes of an object, all of them.

        Raises `KeyMissingError` if there is none, `StorageError` if it cannot be read.
        """

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        """`read` for many keys: one pair for each, in any order, in bounded memory.

        What `read` would raise for a key stands in the place of its bytes, so that one
        unreadable object leaves the others readable.
        """

    def stream(self, key: str) -> BinaryIO:
        """An object as a file open for reading, for what is too large for `read`. Close it.

        Raises what `read` raises; later reads of the file raise ``OSError`` as they come.
        """

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        """Every key that begins with ``prefix``, in any order: none if there is none.

        The prefix is plain text (``runs/k/attempts/ab`` finds ``runs/k/attempts/abc.json``),
        and whatever lies below it is listed, however deep. An object whose ``create`` returned
        before the call is listed. Things in the store that are no objects (temp files, names
        that are no keys) are not.

        ``shallow``: not what lies below a further ``/``, but the folder, once, with the ``/`` at
        its end (S3's ``Delimiter``).

        Raises `StorageError` if the storage cannot be listed, at the call or while iterating.
        Cost: one listing of each folder that can hold such a key.
        """


def is_near(storage: Storage) -> bool:
    """Whether a read costs no request: of a disk, of memory, or of an exported file."""
    return "://" not in storage.url or storage.url.startswith("memory://")


def one_by_one(
    read: Callable[[str], bytes], keys: Iterable[str]
) -> Iterator[tuple[str, bytes | StorageError]]:
    """`Storage.read_many` of a storage that has nothing to gain from many at once."""

    # A function of its own: an error that a suspended generator binds holds its own frame.
    def answer(key: str) -> bytes | StorageError:
        try:
            return read(key)
        except StorageError as error:
            return error

    return ((key, answer(key)) for key in keys)


def read_all(
    storage: Storage, keys: Iterable[str], *, skip_missing: bool = False
) -> Iterator[tuple[str, bytes]]:
    """`Storage.read_many` where all of them are needed: what cannot be read is raised.

    :param skip_missing: leave out what is not there.
    """
    # No frame that the error goes through is left with a name for it: the error would hold itself,
    # and all that these frames have in hand, until the garbage collector comes by.
    failed: StorageError | None = None
    for key, data in storage.read_many(keys):
        if isinstance(data, bytes):
            yield key, data
        elif not (skip_missing and isinstance(data, KeyMissingError)):
            failed = data
            break
    data = b""
    try:
        if failed is not None:
            raise failed
    finally:
        del failed


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """A stream, in pieces of `CHUNK_BYTES`."""
    while piece := stream.read(CHUNK_BYTES):
        yield piece


def check_key(key: str, url: str) -> None:
    """Raise `StorageError` unless ``key`` is a key; ``url`` is for the message. Under 1 us."""
    if is_key(key) is None or len(key) > MAX_KEY_BYTES:
        raise StorageError(
            f"{key[:80]!r} is not a key of the store {url}",
            advice="give segments of [a-z0-9._-] joined by '/', none empty, none beginning with a "
            f"dot or longer than 255, and at most {MAX_KEY_BYTES} long in all",
            key=key,
            url=url,
        )


def check_prefix(prefix: str, url: str) -> None:
    """Raise `StorageError` unless some key could begin with ``prefix``."""
    if _is_prefix(prefix) is None:
        raise StorageError(
            f"{prefix[:80]!r} is not the beginning of any key of the store {url}",
            advice="give segments of [a-z0-9._-] joined by '/', without a leading '/'",
            key=prefix,
            url=url,
        )


def missing(key: str, url: str) -> KeyMissingError:
    """The error to raise for a key that holds nothing."""
    return KeyMissingError(f"There is no {key} in {url}.", key=key, url=url)


def taken(key: str, url: str) -> KeyExistsError:
    """The error to raise for a key that holds other bytes than are to be created."""
    return KeyExistsError(
        f"{key} in {url} holds other bytes already", advice="read it to see whose", key=key, url=url
    )


def has_single_writer(storage: Storage) -> bool:
    """Whether it was promised that nobody else writes there."""
    return bool(getattr(storage, "single_writer", False))


def assume_single_writer(storage: Storage) -> None:
    """From now on look before each create, as a single writer was promised earlier. Nothing, for a
    storage that creates exclusively, as a copy of the store on a disk."""
    if hasattr(storage, "single_writer"):
        storage.single_writer = True
