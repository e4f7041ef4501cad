"""Bytes by store and key, in one SQLite file of bounded size.

It never raises for what a disk or another process does: what cannot be written is not kept, and a
damaged file is removed and begun anew.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, TypeVar

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = ["Database"]

_T = TypeVar("_T")

_PART_BYTES = 1 << 20
_FLUSH_BYTES = 4 << 20
_WAIT_SECONDS = 2.0
_USED_SECONDS = 3600.0
"""How often the time of an object's last use is written at most."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    id INTEGER PRIMARY KEY, store TEXT, key TEXT, tag TEXT, size INTEGER, used REAL, digest BLOB,
    UNIQUE (store, key)
);
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER, part INTEGER, data BLOB, PRIMARY KEY (id, part)
);
CREATE INDEX IF NOT EXISTS oldest ON objects (used);
"""

_READ = """
SELECT objects.id, tag, used, digest, data FROM objects JOIN parts ON parts.id = objects.id
WHERE store = ? AND key = ? ORDER BY part
"""


class Database:
    """Safe to use from threads and after a fork; processes share the file.

    :param limit: how large the file may grow, in bytes. What was used longest ago goes first.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[object] = []  # never closed: SQLite's locks are the parent's
        self._refused = False
        self._pending: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._size = 0
        self._used: set[int] = set()

    def get(self, store: str, key: str) -> tuple[str, bytes] | None:
        """The tag and the bytes under a key, as they were put there."""
        pending = self._pending.get((store, key))
        if pending:
            return pending
        pieces: list[bytes] = []
        tag = self._read(store, key, pieces.append)
        return None if tag is None else (tag, b"".join(pieces))

    def copy(self, store: str, key: str, target: BinaryIO) -> bool:
        """Write the bytes under a key to a file. ``False`` if there are none, or not all: then
        what was written is to be thrown away."""
        return self._read(store, key, target.write) is not None

    def _read(self, store: str, key: str, take: Callable[[bytes], object]) -> str | None:
        """Give the bytes under a key in pieces; the tag, once it is known that they are whole."""

        def read(connection: sqlite3.Connection) -> tuple[int, str, bool] | None:
            row = seen = None
            for row in connection.execute(_READ, (store, key)):
                seen = seen or _begun(store, key, row[1])
                seen.update(row[4])
                take(row[4])
            if row is None or seen is None:
                return None
            object_id, tag, used, digest, _ = row
            if time.time() - used > _USED_SECONDS:
                self._used.add(object_id)
            return object_id, tag, seen.digest() == digest

        found = self._try(read)
        if found is None:
            return None
        object_id, tag, whole = found
        if not whole:
            self._write(lambda connection: _delete(connection, object_id))
        return tag if whole else None

    def put(self, store: str, key: str, tag: str, data: bytes) -> None:
        """Keep some bytes, with those that are put after them: see :meth:`flush`."""
        if self.fits(len(data)):
            with self._mine():
                self._pending[store, key] = tag, data
                self._size += len(data)
            if self._size >= _FLUSH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what was put, and what was used."""
        with self._mine():
            pending, self._pending, size, self._size = self._pending, {}, self._size, 0
            used, self._used = self._used, set()
        if not pending and not used:
            return

        def write(connection: sqlite3.Connection) -> None:
            now = time.time()
            connection.executemany(
                "UPDATE objects SET used = ? WHERE id = ?", [(now, each) for each in used]
            )
            self._make_room(connection, size)
            for (store, key), (tag, data) in pending.items():
                self._insert(connection, store, key, tag, len(data), iter([data]))

        self._write(write)

    def put_file(self, store: str, key: str, file: BinaryIO, size: int) -> None:
        """Keep the bytes of a file."""

        def write(connection: sqlite3.Connection) -> None:
            self._make_room(connection, size)
            parts = iter(lambda: file.read(_PART_BYTES), b"")
            self._insert(connection, store, key, "", size, parts)

        if self.fits(size):
            self._write(write)

    def close(self) -> None:
        """Write what was put, and close the file. It is opened again when it is asked for."""
        self.flush()
        with self._mine():
            self._close()

    def fits(self, size: int) -> bool:
        return size <= self._limit // 2

    def _insert(
        self,
        connection: sqlite3.Connection,
        store: str,
        key: str,
        tag: str,
        size: int,
        parts: Iterator[bytes],
    ) -> None:
        for (old,) in connection.execute(
            "SELECT id FROM objects WHERE store = ? AND key = ?", (store, key)
        ).fetchall():
            _delete(connection, old)
        made = connection.execute(
            "INSERT INTO objects (store, key, tag, size, used) VALUES (?, ?, ?, ?, ?)",
            (store, key, tag, size, time.time()),
        ).lastrowid
        seen = _begun(store, key, tag)
        for part, data in enumerate(itertools.chain([next(parts, b"")], parts)):
            seen.update(data)
            connection.execute("INSERT INTO parts VALUES (?, ?, ?)", (made, part, data))
        connection.execute("UPDATE objects SET digest = ? WHERE id = ?", (seen.digest(), made))

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        """Remove what was used longest ago, until the file can take so many bytes and a tenth more
        without growing past the limit."""
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        wanted = size + size // 10 + 16 * page
        if (pages - free) * page + wanted <= self._limit:
            return
        surplus = (pages - free) * page + wanted - self._limit * 9 // 10
        for object_id, freed in connection.execute(
            "SELECT id, size FROM objects ORDER BY used, id"
        ).fetchall():
            if surplus <= 0:
                break
            _delete(connection, object_id)
            surplus -= freed

    def _write(self, write: Callable[[sqlite3.Connection], None]) -> None:
        def whole(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back
                write(connection)

        self._try(whole)

    def _try(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        with self._mine():
            if self._refused:
                return None
            try:
                if self._connection is None:
                    self._connection = self._open()
                return work(self._connection)
            except sqlite3.OperationalError as error:
                # Somebody else is writing; else a disk that refuses is not asked again.
                self._refused = "locked" not in str(error)
            except (sqlite3.Error, UnicodeError):
                self._close()
                with suppress(OSError):
                    os.unlink(self._path)
            except OSError:
                self._refused = True
            return None

    def _open(self) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, _close, connection, os.getpid())
        # What a power cut takes is read from the store again.
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            _close(self._connection, self._pid)
            self._connection = None

    def _mine(self) -> threading.RLock:
        if self._pid != os.getpid():  # forked: another thread may have held the lock
            self._inherited.append(self._connection)
            self._lock, self._connection, self._pid = threading.RLock(), None, os.getpid()
        return self._lock


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if os.getpid() == pid:  # in a child it is the parent's: its locks would go with it
        with suppress(sqlite3.Error):
            connection.close()


def _delete(connection: sqlite3.Connection, object_id: int) -> None:
    connection.execute("DELETE FROM objects WHERE id = ?", (object_id,))
    connection.execute("DELETE FROM parts WHERE id = ?", (object_id,))


def _begun(store: str, key: str, tag: str) -> Hash:
    """The digest of an object, to which its bytes are still to be added. It covers the key too, so
    that an object in the place of another one is found."""
    return hashlib.sha256("\0".join((store, key, tag, "")).encode("utf-8", "surrogatepass"))
