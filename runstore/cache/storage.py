"""Objects that were read from a bucket, kept on this machine.

* Blobs and packs are named by the digest of their content, and never change.
* Other records have names that a later run of the same id may use again. They are kept with the
  *tag* (ETag and size) that the listing gave before they were read, and used only if the listing
  gives the same tag now. Reading a history lists first, so this costs nothing; for ``run.json``,
  which is read by name, listing one key takes the place of the GET.

Everything is checked against its digest before it is kept and when it is used; what is damaged is
dropped, and read from the bucket. No failure of the cache (a full disk, no permission) is a failure
of a read.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

from runstore.cache.database import Database
from runstore.errors import RecordDamagedError, StorageError
from runstore.records import keys
from runstore.records.framing import stated_digest, unframe
from runstore.storage import CHUNK_BYTES, Storage, assume_single_writer, has_single_writer
from runstore.storage.capabilities import Closing, Dated, Tagged
from runstore.storage.client import Info

__all__ = ["LIMIT_BYTES", "CachedStorage", "cached", "default_folder"]

LIMIT_BYTES = 1 << 30
"""How much is kept; what was used longest ago goes first."""

_FILE = "v2.sqlite3"
_SPOOL_BYTES = 8 << 20
_MOST_TAGS = 1_000_000


def cached(storage: Storage, folder: str | None = None, limit: int = LIMIT_BYTES) -> Storage:
    """The same storage, with a cache; as it is, if its listings give no tags: a local one."""
    folder = folder or default_folder()
    if not isinstance(storage, Tagged) or not os.path.isabs(folder):
        return storage
    return CachedStorage(storage, folder, limit)


def default_folder() -> str:
    """``$XDG_CACHE_HOME/runstore``, else ``~/.cache/runstore``."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # as its specification says
        home = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "runstore")


class CachedStorage:
    """A `Storage` over one that is `Tagged`. `info` is never answered from the cache."""

    def __init__(self, storage: Storage, folder: str, limit: int = LIMIT_BYTES) -> None:
        assert isinstance(storage, Tagged)
        self.storage = storage
        self.folder = folder
        self.limit = limit
        # A bucket of one name is another one at another endpoint; tags and digests tell them apart.
        self._kept = Database(os.path.join(folder, _FILE), limit)
        self._tags: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<CachedStorage of {self.storage!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (CachedStorage, (self.storage, self.folder, self.limit))

    @property
    def url(self) -> str:
        return self.storage.url

    @property
    def durable(self) -> bool:
        return self.storage.durable

    @property
    def single_writer(self) -> bool:
        return has_single_writer(self.storage)

    @single_writer.setter
    def single_writer(self, promised: bool) -> None:
        assert promised, "what was promised is not taken back"
        assume_single_writer(self.storage)

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        self.storage.create(key, data, repair=repair)

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        if shallow:
            return self.storage.list(prefix, shallow=True)
        return self._listed(prefix)

    def _listed(self, prefix: str) -> Iterator[str]:
        assert isinstance(self.storage, Tagged)
        tags = self._tags
        if len(tags) > _MOST_TAGS:
            tags.clear()
        for key, tag in self.storage.entries(prefix):
            if tag:
                tags[key] = tag
            yield key

    def read(self, key: str) -> bytes:
        found = self._find(key, ask=True)
        if found is None:
            found = self.storage.read(key)
            self._keep(key, found)
        self._kept.flush()
        return found

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        missing = []
        try:
            for key in keys:
                found = self._find(key)
                if found is None:
                    missing.append(key)
                else:
                    yield key, found
            for key, data in self.storage.read_many(missing) if missing else ():
                if isinstance(data, bytes):
                    self._keep(key, data)
                yield key, data
        finally:
            self._kept.flush()

    def stream(self, key: str) -> BinaryIO:
        name = _content(key)
        if not name or _is_pack(key):
            return self.storage.stream(key)
        file = _spool()
        with suppress(OSError):
            if self._kept.copy(self.url, key, file):
                file.seek(0)
                self._kept.flush()
                return file
        file.close()
        source = self.storage.stream(key)
        return cast(BinaryIO, io.BufferedReader(_Kept(source, self, key, name), CHUNK_BYTES))

    def info(self, key: str) -> Info:
        assert isinstance(self.storage, Dated)
        return self.storage.info(key)

    def close(self) -> None:
        self._kept.close()
        if isinstance(self.storage, Closing):
            self.storage.close()

    def _find(self, key: str, *, ask: bool = False) -> bytes | None:
        name, tag = _content(key), self._tags.get(key, "")
        if ask and key.endswith(f"/{keys.RUN}"):
            # Read by name, without a listing before: another run may have the id by now.
            self._tags.pop(key, None)
            tag = self._ask(key)
            if tag:
                self._tags[key] = tag
        if not name and not tag:
            return None
        found = self._kept.get(self.url, key)
        return None if found is None or (not name and found[0] != tag) else found[1]

    def _ask(self, key: str) -> str:
        """The tag of one key. One listing."""
        assert isinstance(self.storage, Tagged)
        try:
            return dict(self.storage.entries(key)).get(key, "")
        except StorageError as error:
            if error.facts.get("answer") == "refused":  # who may not list may perhaps read
                return ""
            raise

    def _keep(self, key: str, data: bytes) -> None:
        name, tag = _content(key), self._tags.get(key, "")
        if (name or (tag and key.startswith(keys.RUNS))) and _is_whole(key, name, data):
            self._kept.put(self.url, key, tag, data)


def _spool() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(_SPOOL_BYTES))


def _is_pack(key: str) -> bool:
    return f"/{keys.PACKS}" in key


def _content(key: str) -> str:
    """The digest that names an object, if one does."""
    rest = key.split("/", 3)[-1]
    return keys.name_in(rest) if rest.startswith((keys.BLOBS, keys.PACKS)) else ""


def _is_whole(key: str, name: str, data: bytes) -> bool:
    """Whether what was read is what its name, or its frame, says."""
    if name and not _is_pack(key):
        return hashlib.sha256(data).hexdigest() == name
    try:
        return unframe(data, key)[1] == (name or stated_digest(data))
    except RecordDamagedError:
        return False


class _Kept(io.RawIOBase):
    """A blob on its way from the storage, which is kept when all of it has come."""

    def __init__(self, source: BinaryIO, cache: CachedStorage, key: str, name: str) -> None:
        self._source = source
        self._cache = cache
        self._key = key
        self._name = name
        self._digest = hashlib.sha256()
        self._size = 0
        self._copy: BinaryIO | None = _spool()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type] # typeshed: any writable buffer
        data = self._source.read(len(view))
        view[: len(data)] = data
        if self._copy is not None:
            try:
                self._add(data)
            except OSError:  # no room for it on this machine
                self._give_up()
        return len(data)

    def _add(self, data: bytes) -> None:
        assert self._copy is not None
        self._digest.update(data)
        self._size += len(data)
        if data and self._cache._kept.fits(self._size):
            self._copy.write(data)
            return
        if not data and self._digest.hexdigest() == self._name:
            self._copy.seek(0)
            self._cache._kept.put_file(self._cache.url, self._key, self._copy, self._size)
        self._give_up()

    def _give_up(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def close(self) -> None:
        if not self.closed:
            self._give_up()
            self._source.close()
        super().close()
