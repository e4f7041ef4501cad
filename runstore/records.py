"""Records: models <-> bytes, in the framing of FORMAT.md, section 3.

Every read goes through :func:`unframe`, which checks the digest with a slice and a hash. The
parsers take exactly the fields they know and check their types, so nothing above this module ever
meets a half-valid record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

import orjson

from runstore.canonical import dumps
from runstore.errors import DamagedError, FormatVersionError, RecordDamagedError

__all__ = [
    "FORMAT",
    "Blob",
    "Consumed",
    "End",
    "Holder",
    "Invocation",
    "Marker",
    "RunRecord",
    "Secret",
    "Start",
    "frame",
    "parse",
    "parse_attempt",
    "parse_pack",
    "to_body",
    "to_pack",
    "unframe",
]

FORMAT = "runstore/1"
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_HEAD = b'{"sha256":"'
_MIDDLE = b'","record":'
_FRAME = re.compile(rb'\{"sha256":"[0-9a-f]{64}","record":')
_BODY = 86  # where the body begins: 11 bytes, 64 hex digits, 11 bytes


class Blob(NamedTuple):
    """A value, artifact or log that stands in a blob of its own."""

    sha256: str
    size: int
    value: str | None = None
    """Of a value: the digest of its canonical JSON, which is what consumers compare."""

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"sha256": self.sha256, "size": self.size}
        return out if self.value is None else {**out, "value": self.value}


class Secret(NamedTuple):
    """Stands for the value of a secret parameter, which is nowhere in the store."""

    name: str


class Holder(NamedTuple):
    """Who writes: what a later process needs to ask whether this one lives."""

    host: str
    pid: int | None = None
    pid_start: int | None = None
    boot: str | None = None
    pod: str | None = None

    def __str__(self) -> str:
        return f"pod {self.pod}" if self.pod else f"process {self.pid} on {self.host}"


@dataclass(slots=True)
class Consumed:
    """What an attempt was made from, as digests (FORMAT.md, section 7.2)."""

    params: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Name -> digest, and the path of the node that gave it."""
    results: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Consumed:
        """What :meth:`to_json` gave.

        :raises KeyError, TypeError, AttributeError, ValueError: for anything else.
        """
        return _consumed(document)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.params:
            out["params"] = self.params
        if self.artifacts:
            out["artifacts"] = {
                name: {"sha256": digest, "from": source} if source else {"sha256": digest}
                for name, (digest, source) in self.artifacts.items()
            }
        if self.results:
            out["results"] = self.results
        if self.ends:
            out["ends"] = self.ends
        return out


@dataclass(slots=True, eq=False)
class Start:
    """A claim: somebody began this attempt."""

    run_id: str
    path: str
    attempt: int
    nonce: str
    invocation: str
    by: Holder
    time: str
    consumed: Consumed
    code: Mapping[str, Any] | None = None
    digest: str = ""


@dataclass(slots=True, eq=False)
class End:
    """The one end of an attempt."""

    run_id: str
    path: str
    attempt: int
    nonce: str
    invocation: str
    outcome: str
    consumed: Consumed
    start: str | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Name -> JSON value, or :class:`Blob`."""
    artifacts: Mapping[str, Blob] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    log: Blob | None = None
    began: str = ""
    ended: str = ""
    ended_by: Holder | None = None
    digest: str = ""
    names_blobs: bool = False
    """Of one that was read: whether an output, an artifact or its error names a blob."""


@dataclass(slots=True, eq=False)
class RunRecord:
    """The run itself. ``dag`` is its JSON form; ``parameters`` hold no secret's value."""

    run_id: str
    nonce: str
    created: str
    dag: Mapping[str, Any]
    structure: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Name -> JSON value, :class:`Blob` or :class:`Secret`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] | None = None
    digest: str = ""


@dataclass(slots=True, eq=False)
class Invocation:
    """One process, or one workflow, working on a run."""

    run_id: str
    id: str
    mode: str
    time: str = ""
    by: Holder | None = None
    command: Sequence[str] = ()
    code: Mapping[str, Any] | None = None
    force: Mapping[str, int] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    structure: str | None = None
    dag: Mapping[str, Any] | None = None
    digest: str = ""


@dataclass(slots=True, eq=False)
class Marker:
    """``runstore.json``: this is a store."""

    created: str
    version: str
    single_writer: bool = False
    digest: str = ""


Record = Start | End | RunRecord | Invocation | Marker


# -- bytes ---------------------------------------------------------------------------------------


def frame(body: bytes) -> tuple[bytes, str]:
    """A body in its frame, and its digest."""
    digest = sha256(body).hexdigest()
    return b"".join((_HEAD, digest.encode(), _MIDDLE, body, b"}")), digest


def unframe(data: bytes, key: str) -> tuple[bytes, str]:
    """The body and its digest, checked. About a microsecond.

    :raises RecordDamagedError: naming ``key``, if frame or digest do not hold.
    """
    body = data[_BODY:-1]
    digest = sha256(body).hexdigest()
    if data[:_BODY] != b'{"sha256":"%b","record":' % digest.encode() or data[-1:] != b"}":
        raise RecordDamagedError(_diagnose(data, key), key=key)
    return body, digest


