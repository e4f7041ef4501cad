"""What is written, to the letter of FORMAT.md: records, their JSON, frames, packs and keys."""

from __future__ import annotations

from runstore.records.models import (
    MAX_COUNT,
    NOTHING,
    Blob,
    Consumed,
    Count,
    Digest,
    End,
    Holder,
    Invocation,
    Loaded,
    Marker,
    Nonce,
    Number,
    Record,
    RunRecord,
    Secret,
    Start,
    end_of,
    key_of,
    stamp,
)

__all__ = [
    "NOTHING", "Blob", "Consumed", "Count", "Digest", "End", "MAX_COUNT", "Holder", "Invocation",
    "Loaded", "Marker", "Nonce", "Number", "Record", "RunRecord", "Secret", "Start", "end_of",
    "key_of", "stamp",
]  # fmt: skip
