"""The bytes around records: the frame with its digest, and packs (FORMAT.md, sections 3 and 8).

Every read goes through :func:`unframe`, which checks the digest with a slice and a hash.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

import orjson

from runstore.errors import DamagedError, FormatVersionError, RecordDamagedError

__all__ = [
    "BODY", "FORMAT", "Pack", "damaged", "frame", "load_body", "log_in_pack", "parse_pack",
    "stated_digest", "to_pack", "unframe",
]  # fmt: skip

FORMAT = "runstore/1"
_HEAD = b'{"sha256":"'
_MIDDLE = b'","record":'
_FRAME = re.compile(rb'\{"sha256":"[0-9a-f]{64}","record":')
BODY = 86  # where the body begins: 11 bytes, 64 hex digits, 11 bytes


def frame(body: bytes) -> tuple[bytes, str]:
    """A body in its frame, and its digest."""
    digest = sha256(body).hexdigest()
    return b"".join((_HEAD, digest.encode(), _MIDDLE, body, b"}")), digest


def unframe(data: bytes, key: str) -> tuple[bytes, str]:
    """The body and its digest, checked. About a microsecond.

    :raises RecordDamagedError: naming ``key``, if frame or digest do not hold.
    """
    body = data[BODY:-1]
    digest = sha256(body).hexdigest()
    if data[:BODY] != b'{"sha256":"%b","record":' % digest.encode() or data[-1:] != b"}":
        damaged(key, _diagnose(data))
    return body, digest


def stated_digest(framed: bytes) -> str:
    """The digest that a frame says its body has, unchecked."""
    return framed[11:75].decode("ascii", "replace")


def _diagnose(data: bytes) -> str:
    if not data:
        return "is empty"
    if data[:11] != _HEAD or data[75:BODY] != _MIDDLE:
        return "is not in the framing of a record"
    if data[-1:] != b"}":
        return f"is cut short at {len(data)} bytes"
    return "does not match its digest"


def damaged(key: str, problem: str) -> NoReturn:
    """
    :raises RecordDamagedError: always.
    """
    again = "; or let a retry run its step again" if "/attempts/" in f"/{key}" else ""
    raise RecordDamagedError(
        f"record {key} {problem}", advice=f"restore it from a copy{again}", key=key
    )


def load_body(body: bytes, key: str) -> dict[str, Any]:
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        damaged(key, f"is not JSON ({error})")
    if type(record) is not dict:
        damaged(key, "is no object")
    if record.get("format") != FORMAT:
        raise FormatVersionError(
            f"record {key} is of format {record.get('format')!r} and this runstore reads {FORMAT}",
            advice="upgrade runstore",
            key=key,
        )
    return record


class Pack(NamedTuple):
    """What an object that is to be a pack holds."""

    run_id: str
    run_nonce: str
    records: list[bytes]
    """Framed; each is still to be parsed, and checked there."""
    problems: list[str]
    """What is wrong with the pack itself; none if it is as it was written."""
    logs: Mapping[str, str] = {}
    """Of what a fork took over: digest of a log -> its bytes in base64."""


def to_pack(
    run_id: str, run_nonce: str, framed: Sequence[bytes], logs: Mapping[str, bytes] | None = None
) -> tuple[bytes, str]:
    """Framed records, verbatim, in one framed pack; and the pack's digest, which names it.

    :param logs: digest -> bytes, to go along.
    """
    head: dict[str, Any] = {
        "format": FORMAT,
        "kind": "pack",
        "run_id": run_id,
        "run_nonce": run_nonce,
    }
    if logs:
        head["logs"] = {name: b64encode(logs[name]).decode() for name in sorted(logs)}
    head["lengths"] = [len(record) for record in framed]
    return frame(orjson.dumps(head)[:-1] + b',"records":[' + b",".join(framed) + b"]}")


def parse_pack(data: bytes, key: str) -> Pack:
    """What a pack holds.

    If its own digest does not hold, the records that are whole are still found: each has a digest
    of its own. ``problems`` says what is wrong with the pack then.
    """
    problems: list[str] = []
    try:
        body, _ = unframe(data, key)
    except RecordDamagedError as error:
        problems.append(error.problem)
        body = data[BODY:-1]
    cut = body.find(b',"records":[')
    try:
        head = load_body(body[:cut] + b"}", key)
        lengths = head["lengths"]
        at = len(body) - 2 - sum(lengths) - max(len(lengths) - 1, 0)
        if at != cut + len(b',"records":[') and not problems:
            damaged(key, "has lengths that do not add up")
        records = []
        at = cut + len(b',"records":[')
        for length in lengths:
            records.append(body[at : at + length])
            at += length + 1
        if problems:
            # Either a record is damaged, and the lengths are right, or the lengths are damaged.
            records = list(dict.fromkeys([*filter(_is_whole, records), *_whole(body)]))
        logs = head.get("logs") or {}
        if type(logs) is not dict:
            damaged(key, "has logs that are no object")
        return Pack(head["run_id"], head["run_nonce"], records, problems, logs)
    except (KeyError, TypeError, DamagedError) as error:
        problems.append(f"record {key} cannot be read as a pack: {error}")
        return Pack("", "", _whole(body), problems)


def log_in_pack(text: str, digest: str, key: str) -> bytes:
    """A log out of :attr:`Pack.logs`, checked.

    :raises RecordDamagedError: naming the pack, if it is not what its name says.
    """
    try:
        data = b64decode(text, validate=True)
    except (ValueError, TypeError):
        data = None
    if data is None or sha256(data).hexdigest() != digest:
        damaged(key, f"holds a log that is not the one of the digest {digest}")
    return data


def _is_whole(framed: bytes) -> bool:
    return sha256(framed[BODY:-1]).hexdigest().encode() == framed[11:75]


def _whole(body: bytes) -> list[bytes]:
    """The records in a damaged pack whose own digests hold, wherever they stand."""
    starts = [match.start() for match in _FRAME.finditer(body)]
    ends = [*(start - 1 for start in starts[1:]), len(body) - 2]
    return [framed for at, end in zip(starts, ends) if _is_whole(framed := body[at:end])]  # noqa: B905 - no end without a start
