"""Stores, runs, attempts: what executors write and everybody reads."""

from __future__ import annotations

from runstore.store.attempt import Attempt
from runstore.store.fork import compare
from runstore.store.run import Run
from runstore.store.store import Store, open_store
from runstore.store.takeover import Takeover, check_takeover

__all__ = [
    "Attempt", "Run", "Store", "Takeover", "check_takeover", "compare", "open_store",
]  # fmt: skip
