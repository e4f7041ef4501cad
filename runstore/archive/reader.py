"""An exported run (``run.json``) as a read-only storage, so that every reading command takes it.

Only the layout is checked here: who reads records and blobs checks their digests, as from any
storage, and an import checks everything. A file that was reformatted (``jq .``) is refused.
"""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, BinaryIO, NoReturn

from runstore.archive.format import (
    FORMAT,
    PIECE_BYTES,
    Entry,
    Layout,
    LayoutError,
    Limits,
    Manifest,
    head,
    is_hex,
    parse_line,
    version_of,
)
from runstore.errors import ImportRefusedError, PathError, StorageError
from runstore.records import keys
from runstore.records.framing import stated_digest
from runstore.storage import check_key, check_prefix, missing, one_by_one

__all__ = ["Check", "ExportedStorage"]

_NOT_OURS = "it is no exported run, or one that was reformatted (by jq, by an editor)"

Check = Callable[[str, str, Iterable[Entry]], Iterator[Entry]]
"""Given the run's id and nonce and the objects, lets them pass, or raises."""


class ExportedStorage:
    """An exported file as a `Storage` that holds one run; ``create`` raises `StorageError`.

    Opening it reads the file once, and keeps where each object stands.

    :param check: sees every object on the way.
    :raises ImportRefusedError: if the file is no export, or is not whole.
    :raises StorageError: if it cannot be read.
    """

    durable = True  # there is no create that could be lost

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        *,
        check: Check | None = None,
    ) -> None:
        self.url = os.path.abspath(path)
        self.run_id = ""
        self._limits = limits
        self._check = check
        self._index: dict[str, tuple[int, int, str]] = {}
        """Key -> where its first line begins, where its last one ends, its digest."""
        try:
            with open(self.url, "rb", PIECE_BYTES) as file:
                self._scan(file)
                self._fd = os.dup(file.fileno())
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"cannot read {self.url}: {error.strerror or error}", url=self.url
            ) from error
        self._closed = weakref.finalize(self, os.close, self._fd)

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        raise StorageError(
            f"{self.url} is an exported file, which is read-only",
            advice="`runstore import` it into a store",
            key=key,
            url=self.url,
        )

    def close(self) -> None:
        self._closed()

    def read(self, key: str) -> bytes:
        begin, end, digest = self._where(key)
        if not digest:
            with self.stream(key) as pieces:
                return pieces.read()
        entry = self._line(begin, end)
        if stated_digest(entry.data) != digest:
            self._changed(key)
        return entry.data

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        return one_by_one(self.read, keys)

    def stream(self, key: str) -> BinaryIO:
        begin, end, digest = self._where(key)
        if digest:
            return io.BytesIO(self.read(key))
        return io.BufferedReader(_Pieces(self, begin, end), PIECE_BYTES)

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        check_prefix(prefix, self.url)
        found = [key for key in self._index if key.startswith(prefix)]
        if not shallow:
            return iter(found)
        at = prefix.rpartition("/")[0] + "/" if "/" in prefix else ""
        return iter({at + "".join(key[len(at) :].partition("/")[:2]) for key in found})

    def _where(self, key: str) -> tuple[int, int, str]:
        check_key(key, self.url)
        try:
            return self._index[key]
        except KeyError:
            raise missing(key, self.url) from None

    def _line(self, begin: int, end: int) -> Entry:
        try:
            line = self._pread(end - begin, begin)  # one call, below 2 GiB
            return parse_line(line.rstrip(b",\n"), 0)
        except ValueError:
            self._changed(f"offset {begin}")

    def _pread(self, size: int, at: int) -> bytes:
        if not self._closed.alive:  # by now its descriptor may be that of another file
            raise StorageError(f"{self.url} was closed", advice="open it again", url=self.url)
        return os.pread(self._fd, size, at)

    def _next_line(self, begin: int, end: int) -> bytes:
        """The line that begins there, of those that end at ``end``. ``ValueError`` if none does."""
        size = 2 * PIECE_BYTES
        while True:
            data = self._pread(min(size, end - begin), begin)
            at = data.find(b"\n")
            if at >= 0:
                return data[: at + 1]
            if len(data) < size:
                raise ValueError("a line is cut short")
            size *= 2

    def _changed(self, what: str) -> NoReturn:
        raise StorageError(
            f"{self.url} has changed since it was opened, at {what}",
            advice="do it again",
            url=self.url,
        )

    def _refuse(self, problem: str, line: int = 0) -> NoReturn:
        where = f", line {line}" if line else ""
        raise ImportRefusedError(
            f"{self.url}{where}: {problem}",
            advice="copy the file again, or export the run again",
            path=self.url,
            where=line,
        )

    def _scan(self, file: IO[bytes]) -> None:
        first = file.readline(self._limits.line_bytes)
        try:
            found = head(first)
            if found is None:
                if (version := version_of(first)) not in ("", FORMAT):
                    raise ImportRefusedError(
                        f"{self.url} is of the format {version!r:.60}, and this runstore reads "
                        f"{FORMAT}",
                        advice="upgrade runstore",
                        path=self.url,
                        where=1,
                    )
                self._refuse(_NOT_OURS if first else "it is empty", 1)
            run_id, nonce, artifacts = found
            prefix = keys.run_prefix(run_id, nonce)
            own = keys.run_key(run_id)
        except ImportRefusedError:
            raise
        except (PathError, ValueError) as error:
            self._refuse(str(error), 1)
        if artifacts not in ("none", "needed", "all"):
            self._refuse(f"it says {artifacts!r:.40} of its artifacts", 1)
        self.run_id = run_id
        layout = Layout(file, len(first), self._limits)
        manifest = Manifest()
        entries: Iterable[Entry] = layout.entries()
        if self._check is not None:
            entries = self._check(run_id, nonce, entries)
        number = 1
        try:
            last = ""
            for entry in entries:
                number = entry.line
                key = own if entry.key == keys.RUN else prefix + entry.key
                if entry.part:  # it follows its part before, or Layout would have refused it
                    self._index[last] = (self._index[last][0], layout.end, "")
                    continue
                if key in self._index:
                    raise LayoutError(f"{entry.key} is in it twice")
                check_key(key, self.url)
                record = entry.kind == "record"
                stated = stated_digest(entry.data) if record else entry.name
                if record and not is_hex(stated):
                    raise LayoutError(f"{entry.key} is not in the framing of a record")
                self._index[key] = (layout.begin, layout.end, stated if record else "")
                manifest.add(entry.key, stated)
                if manifest.count > self._limits.objects:
                    raise LayoutError(f"it has more than {self._limits.objects} objects")
                last = key
        except LayoutError as error:
            self._refuse(str(error), layout.number)
        except StorageError as error:
            self._refuse(error.problem, number)
        if (layout.count, layout.digest) != (manifest.count, manifest.digest()):
            self._refuse(f"its last line counts {layout.count} objects and there are "
                         f"{manifest.count}, or others")  # fmt: skip


class _Pieces(io.RawIOBase):
    """The pieces of one blob as a file."""

    def __init__(self, storage: ExportedStorage, begin: int, end: int) -> None:
        self._storage = storage
        self._at = begin
        self._end = end
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            if self._at >= self._end:
                return 0
            try:
                line = self._storage._next_line(self._at, self._end)
                self._at += len(line)
                self._left = memoryview(parse_line(line.rstrip(b",\n"), 0).piece())
            except ValueError:
                raise StorageError(
                    f"{self._storage.url} holds a piece that is no base64",
                    advice="export the run again",
                    url=self._storage.url,
                ) from None
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
