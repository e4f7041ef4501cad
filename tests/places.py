"""Where the objects of a run lie, for tests that look at a raw disk or storage: below the folder
that is named by the run's nonce (FORMAT.md, section 2)."""

from __future__ import annotations

import json
from pathlib import Path

from runstore.storage import Storage

__all__ = ["NONCE", "home", "prefix"]

NONCE = "0123456789abcdef" * 2
"""Of runs whose records a test writes itself."""


def home(store: Path, run_key: str = "r") -> Path:
    """The folder of a run, in a store on a disk."""
    folder = store / "runs" / run_key
    return folder / json.loads((folder / "run.json").read_bytes())["record"]["nonce"]


def prefix(storage: Storage, run_key: str = "r") -> str:
    """What the keys of a run begin with."""
    record = json.loads(storage.read(f"runs/{run_key}/run.json"))["record"]
    return f"runs/{run_key}/{record['nonce']}/"
