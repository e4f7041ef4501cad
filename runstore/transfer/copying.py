"""Copying a run from one store to another: what is missing, at once, and never over anything."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

from runstore import keys
from runstore.bodies import parse, to_body
from runstore.errors import (
    BlobDamagedError,
    DamagedError,
    DivergedError,
    KeyExistsError,
    KeyMissingError,
    RecordDamagedError,
    RefusedError,
    RunExistsError,
    RunNotFoundError,
)
from runstore.framing import frame, unframe
from runstore.history import WORKING
from runstore.records import MAX_COUNT, Invocation, RunRecord
from runstore.storage import Storage, is_near, read_all
from runstore.storage.removing import Batching
from runstore.store import Run, Store
from runstore.store.clock import new_invocation_id, now
from runstore.store.holder import myself
from runstore.store.reading import untrue
from runstore.transfer.compare import FORK, Divergence, Side, compare, describe
from runstore.transfer.progress import Progress, unwatched

__all__ = ["WORKERS", "Arrival", "Transferred", "transfer_run"]

WORKERS = 16
"""Creates that are under way at once."""

_SHOWN = 50
"""Diverged attempts that a message lists; the error's ``attempts`` has them all."""


class Arrival(NamedTuple):
    """How a run was brought into a store."""

    mode: Literal["import", "pull"]
    source: Mapping[str, str]
    """For people: the file or the store it came from."""


@dataclass(slots=True)
class Transferred:
    """What a transfer did."""

    run_id: str
    records: int = 0
    """Attempts' records, invocations and the run itself that were copied."""
    packs: int = 0
    blobs: int = 0
    present: int = 0
    """Objects that the target had already."""
    left_out: Sequence[str] = ()
    """Digests of blobs that the source holds damaged: the steps that made them can run again."""


def transfer_run(
    source: Store,
    run_id: str,
    target: Store,
    *,
    workers: int = WORKERS,
    progress: Progress | None = None,
    arrival: Arrival | None = None,
) -> Transferred:
    """Bring a run in ``target`` up to what ``source`` has of it. Nothing is ever overwritten.

    Interrupted at any point it leaves nothing that counts wrongly, and done again it goes on: blobs
    come before the records that name them, ends before starts, and the run itself last.

    :param arrival: record in the target that the run was brought there, as an invocation of its
        own, before anything else of it arrives; not if nothing but such records is missing. Who
        pulls does: nothing that the records of others name is executed on their word
        (docs/security.md).
    :raises RunNotFoundError: if the source has no such run.
    :raises RunExistsError: if the target has another run under this id.
    :raises DivergedError: if both sides made attempts under one number with different content. All
        are named, and nothing was written.
    :raises RecordDamagedError: for a record that is damaged, on either side. If one of the two is
        no bucket, also for records that contradict each other, or are of another run.

    Cost: a listing of each side, one read and one create for each missing object; where both sides
    have attempts, what :func:`runstore.transfer.compare.compare` says. Memory does not grow with
    sizes, and by some 500 bytes for each object. Records on a disk are read twice.
    """
    return copy_run(source, run_id, target, workers=workers, progress=progress, arrival=arrival)


def copy_run(
    source: Store,
    run_id: str,
    target: Store,
    *,
    workers: int = WORKERS,
    progress: Progress | None = None,
    arrival: Arrival | None = None,
    pack: bool = False,
) -> Transferred:
    """:func:`transfer_run`. ``pack``: keep the attempts that were copied in one pack, besides."""
    key = keys.run_key(run_id)
    try:
        data = source.storage.read(key)
    except KeyMissingError:
        raise RunNotFoundError(
            f"there is no run {run_id!r} in {source.url}: `runstore ls` lists those there are",
            run_id=run_id,
        ) from None
    record = _the_run(data, key, run_id, source)
    try:
        known = _the_run(target.storage.read(key), key, run_id, target)
        if known.digest != record.digest:
            raise _another_run(run_id, target)
    except KeyMissingError:
        known = None
    here = Side(source.storage, record, there=True)
    there = Side(target.storage, record, there=known is not None)
    torn: set[str] = set()
    if known is None:
        # What lies there was left by a transfer that broke, perhaps with the power.
        torn = there.forget_torn()
    diverged = compare(here, there)
    if diverged:
        raise _diverged(diverged, run_id)

    missing = here.keys - there.keys
    done = Transferred(run_id, present=len(here.keys & there.keys))
    if not missing:
        return done
    looks_first = is_near(source.storage) and not pack  # of an import all was checked
    if looks_first:
        _refuse_untrue(source, record)
    # The marker, so that what is there is a store. Creating a run does the same.
    target.mark()
    arrived = None
    if arrival is not None:
        quiet = _only_arrivals(here, missing)
        arrived = 0 if quiet else _record_arrival(here, there, record, arrival)
    run = Run(target.storage, record)
    if pack:
        run.keep_for_pack()
    with _Copier(here, there, run, workers, torn, arrived) as copier:
        copier.watch(progress or unwatched, len(missing))
        copier.blobs(sorted(key for key in missing if key.startswith(keys.BLOBS)))
        # Until the run itself is there nobody is told of its records: they may be made durable
        # together. Where it is, each must be before the next phase.
        with _together(target.storage, keys.RUN in missing) as storage:
            for phase in _phases(missing):
                copier.records(phase, storage)
        if pack:
            run.write_pack()
        elif not looks_first and is_near(target.storage):
            _refuse_untrue(target, record)
        copier.records([keys.RUN] if keys.RUN in missing else [], target.storage)
    names = [key for key in missing if not key.startswith(keys.BLOBS)]
    done.left_out = copier.left_out
    done.blobs = len(missing) - len(names) - len(done.left_out)
    done.packs = sum(key.startswith(keys.PACKS) for key in names)
    done.records = len(names) - done.packs
    return done


