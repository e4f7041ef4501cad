"""What `runstore.verify` finds, as pairs."""

from __future__ import annotations

from collections.abc import Iterator

from runstore.store import Run
from runstore.upkeep.verify import verify


def verified(run: Run) -> Iterator[tuple[str, str | None]]:
    """``(key, problem)`` of all that is checked, but for logs that were left out."""
    return ((each.key, each.problem) for each in verify(run) if each.state != "left out")
