"""Whether an end is that of the start beside it (FORMAT.md, section 11)."""

from __future__ import annotations

from typing import NamedTuple

from runstore.records import End

__all__ = ["A_START", "Ended", "has_nonce", "is_of"]

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
