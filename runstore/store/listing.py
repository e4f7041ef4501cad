"""Which runs a store holds."""

from __future__ import annotations

from collections.abc import Iterator

from runstore.errors import (
    KeyMissingError,
    PathError,
    RecordDamagedError,
    RefusedError,
    RunstoreError,
    StorageError,
)
from runstore.records import RunRecord, keys
from runstore.records.codec import parse
from runstore.storage import Storage

__all__ = ["listed"]


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
