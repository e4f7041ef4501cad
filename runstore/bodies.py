"""Records <-> the JSON of their bodies.

The parsers take exactly the fields they know and check their types, so nothing above this module
meets a half-valid record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from runstore.canonical import dumps
from runstore.errors import DamagedError, RecordDamagedError
from runstore.framing import BODY, FORMAT, damaged, load_body, unframe
from runstore.keys import MAX_ATTEMPT
from runstore.records import (
    Blob,
    Consumed,
    End,
    Holder,
    Invocation,
    Marker,
    Record,
    RunRecord,
    Secret,
    Start,
)

__all__ = ["parse", "parse_attempt", "parse_consumed", "to_body"]

_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch


def _blobs(raw: Mapping[str, Any] | None) -> dict[str, Blob]:
    if not raw:
        return {}
    return {name: _blob(blob) for name, blob in raw.items()}


def _values(raw: Mapping[str, Any] | None) -> dict[str, Blob]:
    """Large values, each of which tells the digest of what it is."""
    blobs = _blobs(raw)
    for name, blob in blobs.items():
        value = (raw or {})[name].get("value")
        if type(value) is not str or _is_digest(value) is None:
            raise ValueError(f"{value!r:.80} is no digest of a value")
        blobs[name] = blob._replace(value=value)
    return blobs


def _blob(raw: Mapping[str, Any]) -> Blob:
    digest, size = raw["sha256"], raw["size"]
    if _is_digest(digest) is None or type(size) is not int:
        raise ValueError(f"{digest!r:.80} names no blob")
    return Blob(digest, size)


def _holder(raw: Mapping[str, Any] | None) -> Holder | None:
    if not raw:
        return None
    get = raw.get
    host, boot, pod = raw["host"], get("boot"), get("pod")
    _texts(host, boot or "", pod or "")
    pid, started = get("pid"), get("pid_start")
    if type(pid or 0) is not int or type(started or 0) is not int:
        raise TypeError("a process is no number")
    return Holder(host, pid, started, boot, pod)


_NONE: dict[str, Any] = {}
_all_texts = "".join
"""Raises TypeError for what is no text: the quickest way there is to look at a few."""


def parse_consumed(raw: Mapping[str, Any] | None) -> Consumed:
    """What :meth:`Consumed.to_json` gave.

    :raises KeyError, TypeError, AttributeError, ValueError: for anything else.
    """
    if not raw:
        return Consumed(_NONE, _NONE, _NONE, _NONE)
    get = raw.get
    params, artifacts = get("params") or _NONE, get("artifacts")
    results, ends = get("results") or _NONE, get("ends") or _NONE
    if type(params) is not dict or type(results) is not dict or type(ends) is not dict:
        raise TypeError("what was consumed is no object")
    # Whether they are digests is found when they are compared: what is none equals none.
    # Plain loops: there are one or two of each, and anything else takes longer to begin.
    for value in params.values():
        if type(value) is not str:
            raise TypeError("a digest of what was consumed is no text")
    for value in results.values():
        if type(value) is not str:
            raise TypeError("a digest of what was consumed is no text")
    if ends:
        _texts(*ends.values())
    if artifacts:
        artifacts = {n: (a["sha256"], a.get("from")) for n, a in artifacts.items()}
        for digest, source in artifacts.values():
            _texts(digest, source or "")
    return Consumed(params, artifacts or _NONE, results, ends)


def _dicts(*values: Any) -> None:
    for value in values:
        if type(value) is not dict:
            raise TypeError(f"an object is expected where {value!r:.40} stands")


def _texts(*values: Any) -> None:
    for value in values:
        if type(value) is not str:
            raise TypeError(f"{value!r:.40} is not a text")


def _numbered(attempt: Any) -> None:
    if type(attempt) is not int or not 1 <= attempt <= MAX_ATTEMPT:
        raise ValueError(f"{attempt!r:.40} is no number of an attempt")


def _list_of_texts(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    if type(value) is not list:
        raise TypeError(f"a list is expected where {value!r:.40} stands")
    _texts(*value)
    return tuple(value)


_OUTCOMES = frozenset(("succeeded", "failed", "lost", "cancelled"))


def _end(raw: dict[str, Any], key: str, digest: str) -> End:
    get = raw.get
    outputs, metrics = get("outputs") or _NONE, get("metrics") or _NONE
    error, invocation, ended = get("error"), raw["invocation"], get("ended") or ""
    nonce, start, began = raw["nonce"], get("start"), get("began") or ""
    run_id, path, number, outcome = raw["run_id"], raw["path"], raw["attempt"], raw["outcome"]
    # Not by `_dicts` and `_texts`: an end is read for every attempt of a run.
    if type(outputs) is not dict or type(metrics) is not dict:
        raise TypeError("outputs or metrics are no object")
    _all_texts((run_id, path, invocation, nonce, start or "", began, ended))
    if type(number) is not int or not 1 <= number <= MAX_ATTEMPT:
        _numbered(number)
    if outcome not in _OUTCOMES:
        damaged(key, f"has the unknown outcome {outcome!r}")
    large, artifacts, log, ended_by = get("large"), get("artifacts"), get("log"), get("ended_by")
    naming = False
    # Most ends have none of these: asked for here, not in four calls (0.3 of 4.7 us a record).
    if large:
        outputs = {**outputs, **_values(large)}
        naming = True
    if error:
        _dicts(error)
        _texts(*error.values())
        naming = naming or "sha256" in error
    if artifacts:
        artifacts = _blobs(artifacts)
        naming = True
    return End(
        run_id,
        path,
        number,
        nonce,
        invocation,
        outcome,
        parse_consumed(get("consumed")),
        start,
        outputs,
        artifacts or _NONE,
        metrics,
        error or None,
        _blob(log) if log else None,
        began,
        ended,
        _holder(ended_by) if ended_by else None,
        digest,
        naming,
    )


def _start(raw: dict[str, Any], _key: str, digest: str) -> Start:
    get = raw.get
    code = get("code")
    _texts(raw["run_id"], raw["path"], raw["invocation"], raw["nonce"], get("time") or "")
    _numbered(raw["attempt"])
    if code:
        _dicts(code)
    return Start(
        raw["run_id"],
        raw["path"],
        raw["attempt"],
        raw["nonce"],
        raw["invocation"],
        _holder(raw["by"]) or Holder("unknown"),
        get("time") or "",
        parse_consumed(get("consumed")),
        code,
        digest,
    )


def _run(raw: dict[str, Any], _key: str, digest: str) -> RunRecord:
    given, labels = raw.get("parameters") or _NONE, raw.get("labels") or _NONE
    origin = raw.get("origin") or _NONE
    _dicts(raw["dag"], given, labels, origin)
    parameters = dict(given)
    parameters.update(_values(raw.get("large")))
    parameters.update({name: Secret(name) for name in _list_of_texts(raw.get("secrets"))})
    _texts(raw["run_id"], raw["nonce"], raw["structure"], raw.get("created") or "")
    _texts(*labels.values(), *origin.values())
    if origin:
        _texts(origin["run_id"])
        if _is_digest(origin.get("pack") or "0" * 64) is None:
            raise ValueError(f"{origin['pack']!r:.80} names no pack")
    return RunRecord(
        raw["run_id"],
        raw["nonce"],
        raw.get("created") or "",
        raw["dag"],
        raw["structure"],
        parameters,
        labels or {},
        origin or None,
        digest,
    )


def _invocation(raw: dict[str, Any], _key: str, digest: str) -> Invocation:
    force, code = raw.get("force") or _NONE, raw.get("code") or None
    _dicts(force, code or _NONE, raw.get("dag") or _NONE)
    _texts(raw["run_id"], raw["id"], raw["mode"])
    _texts(raw.get("time") or "", raw.get("structure") or "")
    if not all(type(number) is int for number in force.values()):
        raise TypeError("force is not a number")
    return Invocation(
        raw["run_id"],
        raw["id"],
        raw["mode"],
        raw.get("time") or "",
        _holder(raw.get("by")),
        _list_of_texts(raw.get("command")),
        code,
        force,
        _list_of_texts(raw.get("ignored")),
        raw.get("structure") or None,
        raw.get("dag") or None,
        digest,
    )


def _marker(raw: dict[str, Any], _key: str, digest: str) -> Marker:
    created, version = raw.get("created") or "", raw.get("version") or ""
    _texts(created, version)
    return Marker(created, version, bool(raw.get("single_writer")), digest)


_KINDS: dict[str, Any] = {
    "start": _start,
    "end": _end,
    "run": _run,
    "invocation": _invocation,
    "store": _marker,
}


def parse(data: bytes, key: str, *, trusted: bool = False) -> Any:
    """The record in ``data``, checked. ``trusted``: its bytes were checked already, in a pack.

    :raises RecordDamagedError: not what a writer wrote. ``key`` is named.
    :raises FormatVersionError: of another major version.
    """
    if trusted:
        body, digest = data[BODY:-1], data[11:75].decode()
    else:
        body, digest = unframe(data, key)
    raw = load_body(body, key)
    try:
        return _KINDS[raw["kind"]](raw, key, digest)
    except DamagedError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecordDamagedError(
            f"record {key} lacks or mistypes a field ({error}): restore it from a copy", key=key
        ) from None


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


@lru_cache(maxsize=8)  # a process writes as itself; asked for with every start
def _by(holder: Holder | None) -> dict[str, Any] | None:
    return {k: v for k, v in holder._asdict().items() if v is not None} if holder else None


def to_body(record: Record) -> bytes:
    """The body of a record, to be framed. Values must be canonicalisable (checked before)."""
    match record:
        case Start():
            kind = "start"
            rest: dict[str, Any] = {
                "run_id": record.run_id,
                "path": record.path,
                "attempt": record.attempt,
                "nonce": record.nonce,
                "invocation": record.invocation,
                "by": _by(record.by),
                "time": record.time,
                "consumed": record.consumed.to_json(),
            }
            if record.code:
                rest["code"] = record.code
        case End():
            kind = "end"
            values = _split(record.outputs)
            rest = {
                "run_id": record.run_id,
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
                )
            )
        case Invocation():
            kind = "invocation"
            rest = {"run_id": record.run_id, "id": record.id, "mode": record.mode}
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
                )
            )
        case Marker():
            kind = "store"
            rest = {"created": record.created, "version": record.version}
            if record.single_writer:
                rest["single_writer"] = True
    return orjson.dumps({"format": FORMAT, "kind": kind, **rest}, option=orjson.OPT_STRICT_INTEGER)
