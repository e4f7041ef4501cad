"""The record of a run, which claims its id: created, and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runstore.errors import (
    KeyExistsError,
    KeyMissingError,
    RefusedError,
    RunExistsError,
    RunNotFoundError,
)
from runstore.records import RunRecord, keys, stamp
from runstore.records.codec import parse, to_body
from runstore.records.framing import frame
from runstore.storage import Storage
from runstore.store.run import Run

__all__ = ["create_record", "is_taken", "not_found", "parse_run", "taken"]


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
