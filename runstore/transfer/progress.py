"""How far a transfer has come, for a progress bar."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "unwatched"]

Progress = Callable[[str, int, int], object]
"""Called with what is being done (``read``, ``check``, ``copy``), how much of it is done, and of
how much in all: objects, or bytes of the file for ``check``. From one thread, often: be quick."""


def unwatched(what: str, done: int, total: int) -> None:
    """For when nobody looks."""
