"""Records <-> the JSON of their bodies.

What a record's fields may hold is declared with their types in :mod:`runstore.records`, and checked
here, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
import orjson
from msgspec.structs import force_setattr

from runstore.canonical import dumps
from runstore.errors import RecordDamagedError
from runstore.records import (
    Blob,
    End,
    Holder,
    Invocation,
    Marker,
    Record,
    RunRecord,
    Secret,
    Start,
    stamp,
)
from runstore.records.framing import BODY, FORMAT, damaged, load_body, unframe

__all__ = ["parse", "parse_attempt", "to_body"]

_KINDS: dict[str, type[Record]] = {
    "start": Start,
    "end": End,
    "run": RunRecord,
    "invocation": Invocation,
    "store": Marker,
}
_is_digest = re.compile("[0-9a-f]{64}").fullmatch
_AN_END = b'{"format":"runstore/1","kind":"end",'
_read_end = msgspec.json.Decoder(End).decode
_read_any = msgspec.json.Decoder(dict[str, Any]).decode


def parse(data: bytes, key: str, *, trusted: bool = False) -> Any:
    """The record in ``data``, checked. ``trusted``: its bytes were checked already, in a pack.

    :raises RecordDamagedError: not what a writer wrote. ``key`` is named.
    :raises FormatVersionError: of another major version.
    """
    if trusted:
        body, digest = data[BODY:-1], data[11:75].decode()
    else:
        body, digest = unframe(data, key)
    record = None
    if body.startswith(_AN_END):
        # A run has one for each attempt: straight from the bytes, in half the time. What is not
        # as this library writes it is looked at below.
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
        # By the reader that is used above: an integer beyond 64 bits is one to it, to orjson not.
        # Too deep for it, and for that alone, orjson's does.
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


def _split(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if type(value) is Blob:
            out.setdefault("large", {})[name] = value.to_json()
        elif type(value) is Secret:
            out.setdefault("secrets", []).append(name)
        else:
            out.setdefault("", {})[name] = value
    return out


def _sparse(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if value}  # texts, lists and objects: none is 0


def _fragment(document: Mapping[str, Any]) -> orjson.Fragment:
    """A document that may nest deeper than the 254 levels orjson writes."""
    return orjson.Fragment(dumps(dict(document)))


def _attempt_facts(record: Start | End) -> tuple[tuple[str, Any], ...]:
    return ("code_digest", record.code_digest), ("try", record.try_), ("of", record.of)


@lru_cache(maxsize=8)  # a process writes as itself; asked for with every start
def _by(holder: Holder | None) -> dict[str, Any] | None:
    return holder.to_json() if holder else None


def to_body(record: Record) -> bytes:
    """The body of a record, to be framed. Values must be canonicalisable (checked before)."""
    match record:
        case Start():
            kind = "start"
            rest: dict[str, Any] = {
                "run_id": record.run_id,
                "run_nonce": record.run_nonce,
                "path": record.path,
                "attempt": record.attempt,
                "nonce": record.nonce,
                "invocation": record.invocation,
                "by": _by(record.by),
                "time": record.time,
                "consumed": record.consumed.to_json(),
            }
            rest |= _sparse((("code", record.code), *_attempt_facts(record)))
        case End():
            kind = "end"
            values = _split(record.outputs)
            rest = {
                "run_id": record.run_id,
                "run_nonce": record.run_nonce,
                "path": record.path,
                "attempt": record.attempt,
                "nonce": record.nonce,
                "invocation": record.invocation,
                "outcome": record.outcome,
                "consumed": record.consumed.to_json(),
            }
            rest |= _sparse(
                (
                    ("start", record.start),
                    ("outputs", values.get("")),
                    ("large", values.get("large")),
                    ("artifacts", {n: b.to_json() for n, b in record.artifacts.items()}),
                    ("metrics", dict(record.metrics)),
                    ("error", record.error),
                    ("log", record.log.to_json() if record.log else None),
                    ("began", record.began),
                    ("ended", record.ended),
                    ("ended_by", _by(record.ended_by)),
                    *_attempt_facts(record),
                )
            )
        case RunRecord():
            kind = "run"
            values = _split(record.parameters)
            rest = {
                "run_id": record.run_id,
                "nonce": record.nonce,
                "created": record.created,
                "dag": _fragment(record.dag),
                "structure": record.structure,
            }
            rest |= _sparse(
                (
                    ("parameters", values.get("")),
                    ("large", values.get("large")),
                    ("secrets", values.get("secrets")),
                    ("labels", dict(record.labels)),
                    ("origin", record.origin),
                    ("single_writer", record.single_writer),
                    ("source", record.source),
                )
            )
        case Invocation():
            kind = "invocation"
            rest = {
                "run_id": record.run_id,
                "run_nonce": record.run_nonce,
                "id": record.id,
                "mode": record.mode,
                "number": record.number,
            }
            rest |= _sparse(
                (
                    ("time", record.time),
                    ("by", _by(record.by)),
                    ("command", list(record.command)),
                    ("code", record.code),
                    ("force", dict(record.force)),
                    ("ignored", list(record.ignored)),
                    ("structure", record.structure),
                    ("dag", _fragment(record.dag) if record.dag else None),
                    ("source", record.source),
                )
            )
        case Marker():
            kind = "store"
            rest = {"created": record.created, "version": record.version}
            if record.single_writer:
                rest["single_writer"] = True
    return orjson.dumps({"format": FORMAT, "kind": kind, **rest}, option=orjson.OPT_STRICT_INTEGER)
