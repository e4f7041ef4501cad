"""A process that a task forks is none of ours: it ends where the task's function ends in it."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from runstore.executor.stdout import flush

__all__ = ["leave_child"]


def leave_child(process: int, failure: BaseException | None) -> None:
    """Return in the process that began the attempt; end any other one.

    A forked child that returns from the task, raises, or calls ``sys.exit`` must not come back to
    the executor: the attempt, its records, the files and the cleanup are the parent's. It ends as a
    program would: 0, the code given to ``sys.exit``, or 1 and the traceback in the log.

    :param process: id of the process that began the attempt.
    """
    if os.getpid() != process:
        _leave(failure)


def _leave(failure: BaseException | None) -> NoReturn:
    code = 1
    try:
        if failure is None:
            code = 0
        elif isinstance(failure, SystemExit):
            code = _code_of(failure)
        else:
            traceback.print_exception(failure)
        flush()
    finally:
        # Not sys.exit: that would unwind what the parent has still open.
        os._exit(code)


def _code_of(failure: SystemExit) -> int:
    if failure.code is None:
        return 0
    if isinstance(failure.code, int):
        return failure.code & 0xFF
    with suppress(Exception):  # its text may be of the task's own making
        sys.stderr.write(f"{failure.code}\n")
    return 1
