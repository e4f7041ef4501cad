"""Reading everything of a run, to find what is damaged or missing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from runstore import keys
from runstore.bodies import parse, parse_attempt
from runstore.errors import DamagedError, StorageError
from runstore.framing import parse_pack
from runstore.records import Blob, End, Marker, RunRecord, Start
from runstore.store.blobs import Blobs

if TYPE_CHECKING:
    from runstore.store.run import Run

__all__ = ["verify_run"]


def verify_run(run: Run) -> Iterator[tuple[str, str | None]]:
    """``(key, problem or None)`` for every object of a run, and for blobs that are missing.

    Reads every record whole, packs one after the other, and every blob in pieces: memory stays
    bounded, by the largest pack (64 MiB), what a storage reads ahead of small records, and some 100
    bytes for each object.
    """
    prefix = keys.run_prefix(run.run_id)
    blobs: dict[str, None] = {}
    named: dict[str, Blob] = {}
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
        run.storage.read_many(sorted(records)),
        chain.from_iterable(run.storage.read_many([key]) for key in sorted(packs)),
    )
    for key, data in read:
        if not isinstance(data, bytes):
            yield key, str(data)
            continue
        yield key, _check_record(run, key[len(prefix) :], key, data, named)
    reader = Blobs(run.storage, run.run_id)
    for sha256 in sorted({*blobs, *named}):
        problem: str | None = None
        try:
            reader.check(named.get(sha256, Blob(sha256, 0)))
        except (DamagedError, StorageError) as error:
            problem = str(error)
        yield reader.key(sha256), problem


def _check_record(run: Run, rest: str, key: str, data: bytes, named: dict[str, Blob]) -> str | None:
    if rest.startswith(keys.PACKS):
        run_id, records, problems = parse_pack(data, key)
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
        return "; ".join(problems) or None
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
    if isinstance(record, Start | End):
        made = keys.attempt_key(
            run.run_id, record.path, record.attempt, "end" if isinstance(record, End) else "start"
        )
        if key != made:
            return f"record {key} is of attempt {record.attempt} at {record.path!r}: it was moved"
    return None


def _note(record: object, named: dict[str, Blob]) -> None:
    if isinstance(record, End):
        found = [*record.outputs.values(), *record.artifacts.values(), record.log]
    elif isinstance(record, RunRecord):
        found = list(record.parameters.values())
    else:
        return
    for blob in found:
        if type(blob) is Blob:
            named[blob.sha256] = blob
