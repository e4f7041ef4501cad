"""How a task fails that raises nothing."""

from __future__ import annotations

__all__ = ["TaskFailedError"]


class TaskFailedError(Exception):
    """A task that did not raise, and failed all the same: a command's exit status, ``sys.exit``."""
