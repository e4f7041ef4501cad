"""Bytes under keys, on a disk, in memory or in a bucket: create, read and list.

`Storage` is the contract. Whatever a disk or a bucket does differently is in this package, and
nothing here knows what a run is. Importing it loads no backend: `open_storage` does that.
"""

from __future__ import annotations

from runstore.storage.base import (
    CHUNK_BYTES,
    MAX_KEY_BYTES,
    Storage,
    assume_single_writer,
    check_key,
    check_prefix,
    has_single_writer,
    is_key,
    is_near,
    is_segment,
    missing,
    one_by_one,
    read_all,
)
from runstore.storage.opening import expand_home, open_storage, prove

__all__ = [
    "CHUNK_BYTES", "MAX_KEY_BYTES", "Storage", "assume_single_writer", "check_key", "check_prefix",
    "expand_home", "has_single_writer", "is_key", "is_near", "is_segment", "missing", "one_by_one",
    "open_storage", "prove", "read_all",
]  # fmt: skip
