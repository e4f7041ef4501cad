"""What was read from a bucket once, kept on this machine and never read again.

Only what cannot have changed is taken from here, so a listing is all that is asked for:

* blobs and packs are named by the digest of their content;
* other records of a run have names that a run of the same id would use again, if this one was
  removed and another made. So they are kept with the *tag* (ETag and size) that the listing gave,
  and used only if the listing of now gives the same. Whoever reads a history lists first, so this
  costs nothing; for ``run.json``, which is read by name, one key is listed in place of the GET.

What no listing of this process gave a tag for is read from the storage. The tag is asked for before
the bytes: should they change in between, the entry is one that no listing ever matches.

Everything is checked against its digest when it is read here; what is damaged is dropped, and read
from the storage. No failure of the cache (full disk, no permission) is a failure of a read.

On the disk: records in one file for each run, appended to in large pieces (10,000 small files take
eight times as long to write, and sqlite's locks do not suit a shared home); blobs and packs in a
file each, made under a temp name and renamed.
Processes share all of it without locks: the worst that can happen is that an entry is lost.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, cast

from runstore.cache.files import Log, Objects, Room
from runstore.errors import RecordDamagedError, StorageError
from runstore.records import keys
from runstore.records.framing import unframe
from runstore.storage import CHUNK_BYTES, Storage, assume_single_writer, has_single_writer
from runstore.storage.capabilities import Dated, Tagged
from runstore.storage.client import Info

__all__ = ["LIMIT_BYTES", "CachedStorage", "cached", "default_folder"]

LIMIT_BYTES = 1 << 30
"""How much is kept; what was used longest ago goes first."""

_VERSION = "v1"
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
    """A `Storage` over one that is `Tagged`. The three verbs, and `info`, which is always asked
    anew: whoever looks after a store must not be told what was in it."""

    def __init__(self, storage: Storage, folder: str, limit: int = LIMIT_BYTES) -> None:
        assert isinstance(storage, Tagged)
        self.storage = storage
        self.folder = folder
        self.limit = limit
        # A bucket of one name is another one at another endpoint; tags and digests tell them apart.
        name = hashlib.sha256(storage.url.encode()).hexdigest()[:32]
        self._home = os.path.join(folder, _VERSION, name)
        self._room = Room(folder, limit)
        self._objects = Objects(self._room, os.path.join(self._home, "objects"))
        self._logs: dict[str, Log] = {}
        self._tags: dict[str, str] = {}
        self._lock = threading.RLock()
        self._pid = os.getpid()

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

    # -- the three verbs -------------------------------------------------------------------------

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
            self._flush()
        return found

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        missing = []
        for key in keys:
            found = self._find(key)
            if found is None:
                missing.append(key)
            else:
                yield key, found
        if not missing:
            return
        try:
            for key, data in self.storage.read_many(missing):
                if isinstance(data, bytes):
                    self._keep(key, data)
                yield key, data
        finally:
            self._flush()

    def stream(self, key: str) -> BinaryIO:
        name = _content(key)
        if not name:
            return self.storage.stream(key)
        file = self._objects.open(name)
        if file is not None:
            with suppress(OSError):
                if _is_content(file, name, pack=_is_pack(key)):
                    file.seek(0)
                    return file
            file.close()
            self._objects.drop(name)
        source = self.storage.stream(key)
        if _is_pack(key):
            return source
        return cast(BinaryIO, io.BufferedReader(_Kept(source, self._objects, name), CHUNK_BYTES))

    def info(self, key: str) -> Info:
        assert isinstance(self.storage, Dated)
        return self.storage.info(key)

    # -- the cache -------------------------------------------------------------------------------

    def _find(self, key: str, *, ask: bool = False) -> bytes | None:
        name = _content(key)
        if name:
            return self._content(key, name)
        run = _run_of(key)
        if not run:
            return None
        tag = self._tags.get(key, "")
        if ask and key.endswith(f"/{keys.RUN}"):
            # Read by name: whether it still is that run is asked anew each time.
            self._tags.pop(key, None)
            tag = self._ask(key)
            if tag:
                self._tags[key] = tag
        if not tag:
            return None
        with self._mine():
            log = self._log(run)
            data = log.get(key, tag)
            if data is not None:
                try:
                    unframe(data, key)
                except RecordDamagedError:
                    log.drop(key)
                    data = None
        return data

    def _ask(self, key: str) -> str:
        """The tag of one key. One listing."""
        assert isinstance(self.storage, Tagged)
        try:
            return dict(self.storage.entries(key)).get(key, "")
        except StorageError as error:
            if error.facts.get("answer") == "refused":  # who may not list may perhaps read
                return ""
            raise

    def _content(self, key: str, name: str) -> bytes | None:
        file = self._objects.open(name)
        if file is None:
            return None
        try:
            with file:
                data = file.read()
        except OSError:
            return None
        if _digest(key, data) == name:
            return data
        self._objects.drop(name)
        return None

    def _keep(self, key: str, data: bytes) -> None:
        name = _content(key)
        if name:
            if _digest(key, data) == name:
                self._objects.put(name, data)
            return
        run, tag = _run_of(key), self._tags.get(key, "")
        if run and tag:
            try:
                unframe(data, key)
            except RecordDamagedError:
                return
            with self._mine():
                self._log(run).put(key, tag, data)

    def _flush(self) -> None:
        with self._mine():
            for log in self._logs.values():
                log.flush()

    def _log(self, run: str) -> Log:
        log = self._logs.get(run)
        if log is None:
            name = hashlib.sha256(run.encode()).hexdigest()[:32]
            log = self._logs[run] = Log(self._room, os.path.join(self._home, f"{name}.records"))
        return log

    def _mine(self) -> threading.RLock:
        if self._pid != os.getpid():  # forked: somebody else may have held the lock
            self._lock, self._logs, self._pid = threading.RLock(), {}, os.getpid()
        return self._lock


def _run_of(key: str) -> str:
    """The folder of the run that a record belongs to; empty for what is not kept."""
    parts = key.split("/", 2)
    return f"{parts[0]}/{parts[1]}/" if len(parts) == 3 and key.startswith(keys.RUNS) else ""


def _is_pack(key: str) -> bool:
    return f"/{keys.PACKS}" in key


def _content(key: str) -> str:
    """The digest that names an object, if one does."""
    rest = key.split("/", 3)[-1]
    if rest.startswith(keys.BLOBS):
        return rest.rpartition("/")[2]
    if rest.startswith(keys.PACKS):
        return rest[len(keys.PACKS) : -len(".json")]
    return ""


def _digest(key: str, data: bytes) -> str:
    if not _is_pack(key):
        return hashlib.sha256(data).hexdigest()
    try:
        return unframe(data, key)[1]
    except RecordDamagedError:
        return ""


def _is_content(file: BinaryIO, name: str, *, pack: bool) -> bool:
    if pack:
        return _digest(keys.PACKS, file.read()) == name
    digest = hashlib.sha256()
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest() == name


class _Kept(io.RawIOBase):
    """A blob on its way from the storage, which is kept when all of it has come."""

    def __init__(self, source: BinaryIO, objects: Objects, name: str) -> None:
        self._source = source
        self._objects = objects
        self._name = name
        self._digest = hashlib.sha256()
        self._size = 0
        self._copy = objects.begin(name)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type] # typeshed: any writable buffer
        data = self._source.read(len(view))
        view[: len(data)] = data
        if data:
            self._add(data)
        else:
            self._end()
        return len(data)

    def _add(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        if self._copy is not None:
            try:
                if not self._objects.fits(self._size):
                    raise OSError
                self._copy[0].write(data)
            except OSError:
                self._give_up()

    def _end(self) -> None:
        if self._copy is not None and self._digest.hexdigest() == self._name:
            file, temp = self._copy
            try:
                file.close()
                self._objects.finish(self._name, temp, self._size)
            except OSError:
                pass
            else:
                self._copy = None
        self._give_up()

    def _give_up(self) -> None:
        if self._copy is not None:
            file, temp = self._copy
            self._copy = None
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                os.unlink(temp)

    def close(self) -> None:
        if not self.closed:
            self._give_up()
            self._source.close()
        super().close()
