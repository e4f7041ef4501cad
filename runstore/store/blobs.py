"""Values and files as content-addressed blobs: streamed, hashed when written, checked when read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple, cast

import orjson

from runstore.canonical import dumps, exact, loads
from runstore.copies import copied, snapshot
from runstore.errors import (
    BlobDamagedError,
    BlobMissingError,
    CodecError,
    KeyMissingError,
    StorageError,
    ValueNotJsonError,
)
from runstore.plan.digests import holds_blob
from runstore.records import Blob, keys
from runstore.storage import CHUNK_BYTES, Storage

__all__ = ["INLINE_BYTES", "Blobs", "Value", "checked", "inline"]

INLINE_BYTES = 16_384
"""A value whose canonical JSON is longer goes into a blob (FORMAT.md, section 5)."""


class Value(NamedTuple):
    """A JSON value that was checked: a copy of nobody else's."""

    value: Any
    canonical: bytes


def checked(value: object, what: str) -> Value:
    """A copy of a value as it is now, and its bytes.

    :raises ValueNotJsonError: naming ``what``, if JSON cannot hold it.
    """
    own = snapshot(value)
    try:
        return Value(own, dumps(own))
    except ValueNotJsonError as error:
        raise error.reworded(f"{what} is no JSON value: {error.problem}") from None


def inline(value: Value) -> tuple[Any] | None:
    """A value as it will be read from a record, if one can hold it."""
    if len(value.canonical) > INLINE_BYTES:
        return None
    try:
        # As deep as it will stand in a record, which orjson must be able to write.
        text = orjson.dumps({"": {"": {"": value.value}}}, option=orjson.OPT_STRICT_INTEGER)
    except (orjson.JSONEncodeError, RecursionError):
        return None  # an integer beyond 2^53, or nesting beyond orjson's
    return (orjson.loads(text)[""][""][""],)


