"""Records <-> the JSON of their bodies. The types of a record's fields are checked when it is read,
whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import force_setattr, replace

from runstore.canonical import dumps
from runstore.errors import RecordDamagedError
from runstore.records import (
    NOTHING,
    Blob,
    End,
    Invocation,
    Marker,
    Record,
    RunRecord,
    Secret,
    Start,
    stamp,
)
from runstore.records.framing import BODY, FORMAT, damaged, load_body, stated_digest, unframe

__all__ = ["parse", "parse_attempt", "to_body"]

_KINDS: dict[str, type[Record]] = {
    "start": Start,
    "end": End,
    "run": RunRecord,
    "invocation": Invocation,
    "store": Marker,
}
_is_digest = re.compile("[0-9a-f]{64}").fullmatch
_read_end = msgspec.json.Decoder(End).decode
_read_any = msgspec.json.Decoder(dict[str, Any]).decode


def parse(data: bytes, key: str, *, trusted: bool = False) -> Any:
    """The record in ``data``, checked. ``trusted``: its bytes were checked already, in a pack.

    :raises RecordDamagedError: not what a writer wrote. ``key`` is named.
    :raises FormatVersionError: of another major version.
    """
    if trusted:
        body, digest = data[BODY:-1], stated_digest(data)
    else:
        body, digest = unframe(data, key)
    record = None
    if body.startswith(_BEGIN[End]):
        # Straight from the bytes, in half the time. One that another writer spelled otherwise is
        # read below.
        try:
            record = _read_end(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if record.large:
                force_setattr(record, "outputs", _joined(record.outputs, record.large, key))
    if record is None:
        record = _parse(body, key)
    stamp(record, digest)
    return record


def _parse(body: bytes, key: str) -> Any:
    """A record of any kind, from any writer."""
    raw = load_body(body, key)
    kind = raw.get("kind")
    if kind in ("start", "end"):
        # orjson reads an integer beyond 64 bits as a float; msgspec gives up on deep nesting.
        with suppress(RecursionError):
            raw = _read_any(body)
    model = _KINDS.get(kind) if type(kind) is str else None
    if model is None:
        damaged(key, f"is of the unknown kind {kind!r:.40}")
    try:
        record = msgspec.convert(_present(raw), model)
    except msgspec.ValidationError as error:
        raise RecordDamagedError(
            f"record {key} lacks or mistypes a field ({error})",
            advice="restore it from a copy",
            key=key,
        ) from None
    if type(record) is End:
        force_setattr(record, "outputs", _joined(record.outputs, record.large, key))
    elif type(record) is RunRecord:
        hidden = {name: Secret(name) for name in record.secrets}
        parameters = {**_joined(record.parameters, record.large, key), **hidden}
        force_setattr(record, "parameters", parameters)
        if record.origin and "run_id" not in record.origin:
            damaged(key, "has an origin that is no run")
        if record.origin and _is_digest(record.origin.get("pack") or "0" * 64) is None:
            damaged(key, "has an origin whose pack is no digest")
    return record


_EMPTY: tuple[Any, ...] = (None, {}, [])  # an empty text is one everywhere


def _present(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fields that are null or empty: that is the same as absent.

    Not in what belongs to others: outputs, metrics, a DAG.
    """
    return {
        name: _present(value) if name in _OF_OURS and type(value) is dict else value
        for name, value in raw.items()
        if value not in _EMPTY
    }


_OF_OURS = frozenset(("by", "consumed", "ended_by", "log"))


def _joined(values: Mapping[str, Any], large: Mapping[str, Blob], key: str) -> dict[str, Any]:
    """All values, those in blobs included, each of which must tell the digest of what it is."""
    for name, blob in large.items():
        if blob.value is None:
            damaged(key, f"does not tell the digest of the large value {name!r}")
    return {**values, **large}


def parse_attempt(data: bytes, key: str, *, trusted: bool = False) -> Start | End:
    """:func:`parse`, for a start or an end."""
    record = parse(data, key, trusted=trusted)
    if type(record) is not End and type(record) is not Start:
        damaged(key, "is neither a start nor an end")
    return record


def to_body(record: Record) -> bytes:
    """The body of a record, to be framed. Values must be canonicalisable (checked before)."""
    lean: Record
    match record:
        case Start():
            lean = replace(record, consumed=record.consumed.lean(), digest="")
        case End():
            plain, large, _ = _apart(record.outputs)
            lean = replace(
                record, consumed=record.consumed.lean(), outputs=plain, large=large, digest="",
                artifacts=record.artifacts or NOTHING, metrics=record.metrics or NOTHING,
            )  # fmt: skip
        case RunRecord():
            plain, large, secrets = _apart(record.parameters)
            lean = replace(
                record, dag=_raw(record.dag), parameters=plain, large=large, secrets=secrets,
                labels=record.labels or NOTHING, digest="",
            )  # fmt: skip
        case Invocation():
            lean = replace(record, dag=_raw(record.dag), force=record.force or NOTHING, digest="")
        case Marker():
            lean = replace(record, digest="")
    fields = _write(lean)[1:]
    return _BEGIN[type(record)] + (b"," + fields if fields != b"}" else fields)


_BEGIN = {
    kind: b'{"format":"%s","kind":"%s"' % (FORMAT.encode(), name.encode())
    for name, kind in _KINDS.items()
}
_write = msgspec.json.Encoder().encode


def _apart(values: Mapping[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
    """The values that stand in a record, those in blobs, and the names of secrets."""
    kinds = set(map(type, values.values()))
    if Blob not in kinds and Secret not in kinds:
        return values or NOTHING, NOTHING, ()
    large = {name: value for name, value in values.items() if type(value) is Blob}
    secrets = tuple(name for name, value in values.items() if type(value) is Secret)
    plain = {n: value for n, value in values.items() if n not in large and n not in secrets}
    return plain or NOTHING, large or NOTHING, secrets


def _raw(document: Mapping[str, Any] | None) -> Any:
    """A document that may nest deeper than msgspec writes."""
    return document and msgspec.Raw(dumps(dict(document)))
