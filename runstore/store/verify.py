"""Reading everything of a run, to find what is damaged or missing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple

from runstore import keys
from runstore.bodies import parse, parse_attempt
from runstore.errors import BlobMissingError, DamagedError, KeyMissingError, StorageError
from runstore.framing import parse_pack
from runstore.records import Blob, End, Invocation, Marker, RunRecord, Start
from runstore.store.blobs import Blobs

if TYPE_CHECKING:
    from runstore.store.view import RunView

__all__ = ["Checked", "check_run", "named_blobs", "verify_run"]


class Checked(NamedTuple):
    """One object that was read, or that was to be there."""

    key: str
    problem: str | None = None
    """``None``: it is as it was written."""
    state: Literal["whole", "damaged", "missing", "unreadable", "left out"] = "whole"
    """``unreadable``: the storage would not give it; what it holds is not known. ``left out``: a
    log that is not there, as after an export without logs; nothing but people reads it."""


class _Named(NamedTuple):
    """The blobs that records name."""

    blobs: dict[str, Blob]
    needed: set[str]
    """Digests of those that are more than a log."""


def verify_run(run: RunView) -> Iterator[tuple[str, str | None]]:
    """See :meth:`Run.verify`: the first two of what :func:`check_run` gives."""
    for found in check_run(run):
        if found.state != "left out":
            yield found.key, found.problem


def check_run(run: RunView) -> Iterator[Checked]:
    """Every object of a run, the blobs that it names and that are missing, and the store's marker.

    Whatever is wrong with one, the others are looked at. A store without a marker is whole: it was
    copied together, and the next run makes one.

    A log that is missing was left out, by an export or a copy: that is no damage.

    Reads every record whole, packs one after the other, and every blob in pieces: memory stays
    bounded, by the largest pack (64 MiB), what a storage reads ahead of small records, and some 100
    bytes for each object.
    """
    prefix = keys.run_prefix(run.run_id)
    blobs: dict[str, None] = {}
    named = _Named({}, set())
    records: list[str] = []
    packs: list[str] = []
    for key in run.storage.list(prefix):
        rest = key[len(prefix) :]
        if rest.startswith(keys.BLOBS):
            blobs[rest.rpartition("/")[2]] = None
        elif rest.startswith(keys.PACKS):
            packs.append(key)
        else:
            records.append(key)
    read = chain(
        run.storage.read_many([keys.MARKER]),
        run.storage.read_many(sorted(records)),
        chain.from_iterable(run.storage.read_many([key]) for key in sorted(packs)),
    )
    for key, data in read:
        if isinstance(data, bytes):
            if key == keys.MARKER:
                problem = _check_marker(data)
            else:
                problem = _check_record(run, key[len(prefix) :], key, data, named)
            yield Checked(key, problem, "damaged" if problem else "whole")
        elif not isinstance(data, KeyMissingError):
            yield Checked(key, str(data), "unreadable")
        elif key != keys.MARKER:
            yield Checked(key, str(data), "missing")
    reader = Blobs(run.storage, run.run_id)
    for sha256 in sorted({*blobs, *named.blobs}):
        key = reader.key(sha256)
        try:
            reader.check(named.blobs.get(sha256, Blob(sha256, 0)))
        except (DamagedError, StorageError) as error:
            if isinstance(error, BlobMissingError) and sha256 not in named.needed:
                yield Checked(key, None, "left out")
            else:
                yield Checked(key, str(error), _state(error))
        else:
            yield Checked(key)


def named_blobs(run: RunView) -> set[str]:
    """The digests of all blobs that the records of a run name. Reads all but the blobs; what is
    damaged names none."""
    prefix = keys.run_prefix(run.run_id)
    named = _Named({}, set())
    wanted = [key for key in run.storage.list(prefix) if not key.startswith(prefix + keys.BLOBS)]
    for key, data in run.storage.read_many(wanted):
        if isinstance(data, bytes):
            _check_record(run, key[len(prefix) :], key, data, named)
    return set(named.blobs)


def _state(error: DamagedError | StorageError) -> Literal["damaged", "missing", "unreadable"]:
    if isinstance(error, StorageError):
        return "unreadable"
    return "missing" if isinstance(error, BlobMissingError) else "damaged"


def _check_marker(data: bytes) -> str | None:
    try:
        record = parse(data, keys.MARKER)
    except DamagedError as error:
        return str(error)
    return None if isinstance(record, Marker) else f"record {keys.MARKER} is not the store's marker"


def _check_record(run: RunView, rest: str, key: str, data: bytes, named: _Named) -> str | None:
    if rest.startswith(keys.PACKS):
        run_id, records, problems = parse_pack(data, key)
        consequences = bool(problems)
        origin = (run.record.origin or {}).get("pack")
        for framed in records:
            try:
                record = parse_attempt(framed, key)
                _note(record, named)
                if record.run_id != run.run_id and rest != f"{keys.PACKS}{origin}.json":
                    problems.append(f"it holds a record of run {record.run_id!r}")
            except DamagedError as error:
                problems.append(str(error))
        if run_id != run.run_id:
            problems.append(f"it belongs to run {run_id!r}")
        if not problems and rest != f"{keys.PACKS}{data[11:75].decode()}.json":
            problems.append("its name is not its digest")
        # Of a pack that cannot be read as one, the rest follows from the first.
        return "; ".join(problems[:1] if consequences else problems) or None
    try:
        reads = parse_attempt if rest.startswith(keys.ATTEMPTS) else parse
        record = reads(data, key)
    except DamagedError as error:
        return str(error)
    if isinstance(record, Marker):
        return f"record {key} is the marker of a store: it was moved"
    _note(record, named)
    if record.run_id != run.run_id:
        return f"record {key} belongs to run {record.run_id!r}"
    if isinstance(record, Invocation) and rest != f"{keys.INVOCATIONS}{record.id}.json":
        return f"record {key} is invocation {record.id!r}: it was moved"
    if isinstance(record, RunRecord) and rest != keys.RUN:
        return f"record {key} is of a run itself: it was moved"
    if isinstance(record, Start | End):
        made = keys.attempt_key(
            run.run_id, record.path, record.attempt, "end" if isinstance(record, End) else "start"
        )
        if key != made:
            return f"record {key} is of attempt {record.attempt} at {record.path!r}: it was moved"
    return None


def _note(record: object, named: _Named) -> None:
    if isinstance(record, End):
        found = [*record.outputs.values(), *record.artifacts.values()]
        if record.log is not None:
            named.blobs[record.log.sha256] = record.log
    elif isinstance(record, RunRecord):
        found = list(record.parameters.values())
    else:
        return
    for blob in found:
        if type(blob) is Blob:
            named.blobs[blob.sha256] = blob
            named.needed.add(blob.sha256)