class Blobs:
    """The blobs of one run.

    :param prefix: the run's, as :func:`runstore.records.keys.run_prefix` gives it.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix

    def key(self, sha256: str) -> str:
        return keys.blob_key(self.prefix, sha256)

    def put(self, data: bytes) -> Blob:
        """Keep some bytes. One create, none if they are there."""
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        self.storage.create(self.key(blob.sha256), data, repair=True)
        return blob

    def put_file(self, file: BinaryIO, *, size: int = 0, executable: bool = False) -> Blob:
        """Keep a file: read once to learn its name, once to write it, never wholly in memory.

        :param size: how large it is, if that is known: it may grow as quickly as it is read.
        :param executable: whether it is to be executable when it is a file again.
        :raises StorageError: if it changed in between; nothing is left then.
        """
        digest = hashlib.sha256()
        seen = 0
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            seen += len(chunk)
            if seen > size > 0:
                raise _changed(file)
        file.seek(0)
        blob = Blob(digest.hexdigest(), seen, executable=executable)
        same = cast(BinaryIO, _Checked(file, blob.sha256, lambda: _changed(file)))
        self.storage.create(self.key(blob.sha256), same, repair=True)
        return blob

    def value(self, value: object, what: str) -> Any:
        """A JSON value as a record keeps it: a copy, or a :class:`Blob` of it.

        :raises ValueNotJsonError: naming ``what``, if JSON cannot hold it.
        """
        return self.keep(checked(value, what))

    def keep(self, value: Value) -> Any:
        """:meth:`value`, of one that was checked. One create for a large one, else none."""
        if kept := inline(value):
            return kept[0]
        blob = self.put(exact(value.value))
        return Blob(blob.sha256, blob.size, hashlib.sha256(value.canonical).hexdigest())

    def read(self, blob: Blob) -> bytes:
        """The bytes of a blob, checked.

        :raises BlobMissingError, BlobDamagedError: naming it.
        """
        with self._there(blob):
            data = self.storage.read(self.key(blob.sha256))
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise self._damaged(blob)
        return data

    def load(self, value: Any, what: str = "a value") -> Any:
        """A value as a record keeps it, as the caller's own: fetched if it stands in a blob, in
        lists too, else copied.

        :param what: whose it is, for the message.
        :raises BlobMissingError, BlobDamagedError: naming the blob.
        :raises CodecError: for one that is not JSON, naming ``what`` and the codec. It is not read.
        """
        if type(value) is Blob:
            if value.codec is not None:
                key = self.key(value.sha256)
                raise CodecError(
                    f"{what} is in the unknown codec {value.codec!r:.80}",
                    advice="upgrade runstore, or make the value again with one that is JSON (its "
                    f"bytes are blob {key})",
                    key=key,
                    codec=value.codec,
                )
            try:
                return loads(self.read(value))
            except ValueNotJsonError as error:
                raise self._damaged(value, f"holds no value that can be read ({error})") from None
        if type(value) is list and holds_blob(value):
            return [self.load(item, what) for item in value]
        return copied(value)

    def copy_to(self, blob: Blob, path: str, *, dir_fd: int | None = None) -> None:
        """Write a blob to a file, checked, executable if it is to be; the file appears whole or
        not at all, in place of one that was there.

        :param path: below the folder that is open as ``dir_fd``, if that is given; else its own
            folder is made.
        :raises BlobMissingError, BlobDamagedError: naming it.
        """
        folder, _, name = path.rpartition("/")
        if folder and dir_fd is None:
            os.makedirs(folder, exist_ok=True)
        # Of its own: threads that load the same name into one folder must not share it. Short:
        # the name itself may be as long as any can be.
        temp = os.path.join(path[: len(path) - len(name)], f".runstore-{os.urandom(8).hex()}")
        with self._there(blob), self.stream(blob) as source:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            mode = 0o777 if blob.executable else 0o666  # less the umask, as of any new file
            fd = os.open(temp, flags, mode, dir_fd=dir_fd)
            try:
                with open(fd, "wb") as target:
                    while chunk := source.read(CHUNK_BYTES):
                        target.write(chunk)
                os.replace(temp, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temp, dir_fd=dir_fd)
                raise

    def check(self, blob: Blob) -> None:
        """Read a blob through, in pieces.

        :raises BlobMissingError, BlobDamagedError: naming it.
        """
        with self._there(blob), self.stream(blob) as source:
            while source.read(CHUNK_BYTES):
                pass

    @contextmanager
    def stream(self, blob: Blob) -> Iterator[BinaryIO]:
        """A blob to be read in pieces, until one is empty.

        :raises KeyMissingError: if it is not there.
        :raises BlobDamagedError: at the end of its bytes, if they are not what its name says.
        """
        with self.storage.stream(self.key(blob.sha256)) as source:
            yield cast(BinaryIO, _Checked(source, blob.sha256, lambda: self._damaged(blob)))

    @contextmanager
    def _there(self, blob: Blob) -> Iterator[None]:
        try:
            yield
        except KeyMissingError:
            key = self.key(blob.sha256)
            raise BlobMissingError(
                f"blob {key} is missing from {self.storage.url}",
                advice=f"copy it there, {_AGAIN}",
                key=key,
                sha256=blob.sha256,
            ) from None

    def _damaged(self, blob: Blob, problem: str = "does not match its digest") -> BlobDamagedError:
        key = self.key(blob.sha256)
        return BlobDamagedError(
            f"blob {key} in {self.storage.url} {problem}",
            advice=f"restore it, {_AGAIN}",
            key=key,
            sha256=blob.sha256,
        )


_AGAIN = (
    "or make it again: retry, with --force for its step; of a parameter of the run: fork, with "
    "--param; a log cannot be made again"
)


class _Checked:
    """A stream that raises at its end if its bytes are not those that a digest names."""

    def __init__(self, file: BinaryIO, sha256: str, differs: Callable[[], Exception]) -> None:
        self._file = file
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._differs = differs

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        if (not chunk or size < 0) and self._digest.hexdigest() != self._sha256:
            raise self._differs()
        return chunk


def _changed(file: BinaryIO) -> StorageError:
    return StorageError(
        f"{getattr(file, 'name', 'the file')} changed while it was being saved",
        advice="save it when it is complete",
    )