def _diagnose(data: bytes, key: str) -> str:
    if not data:
        problem = "is empty"
    elif data[:11] != _HEAD or data[75:_BODY] != _MIDDLE:
        problem = "is not in the framing of a record"
    elif data[-1:] != b"}":
        problem = f"is cut short at {len(data)} bytes"
    else:
        problem = "does not match its digest"
    return f"record {key} {problem}: restore it from a copy, or let its step run again"


def _damaged(key: str, problem: str) -> NoReturn:
    raise RecordDamagedError(f"record {key} {problem}: restore it from a copy", key=key)


def _load(body: bytes, key: str) -> dict[str, Any]:
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RecordDamagedError(f"record {key} is not JSON: {error}", key=key) from None
    if type(record) is not dict:
        _damaged(key, "is no object")
    if record.get("format") != FORMAT:
        raise FormatVersionError(
            f"record {key} is of format {record.get('format')!r} and this runstore reads {FORMAT}: "
            f"upgrade runstore",
            key=key,
        )
    return record


# -- bodies -> models ----------------------------------------------------------------------------


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


def _consumed(raw: Mapping[str, Any] | None) -> Consumed:
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
    # Not by `_dicts` and `_texts`: an end is read for every attempt of a run.
    if type(outputs) is not dict or type(metrics) is not dict:
        raise TypeError("outputs or metrics are no object")
    _all_texts((invocation, nonce, start or "", began, ended))
    large, naming = get("large"), False
    if large:
        outputs = {**outputs, **_values(large)}
        naming = True
    if raw["outcome"] not in _OUTCOMES:
        _damaged(key, f"has the unknown outcome {raw['outcome']!r}")
    # Most ends have none of these: asked for here, not in four calls (0.3 of 4.7 us a record).
    artifacts, log, ended_by = get("artifacts"), get("log"), get("ended_by")
    if error:
        _dicts(error)
        _texts(*error.values())
        naming = naming or "sha256" in error
    if artifacts:
        artifacts = _blobs(artifacts)
        naming = True
    return End(
        raw["run_id"],
        raw["path"],
        raw["attempt"],
        nonce,
        invocation,
        raw["outcome"],
        _consumed(get("consumed")),
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
    _texts(raw["invocation"], raw["nonce"], get("time") or "")
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
        _consumed(get("consumed")),
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
        body, digest = data[_BODY:-1], data[11:75].decode()
    else:
        body, digest = unframe(data, key)
    raw = _load(body, key)
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
        _damaged(key, "is neither a start nor an end")
    number = record.attempt
    if type(record.path) is not str or type(number) is not int or not 1 <= number <= 999_999:
        _damaged(key, "has no path, or no attempt number")
    return record


# -- packs ---------------------------------------------------------------------------------------


def to_pack(run_id: str, framed: Sequence[bytes]) -> tuple[bytes, str]:
    """Framed records, verbatim, in one framed pack; and the pack's digest, which names it."""
    head = orjson.dumps(
        {"format": FORMAT, "kind": "pack", "run_id": run_id, "lengths": [len(r) for r in framed]}
    )
    return frame(head[:-1] + b',"records":[' + b",".join(framed) + b"]}")


def parse_pack(data: bytes, key: str) -> tuple[str, list[bytes], list[str]]:
    """``(run id, framed records, problems)``. Each record is still to be parsed, and checked there.

    If the pack's own digest does not hold, the records that are whole are still found: each has a
    digest of its own. ``problems`` says what is wrong with the pack then.
    """
    problems: list[str] = []
    try:
        body, _ = unframe(data, key)
    except RecordDamagedError as error:
        problems.append(str(error))
        body = data[_BODY:-1]
    cut = body.find(b',"records":[')
    try:
        head = _load(body[:cut] + b"}", key)
        lengths = head["lengths"]
        at = len(body) - 2 - sum(lengths) - max(len(lengths) - 1, 0)
        if at != cut + len(b',"records":[') and not problems:
            _damaged(key, "has lengths that do not add up")
        records = []
        at = cut + len(b',"records":[')
        for length in lengths:
            records.append(body[at : at + length])
            at += length + 1
        if problems:
            # Either a record is damaged, and the lengths are right, or the lengths are damaged.
            records = list(dict.fromkeys([*filter(_is_whole, records), *_whole(body)]))
        return head["run_id"], records, problems
    except (KeyError, TypeError, DamagedError) as error:
        problems.append(f"record {key} cannot be read as a pack: {error}")
        return "", _whole(body), problems


def _is_whole(framed: bytes) -> bool:
    return sha256(framed[_BODY:-1]).hexdigest().encode() == framed[11:75]


def _whole(body: bytes) -> list[bytes]:
    """The records in a damaged pack whose own digests hold, wherever they stand."""
    starts = [match.start() for match in _FRAME.finditer(body)]
    ends = [*(start - 1 for start in starts[1:]), len(body) - 2]
    return [framed for at, end in zip(starts, ends) if _is_whole(framed := body[at:end])]  # noqa: B905 - no end without a start


# -- models -> bodies ----------------------------------------------------------------------------


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
