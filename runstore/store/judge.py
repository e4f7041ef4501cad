"""Whether what was read is what it should be: a pack that of its name, an end that of its start
(FORMAT.md, sections 8 and 11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

from runstore.errors import DamagedError
from runstore.records import End, RunRecord, Start, keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import BODY, Pack, parse_pack, stated_digest

__all__ = ["A_START", "Ended", "RunPack", "has_nonce", "is_of", "read_pack", "readable", "whose"]


class RunPack(NamedTuple):
    """A pack as a reader of the run takes it."""

    records: list[bytes]
    """Framed; those that are whole, if the pack is damaged."""
    problems: list[str]
    """What is wrong with the pack: it is damaged, of another run, or not of its name."""
    logs: Mapping[str, str]
    """Digest of a log that a fork took over -> its bytes in base64."""
    is_origin: bool
    """Whether it holds what a fork took over: ends of other runs, which count as attempt 0."""


def read_pack(data: bytes, key: str, run: RunRecord) -> RunPack:
    """Judge what stands under the name of one of a run's packs."""
    pack = parse_pack(data, key)
    problems, digests = pack.problems, [stated_digest(data)]
    ours = (pack.run_id, pack.run_nonce) == (run.run_id, run.nonce)
    if problems:
        # What a damaged pack says of itself is damaged with it: its bytes may still be its name's.
        digests.append(sha256(data[BODY:-1]).hexdigest())
        ours = True
    elif not ours:
        problems.append(f"pack {key} belongs to {whose(pack, run)}")
    if keys.name_in(key) not in digests:
        problems.append(f"pack {key} is not of its name")
        ours = False
    is_origin = ours and keys.name_in(key) == run.origin_pack
    return RunPack(pack.records, problems, pack.logs, is_origin)


def readable(data: bytes, key: str) -> Iterator[tuple[bytes, Start | End]]:
    """The records in a pack that can be read, as they stand there and parsed."""
    for framed in parse_pack(data, key).records:
        with suppress(DamagedError):
            yield framed, parse_attempt(framed, key)


def whose(of: Start | End | Pack, run: RunRecord) -> str:
    """The run that something found in another run belongs to, for people: one of another id, or an
    earlier or later one of the same id."""
    if of.run_id == run.run_id and of.run_nonce != run.nonce:
        return f"another run {of.run_id!r}, of the nonce {of.run_nonce}"
    return f"run {of.run_id!r}"


A_START = b'{"format":"runstore/1","kind":"start",'
"""What the body of a start begins with."""


class Ended(NamedTuple):
    """What an end says of its start."""

    start: str | None
    nonce: str
    outcome: str


def has_nonce(framed: bytes, nonce: str) -> bool:
    """Whether a start, which is not parsed for that, is of this claim."""
    return b'"nonce":"%b"' % nonce.encode() in framed


def is_of(end: End | Ended, digest: str, nonce: str) -> bool:
    """Whether an end is that of a start. One that was given up because its start could not be read
    names none."""
    if end.start is None:
        return end.outcome == "lost"
    return end.start == digest and end.nonce == nonce
