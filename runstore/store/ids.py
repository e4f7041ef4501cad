"""Times and ids. Clocks are for people: nothing is decided by what is made here."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

__all__ = ["may_force", "new_id", "new_invocation_id", "new_nonce", "now"]

_FORCE = "-force"


def now() -> str:
    """RFC 3339, UTC, microseconds."""
    # isoformat is five times as quick as strftime, and ends in +00:00.
    return datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7), lowercase: sorts by the time it was made."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (
        (milliseconds & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (random >> 62 & 0xFFF) << 64
        | 0b10 << 62
        | random & (1 << 62) - 1
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_invocation_id(*, forces: bool) -> str:
    """A :func:`new_id`; that of an invocation that forces something tells so, that whoever reads a
    few attempts need not read every invocation (FORMAT.md, section 5)."""
    return new_id() + _FORCE if forces else new_id()


def may_force(invocation: str) -> bool:
    return invocation.endswith(_FORCE)


def new_nonce() -> str:
    """32 random hex digits, made once for each logical create."""
    return os.urandom(16).hex()