def _only_arrivals(here: Side, missing: set[str]) -> bool:
    """Whether nothing is to come but word of how the run arrived elsewhere, by which nobody works:
    were that worth a record, two stores that pull from one another would never be done."""
    if not all(name.startswith(keys.INVOCATIONS) for name in missing):
        return False
    for key, data in here.storage.read_many([here.key(name) for name in missing]):
        if not isinstance(data, bytes):
            raise data
        try:
            record = parse(data, key)
        except DamagedError:
            return False
        if not isinstance(record, Invocation) or record.mode in WORKING:
            return False
    return True


def _record_arrival(here: Side, there: Side, run: RunRecord, arrival: Arrival) -> int:
    """The invocation that says where the run came from. It is there before anything that it is to
    come after, so that an interruption does not leave the word of others as the latest. Its
    number."""
    number = max(here.last_invocation(), there.last_invocation())
    if number >= MAX_COUNT:
        raise RefusedError(
            f"run {run.run_id!r} in {here.storage.url} has an invocation of the last number there "
            f"is, which no runstore gives: nothing was written",
            run_id=run.run_id,
        )
    invocation = Invocation(
        run.run_id, new_invocation_id(forces=False), arrival.mode, now(), myself(),
        source=dict(arrival.source), number=number + 1, run_nonce=run.nonce,
    )  # fmt: skip
    data, _ = frame(to_body(invocation))
    there.storage.create(keys.invocation_key(there.prefix, invocation.id), data)
    return invocation.number


def _refuse_untrue(store: Store, run: RunRecord) -> None:
    """
    :raises RecordDamagedError: if records of the run contradict each other, or are of another one.
    """
    found = untrue(store.storage, run)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RecordDamagedError(
            f"in {store.url}, {found[0].problem.partition(': restore')[0]}{more}: restore it from "
            f"a copy{FORK}",
            key=found[0].key,
        )


def _together(storage: Storage, fresh: bool) -> AbstractContextManager[Storage]:
    return storage.batch() if fresh and isinstance(storage, Batching) else nullcontext(storage)


def _the_run(data: bytes, key: str, run_id: str, store: Store) -> RunRecord:
    try:
        record = parse(data, key)
    except RecordDamagedError as error:
        raise RecordDamagedError(f"in {store.url}, {error}", key=key) from None
    if not isinstance(record, RunRecord) or record.run_id != run_id:
        raise RefusedError(f"record {key} in {store.url} is not of run {run_id!r}: was it renamed?")
    return record


def _another_run(run_id: str, target: Store) -> RunExistsError:
    return RunExistsError(
        f"{target.url} has another run under the id {run_id!r}: use another store, or remove that "
        f"run first",
        run_id=run_id,
    )


def _diverged(attempts: Sequence[Divergence], run_id: str) -> DivergedError:
    listed = "; ".join(map(str, attempts[:_SHOWN]))
    more = f"; and {len(attempts) - _SHOWN} more" if len(attempts) > _SHOWN else ""
    return DivergedError(
        f"run {run_id!r} went on in both stores, and nothing was written: {listed}{more}. "
        f"Go on in one of them, or fork the run in the other",
        run_id=run_id,
        attempts=list(attempts),
    )


