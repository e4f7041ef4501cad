"""Large objects on their way: streams in, ranges out, in bounded memory."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

from runstore.errors import StorageError
from runstore.storage.base import CHUNK_BYTES

__all__ = ["PART_BYTES", "RangeFile", "Spool"]

PART_BYTES = 8 << 20
"""What is larger travels in parts of this size, and waits for it on the disk, not in memory."""


class Spool:
    """The whole of a stream, before the first byte of it is sent: a resend needs it again.

    Entering gives its bytes, or, if there are more than `PART_BYTES`, the name of a temp file;
    with ``in_memory`` always bytes, and `StorageError` if there are more than ``limit``.
    """

    def __init__(
        self, data: bytes | BinaryIO, *, in_memory: bool, limit: int, key: str = ""
    ) -> None:
        self._data = data
        self._in_memory = in_memory
        self._limit = limit
        self._key = key
        self._file = ""

    def __enter__(self) -> bytes | str:
        if isinstance(self._data, bytes):
            return self._data
        pieces: list[bytes] = []
        size = 0
        stream = self._data
        while piece := stream.read(CHUNK_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > self._limit and self._in_memory:
                raise StorageError(
                    f"{self._key} is larger than {self._limit} bytes",
                    advice="keep it as an artifact",
                    key=self._key,
                )
            if size > PART_BYTES and not self._in_memory:
                return self._to_file(pieces, stream)
        return b"".join(pieces)

    def _to_file(self, pieces: list[bytes], stream: BinaryIO) -> str:
        fd, self._file = tempfile.mkstemp(prefix="runstore-")
        try:
            with open(fd, "wb") as file:
                file.writelines(pieces)
                while piece := stream.read(CHUNK_BYTES):
                    file.write(piece)
        except BaseException:
            os.unlink(self._file)
            raise
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file:
            os.unlink(self._file)


class RangeFile(io.RawIOBase):
    """An object that is read forward in pieces, each asked for on its own: one lost connection
    costs one piece, and at most `PART_BYTES` are held."""

    def __init__(self, size: int, piece: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._piece = piece
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type] # typeshed: any writable buffer
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        data = self._piece(self._at, end)
        if not data or len(data) > len(view):
            raise OSError(f"asked for bytes {self._at} to {end}, got {len(data)} of them")
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        pieces = []
        while self._at < self._size:
            end = min(self._at + PART_BYTES, self._size)
            pieces.append(self._piece(self._at, end))
            self._at = end
        return b"".join(pieces)

    def buffered(self) -> BinaryIO:
        """As `Storage.stream` gives it."""
        size = min(max(self._size, 1), PART_BYTES)
        return cast(BinaryIO, io.BufferedReader(self, buffer_size=size))
