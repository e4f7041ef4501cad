"""The record of a run, which claims its id: what it can hold, and how it is created and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from runstore.canonical import dumps
from runstore.dag import Dag, walk
from runstore.errors import (
    DagError,
    KeyExistsError,
    KeyMissingError,
    PathError,
    RecordDamagedError,
    RefusedError,
    RunExistsError,
    RunNotFoundError,
    RunstoreError,
    StorageError,
    ValueNotJsonError,
)
from runstore.records import RunRecord, Secret, keys, stamp
from runstore.records.codec import parse, to_body
from runstore.records.framing import frame
from runstore.storage import Storage
from runstore.store.run import Run
from runstore.store.secrets import refuse_secrets

__all__ = [
    "check_values", "create_record", "is_taken", "listed", "not_found", "parse_run", "storable",
    "taken",
]  # fmt: skip


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


def storable(dag: Dag) -> dict[str, Any]:
    """The JSON form of a DAG, if a record can hold it.

    :raises DagError: for configuration JSON cannot hold, or nesting beyond some 120 levels.
    """
    document = dag.to_json()
    try:
        dumps(document)
    except ValueNotJsonError as error:
        raise DagError(f"the DAG cannot be recorded: {error}") from None
    for path, node in walk(dag):
        if node.config:
            try:
                orjson.dumps(dict(node.config), option=orjson.OPT_STRICT_INTEGER)
            except orjson.JSONEncodeError as error:
                raise DagError(
                    f"the config of {path!r} cannot be recorded: {error}", nodes=(path,)
                ) from None
    return document


def check_values(
    run_id: str,
    parameters: Mapping[str, Any],
    labels: Mapping[str, str],
    secrets: Mapping[str, Any],
) -> None:
    """Look at everything before anything is written.

    :raises ValueNotJsonError: naming the parameter or label that cannot be kept.
    :raises InputError: for the value of a secret in a parameter or a label, which is stored.
    """
    if secrets:
        others = {n: v for n, v in parameters.items() if n not in secrets}
        refuse_secrets(others, secrets, "parameter", f"run {run_id!r}")
        refuse_secrets(labels, secrets, "label", f"run {run_id!r}")
    for name, value in parameters.items():
        if type(value) is not Secret:
            try:
                dumps({name: value})
            except ValueNotJsonError as error:
                problem = f"parameter {name!r} is no JSON value: {error.problem}"
                raise error.reworded(problem) from None
    for name, text in labels.items():
        if type(name) is not str or type(text) is not str:
            raise ValueNotJsonError(f"label {name!r} is {text!r:.60}: labels are texts")
        dumps({name: text})
