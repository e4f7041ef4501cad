"""Copying a run from one store to another: what is missing, at once, and never over anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

from runstore.errors import (
    DamagedError,
    KeyMissingError,
    RecordDamagedError,
    RefusedError,
    StorageError,
)
from runstore.plan.history import WORKING
from runstore.records import MAX_COUNT, Invocation, RunRecord, keys
from runstore.records.codec import parse, to_body
from runstore.records.framing import frame
from runstore.storage import is_near, read_all
from runstore.storage.capabilities import Batching
from runstore.store import Run, Store
from runstore.store.ids import new_invocation_id, now
from runstore.store.load import untrue
from runstore.store.marker import make_marker
from runstore.store.process import current_process
from runstore.store.run_record import not_found, parse_run
from runstore.store.view import NOT_WHOLE
from runstore.transfer.compare import FORK, Side, compare
from runstore.transfer.copier import Copier, Progress, another_run, diverged_error, unwatched

__all__ = ["WORKERS", "Arrival", "Transferred", "transfer_run"]

WORKERS = 16
"""Creates that are under way at once."""


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
    """Digests of blobs that the source holds damaged, or no longer: their steps can run again."""


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

    :param arrival: record first in the target where the run came from, as an invocation of its own,
        so that nothing its records name is executed unasked there (docs/security.md). `runstore
        pull` does.
    :raises RunNotFoundError: if the source has no such run.
    :raises RunRemovedError: if the run was removed meanwhile, here or there.
    :raises RunExistsError: if the target has another run under this id.
    :raises DivergedError: if both sides made attempts under one number with different content. All
        are named, and nothing was written.
    :raises RecordDamagedError: for a record that is damaged, on either side. If one of the two is
        no bucket, also for records that contradict each other, or are of another run.

    Cost: a listing of each side, and two more of a target that lacks the run. One read and one
    create for each missing object; where both sides have attempts, what
    :func:`runstore.transfer.compare.compare` says. Memory: some 500 bytes for each object. Records
    on a disk are read twice.
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
    try:
        data = source.storage.read(keys.run_key(run_id))
    except KeyMissingError:
        raise not_found(source.storage, run_id) from None
    origin = Run(source.storage, _the_run(data, run_id, source))
    with origin.read_whole():
        return _copied(source, origin, data, target, workers, progress, arrival, pack=pack)


def _copied(
    source: Store,
    origin: Run,
    itself: bytes,
    target: Store,
    workers: int,
    progress: Progress | None,
    arrival: Arrival | None,
    *,
    pack: bool,
) -> Transferred:
    record, run_id = origin.record, origin.run_id
    key = keys.run_key(run_id)
    try:
        known = _the_run(target.storage.read(key), run_id, target)
        if known.digest != record.digest:
            raise another_run(run_id, target)
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
        raise diverged_error(diverged, run_id)

    missing = here.keys - there.keys
    done = Transferred(run_id, present=len(here.keys & there.keys))
    if not missing:
        origin.check_there(NOT_WHOLE)
        return done
    looks_first = is_near(source.storage) and not pack  # of an import all was checked
    if looks_first:
        _refuse_untrue(source, record)
    # The marker, so that what is there is a store. Creating a run does the same.
    make_marker(target.storage)
    arrived = None
    if arrival is not None:
        quiet = _only_arrivals(here, missing)
        arrived = 0 if quiet else _record_arrival(here, there, record, arrival)
    run = Run(target.storage, record)
    if pack:
        run.writer.pack.begin()
    with Copier(here, there, run, workers, torn, arrived) as copier:
        copier.watch(progress or unwatched, len(missing))
        copier.blobs(sorted(key for key in missing if key.startswith(keys.BLOBS)))
        # Until the run itself is there nobody is told of its records: they may be made durable
        # together. Where it is, each must be before the next phase.
        together = keys.RUN in missing and isinstance(target.storage, Batching)
        batch = target.storage.batch() if together else nullcontext(target.storage)  # type: ignore[attr-defined]
        with batch as storage:
            for phase in _phases(missing):
                copier.records(phase, storage)
        if pack:
            run.writer.pack.write()
        elif not looks_first and is_near(target.storage):
            _refuse_untrue(target, record)
        origin.check_there(NOT_WHOLE)
        if keys.RUN in missing:
            _refuse_incomplete(there, missing, copier.left_out)
            copier.itself(key, itself, target.storage)
            _refuse_incomplete(there, missing, copier.left_out, counts=True)
        else:
            run.check_there()
    names = [key for key in missing if not key.startswith(keys.BLOBS)]
    done.left_out = copier.left_out
    done.blobs = len(missing) - len(names) - len(done.left_out)
    done.packs = sum(key.startswith(keys.PACKS) for key in names)
    done.records = len(names) - done.packs
    return done


def _only_arrivals(here: Side, missing: set[str]) -> bool:
    """Whether all that is missing is records of how the run arrived elsewhere: if those were worth
    a record here, two stores that pull from one another would never be done."""
    if not all(name.startswith(keys.INVOCATIONS) for name in missing):
        return False
    for key, data in read_all(here.storage, [here.key(name) for name in missing]):
        try:
            record = parse(data, key)
        except DamagedError:
            return False
        if not isinstance(record, Invocation) or record.mode in WORKING:
            return False
    return True


def _record_arrival(here: Side, there: Side, run: RunRecord, arrival: Arrival) -> int:
    """Record where the run came from, before anything of it arrives: an interruption must not leave
    an invocation of others as the latest. The number of the record."""
    number = max(side.last_invocation() for side in (here, there))
    if number >= MAX_COUNT:
        raise RefusedError(
            f"run {run.run_id!r} in {here.storage.url} has an invocation of the last number there "
            f"is, which no runstore gives: nothing was written",
            run_id=run.run_id,
        )
    invocation = Invocation(
        run.run_id, new_invocation_id(forces=False), arrival.mode, now(), current_process(),
        source=dict(arrival.source), number=number + 1, run_nonce=run.nonce,
    )  # fmt: skip
    data, _ = frame(to_body(invocation))
    there.storage.create(keys.invocation_key(there.prefix, invocation.id), data)
    return invocation.number


def _refuse_incomplete(
    there: Side, missing: set[str], left_out: Iterable[str], *, counts: bool = False
) -> None:
    """Until ``run.json`` is there, what was copied belongs to no run, and `gc --older-than 0`
    removes it. One listing.

    :param counts: whether ``run.json`` is there.
    :raises StorageError: if something of it is gone. Doing it again brings it.
    """
    now_there = {there.name(key) for key in there.storage.list(there.prefix)}
    left = {f"{keys.BLOBS}{sha256[:2]}/{sha256}" for sha256 in left_out}
    gone = (missing | there.keys) - now_there - left - {keys.RUN}
    if gone:
        now = "The run there lacks them" if counts else "There is no run of them"
        raise StorageError(
            f"{len(gone):,} of the objects that were copied to {there.storage.url} are gone, "
            f"{there.key(min(gone))} among them: was `runstore gc` at work there? {now}",
            advice="do it again",
        )


def _refuse_untrue(store: Store, run: RunRecord) -> None:
    """
    :raises RecordDamagedError: if records of the run contradict each other, or are of another one.
    """
    found = untrue(store.storage, run)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RecordDamagedError(
            f"in {store.url}, {found[0].problem}{more}",
            advice=f"restore it from a copy{FORK}",
            key=found[0].key,
        )


def _the_run(data: bytes, run_id: str, store: Store) -> RunRecord:
    try:
        return parse_run(data, run_id)
    except (RecordDamagedError, RefusedError) as error:
        raise error.reworded(f"in {store.url}, {error.problem}") from None


def _phases(missing: set[str]) -> Iterator[list[str]]:
    """The records but for the run itself, in an order that may be cut anywhere.

    Invocations first, because they say what is forced; then ends, the latest numbers first, because
    an earlier success must not count in place of a later failure; then starts, because one without
    its end would look like work in progress.
    """
    yield sorted(key for key in missing if key.startswith(keys.INVOCATIONS))
    attempts = [key for key in missing if key.startswith(keys.ATTEMPTS)]
    attempts.sort(key=lambda key: (key.rsplit(".", 3)[1:2], key), reverse=True)
    yield [key for key in attempts if key.endswith(keys.END)]
    yield [key for key in attempts if not key.endswith(keys.END)]
    # Last: should somebody claim one of these attempts meanwhile, no pack contradicts him.
    yield sorted(key for key in missing if key.startswith(keys.PACKS))
