"""How a task fails that raises nothing."""

from __future__ import annotations

__all__ = ["DIED", "DIED_OR_ANOTHER", "TaskFailedError"]

DIED = (
    "its worker process died: it was killed, ran out of memory, or ended itself. See its log for "
    "what it printed; give it more memory, or run fewer steps at a time, and retry the run"
)
DIED_OR_ANOTHER = "its worker process died, or that of another step: it is run again, alone"


class TaskFailedError(Exception):
    """A task that did not raise, and failed all the same: a command's exit status, ``sys.exit``."""
