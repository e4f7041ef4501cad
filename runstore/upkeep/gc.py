"""Finding and removing what nobody will ever use:

* unfinished writes on a local disk (``.tmp-*``) whose process was killed;
* what belongs to no run: of an import, fork or removal that did not finish;
* blobs that no record of their run names: of attempts that were lost;
* ``probe/``: what trying out an endpoint leaves.

A blob is written before the record that names it, and an import writes ``run.json`` last. So what
is younger than an age stays, and blobs too if the run has attempts in progress or was worked on
within that age. Should a writer name an old blob while it is removed, the plan finds it missing and
the step runs again: nothing is taken for done that is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from runstore.errors import (
    DamagedError,
    KeyMissingError,
    PathError,
    RecordDamagedError,
    StorageError,
)
from runstore.records import End, RunRecord, key_of, keys
from runstore.records.codec import parse, parse_attempt
from runstore.storage import Storage, read_all
from runstore.storage.capabilities import Dated, Sweeping
from runstore.store.judge import read_pack
from runstore.upkeep.remove import open_attempts, removing

__all__ = ["Litter", "Sweep"]

_PROBES = "probe/"
_THREADS = 16


class Litter(NamedTuple):
    """Something that may go."""

    name: str
    """A key, or, of an unfinished write, the file's name relative to the store."""
    what: str
    """For people: why it is litter."""


