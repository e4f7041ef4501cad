"""The record of a run, which claims its id: created, read, and listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runstore.errors import (
    KeyExistsError,
    KeyMissingError,
    PathError,
    RecordDamagedError,
    RefusedError,
    RunExistsError,
    RunNotFoundError,
    RunstoreError,
    StorageError,
)
from runstore.records import RunRecord, keys, stamp
from runstore.records.codec import parse, to_body
from runstore.records.framing import frame
from runstore.storage import Storage
from runstore.store.run import Run

__all__ = ["create_record", "is_taken", "listed", "not_found", "parse_run", "taken"]


def create_record(storage: Storage, record: RunRecord, secrets: Mapping[str, Any]) -> Run:
    """Create ``run.json``, which claims the id: what it names is there already.

    :raises RunExistsError: if the id is taken.
    """
    data, digest = frame(to_body(record))
    stamp(record, digest)
    try:
        storage.create(keys.run_key(record.run_id), data)
    except KeyExistsError:
        raise taken(storage, record.run_id) from None
    return Run(storage, record, secrets, is_new=True)


def is_taken(storage: Storage, run_id: str) -> bool:
    """Whether there is a run of this id. One read."""
    try:
        storage.read(keys.run_key(run_id))
    except KeyMissingError:
        return False
    return True


def parse_run(data: bytes, run_id: str) -> RunRecord:
    """The record of a run, from the bytes of its ``run.json``.

    :raises RefusedError: if it is the record of something else.
    :raises RecordDamagedError, FormatVersionError: if it cannot be read.
    """
    key = keys.run_key(run_id)
    record = parse(data, key)
    if not isinstance(record, RunRecord) or record.run_id != run_id:
        raise RefusedError(f"record {key} is not of run {run_id!r}: was the folder renamed?")
    return record


def not_found(storage: Storage, run_id: str) -> RunNotFoundError:
    """The error to raise for an id that no run has."""
    return RunNotFoundError(
        f"there is no run {run_id!r} in {storage.url}",
        advice="`runstore ls` lists those there are",
        run_id=run_id,
    )


def taken(storage: Storage, run_id: str) -> RunExistsError:
    """The error to raise for an id that another run has."""
    return RunExistsError(
        f"run {run_id!r} exists in {storage.url}",
        advice="`runstore retry` continues it, or choose another id",
        run_id=run_id,
    )


def listed(storage: Storage) -> Iterator[tuple[str, RunRecord | RunstoreError]]:
    """The id of each run and its record, or why that cannot be used; in no order.

    Passed over is what is no run: a folder whose name is no key form, and one without a
    ``run.json`` (what a removal left, or somebody's own). Where the record is damaged and the
    folder's name does not hold the whole id, the name stands in its place.

    One listing, and a read for each run.
    """
    wanted: dict[str, str] = {}
    for folder in storage.list(keys.RUNS, shallow=True):
        name = folder[len(keys.RUNS) :].removesuffix("/")
        try:
            known = keys.decode(name)
        except PathError:
            continue
        if folder.endswith("/"):
            wanted[f"{folder}{keys.RUN}"] = known or name
    for key, data in storage.read_many(list(wanted)):
        if not isinstance(data, KeyMissingError):
            yield _judged(key, data, wanted[key])


def _judged(
    key: str, data: bytes | StorageError, name: str
) -> tuple[str, RunRecord | RunstoreError]:
    if isinstance(data, RunstoreError):
        return name, data
    try:
        record = parse(data, key)
        if not isinstance(record, RunRecord):
            raise RecordDamagedError(f"record {key} is not of a run", key=key)
        if keys.run_key(record.run_id) != key:
            raise RefusedError(
                f"record {key} is of run {record.run_id!r}, whose place is "
                f"{keys.run_key(record.run_id)}: was the folder copied or renamed? Move it out "
                f"of the store, or give it its name back"
            )
    except RunstoreError as error:
        return name, error
    return record.run_id, record
