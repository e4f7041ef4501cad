"""How a task fails that raises nothing."""

from __future__ import annotations

import signal

__all__ = [
    "DIED_OR_ANOTHER", "TaskFailedError", "how_it_died", "killed_by", "timed_out", "what_died",
]  # fmt: skip

DIED_OR_ANOTHER = "its worker process died, or that of another step: it is run again, alone"


class TaskFailedError(Exception):
    """A task that did not raise, and failed all the same: a command's exit status, ``sys.exit``."""

    exit_status: int = 1
    """What a shell would give for it: of a command its own, or 128 and the signal that ended it."""


def timed_out(limit: float | None) -> TaskFailedError:
    """Of a task that took longer than it may, as ``timeout(1)`` has it."""
    failed = TaskFailedError(f"timed out after {limit:g} s")
    failed.exit_status = 124
    return failed


def how_it_died(code: int | None) -> str:
    """What became of a process: ``was killed by SIGKILL``, ``exited with code 3``.

    :param code: as :attr:`multiprocessing.Process.exitcode`; ``None`` if nobody knows.
    """
    if code is None:
        return "died (it was killed, ran out of memory, or ended itself)"
    if code >= 0:
        return f"exited with code {code}"
    return f"was {killed_by(-code)}"


def killed_by(number: int) -> str:
    """``killed by SIGKILL``; not every signal has a name."""
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


_ADVICE = {
    None: "see its log for what it printed; give it more memory, or run fewer steps at a time",
    -signal.SIGKILL: (
        "as the kernel does where memory runs out (out-of-memory killer): give it more memory, or "
        "run fewer steps at a time"
    ),
    -signal.SIGSEGV: (
        "as a library in C that has a fault does: `python -X faulthandler` prints where it was"
    ),
}


def what_died(code: int | None) -> str:
    """How a step failed whose worker process ended before it did, and what to do."""
    advice = _ADVICE.get(code, "see its log for what it printed")
    return f"its worker process {how_it_died(code)}: {advice}; then retry the run"
