"""The storage seam: three verbs, ``create``, ``read`` and ``list``, and what each promises.

Everything above this package speaks of keys and bytes; everything a disk or a bucket does
differently is in here, once. Importing it loads no backend: `open_storage` does that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from runstore.errors import KeyMissingError, StorageError

__all__ = [
    "Storage",
    "open_storage",
    "expand_home",
    "assume_single_writer",
    "has_single_writer",
    "is_near",
    "prove",
    "read_all",
    # for the backends
    "CHUNK_BYTES",
    "MAX_KEY_BYTES",
    "check_key",
    "check_prefix",
    "is_key",
    "is_segment",
    "one_by_one",
]

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
_has_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*:/").match


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
        ...

    @property
    def durable(self) -> bool:
        """Whether a `create` that returned outlives a power cut."""
        ...

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
        ...

    def read(self, key: str) -> bytes:
        """The bytes of an object, all of them.

        Raises `KeyMissingError` if there is none, `StorageError` if it cannot be read.
        """
        ...

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        """`read` for many keys: one pair for each, in any order, in bounded memory.

        What `read` would raise for a key stands in the place of its bytes, so that one
        unreadable object leaves the others readable.
        """
        ...

    def stream(self, key: str) -> BinaryIO:
        """An object as a file open for reading, for what is too large for `read`. Close it.

        Raises what `read` raises; later reads of the file raise ``OSError`` as they come.
        """
        ...

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
        ...


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
    """`Storage.read_many` for who needs all of them: what cannot be read is raised.

    :param skip_missing: leave out what is not there.

    The error is bound in no frame that it goes through. One that is holds itself, and all that
    these frames have in hand, until the garbage collector comes by.
    """
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


def check_key(key: str, url: str) -> None:
    """Raise `StorageError` unless ``key`` is a key; ``url`` is for the message. Under 1 us."""
    if is_key(key) is None or len(key) > MAX_KEY_BYTES:
        raise StorageError(
            f"{key[:80]!r} is not a key of the store {url}: a key is relative and made of "
            f"segments of [a-z0-9._-] joined by '/', none of which is empty, begins with a dot "
            f"or is longer than 255, and at most {MAX_KEY_BYTES} long in all.",
            key=key,
            url=url,
        )


def check_prefix(prefix: str, url: str) -> None:
    """Raise `StorageError` unless some key could begin with ``prefix``."""
    if _is_prefix(prefix) is None:
        raise StorageError(
            f"{prefix[:80]!r} is not the beginning of any key of the store {url}: "
            f"give segments of [a-z0-9._-] joined by '/', without a leading '/'.",
            key=prefix,
            url=url,
        )


def open_storage(
    url: str | os.PathLike[str],
    *,
    durable: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    engine: str | None = None,
    single_writer: bool = False,
    budget: float | None = None,
) -> Storage:
    """The storage at ``url``; opening touches nothing, so a store need not be there yet.

    * a path (``~/x`` and ``~user/x`` are below a home folder), or ``file:///absolute/path`` (taken
      literally, no ``%20``): the local disk.
      ``durable=False`` skips every fsync and nothing else: creates stay exclusive and whole.
    * ``memory://NAME``: in this process; one name is one store, and it is gone with the process.
    * ``s3://``, ``gs://``, ``az://`` or ``abfs://BUCKET/PREFIX``, and any other URL fsspec opens:
      `runstore.storage.remote`. ``storage_options``, environment and profiles are those of s3fs,
      gcsfs and adlfs. ``engine``: ``"obstore"`` or ``"fsspec"``; by default obstore for s3, gs
      and az if it is installed and knows the options, else fsspec.

    ``budget``: how many seconds a remote operation goes on trying (60). ``single_writer``: the
    endpoint cannot create exclusively, and nobody else writes; local and memory stores need no
    such promise.

    Raises `StorageError` for anything else, or for what is not installed.
    """
    text = os.fspath(url)
    scheme, separator, rest = text.partition("://")
    if separator and "/" not in scheme:
        if scheme not in ("file", "memory"):
            from runstore.storage.opening import open_remote

            return open_remote(text, storage_options, engine, single_writer, budget)
        _refuse_remote_arguments(text, storage_options, engine)
        if scheme == "memory" and rest.strip("/"):
            from runstore.storage.memory import named_store

            return named_store(rest.strip("/"))
        if scheme != "file" or not rest.startswith("/"):
            raise StorageError(_refusal(text, scheme), url=text)
        text = rest
    elif not text or _has_scheme(text):
        # Path("s3://bucket") is "s3:/bucket": it would become a folder of that name, unnoticed.
        raise StorageError(
            f"{text!r} is not the place of a store: give a path, or a URL as a str with both "
            f"slashes after its colon (pathlib drops one).",
            url=text,
        )
    else:
        text = expand_home(text)
    _refuse_remote_arguments(text, storage_options, engine)
    from runstore.storage.local import LocalStorage

    return LocalStorage(text, durable=durable)


def expand_home(path: str) -> str:
    """``~`` and ``~user`` at the beginning of a path as that home folder, as a shell has it: what
    comes from a variable or a file was seen by no shell. ``./~`` is a folder of that name.

    Raises `StorageError` if nobody knows the home folder.
    """
    if not path.startswith("~"):
        return path
    user = path.partition("/")[0]
    expanded = os.path.expanduser(path)
    # An empty $HOME would be taken for the root of the disk.
    if not os.path.isabs(expanded) or (user == "~" and os.environ.get("HOME") == ""):
        why = f"there is no user {user[1:]!r}" if user != "~" else "HOME is not set to a folder"
        raise StorageError(
            f"{path!r} cannot be opened: {why}; give the whole path, or ./{path} for a folder "
            f"that is called {user}",
            url=path,
        )
    return expanded


def has_single_writer(storage: Storage) -> bool:
    """Whether it was promised that nobody else writes there."""
    return bool(getattr(storage, "single_writer", False))


def assume_single_writer(storage: Storage) -> None:
    """From now on look before each create, as that was promised earlier. A storage that needs no
    such promise, as a copy of the store on a disk, is left as it is."""
    if hasattr(storage, "single_writer"):
        storage.single_writer = True


def prove(storage: Storage) -> bool:
    """Before a store is made: whether its marker must say that it has a single writer.

    Local and memory stores cost nothing. A remote one is tried out: two creates and two reads.

    Raises `StorageError` if the endpoint does not create exclusively, and nobody has promised to
    be its only writer.
    """
    if is_near(storage):
        return False
    from runstore.storage.probe import require

    return require(storage)


def _refuse_remote_arguments(
    url: str, storage_options: Mapping[str, Any] | None, engine: str | None
) -> None:
    for name, value in (("storage_options", storage_options), ("engine", engine)):
        if value:
            raise StorageError(f"{name} is for remote stores; {url!r} is none.", url=url)


def _refusal(text: str, scheme: str) -> str:
    if scheme == "memory":
        return f"{text!r} names no store: write memory://NAME."
    return f"{text!r} is not absolute: write file:///absolute/path, or the path alone."