class Sweep:
    """One sweep of a store; iterate over :meth:`run`.

    :param older_than: what was written within this age stays. A storage that cannot tell when
        something was written (memory) gives up litter only with an age of zero.

    Cost: a listing of the store; for each run that has blobs, a read of its ends and packs; and one
    request for each candidate, to learn its age.
    """

    def __init__(self, storage: Storage, older_than: timedelta = timedelta(days=1)) -> None:
        self.storage = storage
        self.older_than = older_than
        self.spared: dict[str, str] = {}
        """Run -> why blobs of it were left alone although no record that was read names them."""
        self._now = datetime.now(UTC)

    def run(self, *, dry_run: bool = True) -> Iterator[Litter]:
        """Find litter, and remove it unless ``dry_run``: each is gone when it is given."""
        removing(self.storage)
        if isinstance(self.storage, Sweeping):
            before = time.time() - self.older_than.total_seconds()
            for name in self.storage.sweep(before, dry_run=dry_run):
                yield Litter(name, "an unfinished write")
        probes = self._old(self.storage.list(_PROBES))
        yield from self._give(probes, "left by a probe of the endpoint", dry_run=dry_run)
        for folder in self.storage.list(keys.RUNS, shallow=True):
            if folder.endswith("/"):
                yield from self._of_run(folder, dry_run=dry_run)

    def _of_run(self, folder: str, *, dry_run: bool) -> Iterator[Litter]:
        """What lies below ``runs/<run key>/``: of one run at most, and of those before it."""
        parts = list(self.storage.list(folder, shallow=True))
        own = folder + keys.RUN
        record: RunRecord | None = None
        if own in parts:
            try:
                record = self._read(own)
            except (DamagedError, StorageError) as error:
                self.spared[folder] = f"what belongs to it is not known: {error}"
                return
        for part in parts:
            if keys.is_nonce(part[len(folder) : -1]) is None or part[-1] != "/":
                continue  # run.json, and what is not ours
            if record is not None and part == folder + record.nonce + "/":
                yield from self._blobs(record, part, dry_run=dry_run)
            else:
                # All of it or nothing: an import that is under way has written something just now.
                there = list(self.storage.list(part))
                old = len(self._old(there)) == len(there) == len(list(self.storage.list(part)))
                if old and not self._is_run(own, part):
                    yield from self._give(there, "of a run that is not there", dry_run=dry_run)

    def _read(self, own: str) -> RunRecord | None:
        """A run's record; ``None`` if it is not there (any more, or yet)."""
        try:
            found = parse(self.storage.read(own), own)
        except KeyMissingError:
            return None
        if not isinstance(found, RunRecord):
            raise RecordDamagedError(f"{own} is no record of a run", key=own)
        return found

    def _is_run(self, own: str, part: str) -> bool:
        """Whether this belongs to a run by now: an import makes ``run.json`` last."""
        try:
            found = self._read(own)
        except (DamagedError, StorageError):
            return True
        return found is not None and part.endswith(f"/{found.nonce}/")

    def _blobs(self, record: RunRecord, prefix: str, *, dry_run: bool) -> Iterator[Litter]:
        found = list(self.storage.list(prefix))
        blobs = [key for key in found if key.startswith(prefix + keys.BLOBS)]
        if not blobs:
            return
        try:
            named = self._named(record, prefix, found)
        except (DamagedError, StorageError, PathError) as error:
            self.spared[prefix] = f"what its records name is not known: {error}"
            return
        litter = [key for key in blobs if keys.name_in(key) not in named]
        litter = self._old(litter)
        if litter and self._is_quiet(prefix, found):
            yield from self._give(litter, "a blob that no record names", dry_run=dry_run)

    def _named(self, record: RunRecord, prefix: str, found: list[str]) -> set[str]:
        """Digests of the blobs that the records of a run name.

        :raises DamagedError, StorageError: if a record cannot be read.
        """
        storage = self.storage
        named: set[str] = set()
        named.update(blob.sha256 for blob in record.blobs())
        packed: set[str] = set()
        packs = [key for key in found if key.startswith(prefix + keys.PACKS)]
        for key, data in read_all(storage, packs):
            pack = read_pack(data, key, record)
            if pack.problems:
                raise DamagedError(pack.problems[0], advice="restore it from a copy")
            for framed in pack.records:
                end = parse_attempt(framed, key, trusted=True)
                if isinstance(end, End):
                    _note(end, named)
                    if end.run_nonce == record.nonce:
                        packed.add(key_of(prefix, end))
        loose = [
            key
            for key in found
            if key.startswith(prefix + keys.ATTEMPTS)
            and key.endswith(keys.END)
            and key not in packed
        ]
        for key, data in read_all(storage, loose):
            end = parse_attempt(data, key)
            if isinstance(end, End):
                _note(end, named)
        return named

    def _is_quiet(self, prefix: str, found: list[str]) -> bool:
        """Whether nobody can be about to name a blob; else it says why not."""
        busy = open_attempts(self.storage, prefix)
        if busy:
            self.spared[prefix] = f"in progress is {busy[0]}"
            return False
        young = [key for key in found if key.startswith(prefix + keys.INVOCATIONS)]
        if len(self._old(young)) < len(young):
            self.spared[prefix] = "somebody began to work on it not long ago"
            return False
        for folder in (keys.INVOCATIONS, keys.ATTEMPTS):
            there = {key for key in found if key.startswith(prefix + folder)}
            if set(self.storage.list(prefix + folder)) - there:
                self.spared[prefix] = "somebody is at work on it"
                return False
        return True

    def _old(self, found: Iterable[str]) -> list[str]:
        """Those that were written long enough ago."""
        found = list(found)
        if not self.older_than:
            return found
        if not isinstance(self.storage, Dated):
            return []
        with ThreadPoolExecutor(_THREADS, "runstore-sweep") as pool:
            answers = pool.map(self._is_old, found)
            return [key for key, old in zip(found, answers, strict=True) if old]

    def _is_old(self, key: str) -> bool:
        assert isinstance(self.storage, Dated)
        try:
            written = self.storage.info(key).modified
        except KeyMissingError:
            return False
        return written is not None and self._now - written >= self.older_than

    def _give(self, found: list[str], what: str, *, dry_run: bool) -> Iterator[Litter]:
        if found and not dry_run:
            removing(self.storage).remove(found)
        for key in found:
            yield Litter(key, what)


def _note(end: End, named: set[str]) -> None:
    named.update(blob.sha256 for blob in (*end.blobs(), end.log) if blob is not None)