def _phases(missing: set[str]) -> Iterator[list[str]]:
    """The records but for the run itself, in an order that may be cut anywhere.

    Invocations first, because they say what is forced; then ends, the latest numbers first, because
    an earlier success must not count in place of a later failure; then starts, because one without
    its end would look like work in progress.
    """
    yield sorted(key for key in missing if key.startswith(keys.INVOCATIONS))
    attempts = [key for key in missing if key.startswith(keys.ATTEMPTS)]
    attempts.sort(key=lambda key: (key.rsplit(".", 3)[1:2], key), reverse=True)
    yield [key for key in attempts if key.endswith(".end.json")]
    yield [key for key in attempts if not key.endswith(".end.json")]
    # Last: should somebody claim one of these attempts meanwhile, no pack contradicts him.
    yield sorted(key for key in missing if key.startswith(keys.PACKS))


class _Copier:
    """Reads in this thread, as the source likes it best, and creates in many."""

    def __init__(
        self,
        source: Side,
        target: Side,
        run: Run,
        workers: int,
        torn: Container[str],
        arrived: int | None,
    ) -> None:
        self._source = source
        self._target = target
        self._run = run
        self._torn = torn
        self._arrived = arrived
        """The number of the invocation that says so: no one's work that comes is as high."""
        self._pool = ThreadPoolExecutor(workers, "runstore-copy")
        self._most = workers * 4  # read, and not created yet
        self._progress: Progress = unwatched
        self._done = self._total = 0
        self.left_out: list[str] = []

    def watch(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total

    def __enter__(self) -> _Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def records(self, wanted: Iterable[str], storage: Storage) -> None:
        """Copy records and packs, each checked against its own digest."""
        source = self._source

        def jobs() -> Iterator[Callable[[], object]]:
            for key, data in read_all(source.storage, [source.key(name) for name in wanted]):
                try:
                    unframe(data, key)
                except RecordDamagedError as error:
                    url = source.storage.url
                    raise RecordDamagedError(f"in {url}, {error}{FORK}", key=key) from None
                if self._arrived is not None and source.name(key).startswith(keys.INVOCATIONS):
                    self._check_order(key, data, self._arrived)
                yield lambda key=key, data=data: self._create(storage, key, data)  # type: ignore[misc]

        self._all(jobs())

    def _check_order(self, key: str, data: bytes, arrived: int) -> None:
        """A store may give another answer than when it was asked for its highest number."""
        try:
            record = parse(data, key)
        except DamagedError:
            return  # and so it will be for every reader
        if not isinstance(record, Invocation) or record.mode not in WORKING:
            return
        if record.number >= arrived:
            raise RefusedError(
                f"{key} in {self._source.storage.url} became another one while it was copied, and "
                f"no record ever changes: see whose store that is",
                run_id=self._run.run_id,
            )

    def blobs(self, wanted: Iterable[str]) -> None:
        """Copy blobs, in pieces; those that are damaged are left out."""
        self._all((lambda key=key: self._blob(key)) for key in wanted)  # type: ignore[misc]

    def _all(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Do jobs in threads, some at a time; the first error ends it."""
        running: deque[Future[object]] = deque()
        try:
            for job in jobs:
                running.append(self._pool.submit(job))
                if len(running) >= self._most:
                    self._one(running)
            while running:
                self._one(running)
        finally:
            for future in running:
                future.cancel()

    def _one(self, running: deque[Future[object]]) -> None:
        running.popleft().result()
        self._done += 1
        self._progress("copy", self._done, self._total)

    def _create(self, storage: Storage, key: str, data: bytes) -> None:
        rest = self._target.name(key)
        try:
            storage.create(key, data, repair=rest in self._torn)
            if rest.startswith(keys.ATTEMPTS):
                self._run.keep([data])
        except KeyExistsError:
            if rest == keys.RUN:
                raise _another_run(self._run.run_id, Store(storage)) from None
            if not rest.startswith(keys.ATTEMPTS):
                raise
            # Made a moment ago, after we compared.
            found = describe(self._source, self._target, rest)
            raise _diverged([found], self._run.run_id) from None
        if self._run.pack_due:
            self._run.write_pack()

    def _blob(self, key: str) -> None:
        sha256 = key.rpartition("/")[2]
        with self._source.storage.stream(self._source.prefix + key) as file:
            checked = _Checked(file, sha256, self._source.storage.url)
            try:
                self._target.storage.create(self._target.prefix + key, checked, repair=True)  # type: ignore[arg-type]
            except BlobDamagedError:
                self.left_out.append(sha256)


class _Checked:
    """A blob's bytes on their way; the end of them raises if they are not what its name says."""

    def __init__(self, file: BinaryIO, sha256: str, url: str) -> None:
        self._file = file
        self._sha256 = sha256
        self._url = url
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        if (not chunk or size < 0) and self._digest.hexdigest() != self._sha256:
            raise BlobDamagedError(
                f"blob {self._sha256} in {self._url} does not match its digest: restore it, or "
                f"make it again: retry, with --force for its step",
                sha256=self._sha256,
            )
        return chunk
