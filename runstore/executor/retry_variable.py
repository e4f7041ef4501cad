"""The environment variable that turns a start into a retry: for the outermost run of a process.

What a step starts is another run, in whatever thread, process or command: it must not inherit the
variable. So while a run is worked at, the environment does not have it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from runstore.errors import InputError

__all__ = ["RETRY_VARIABLES", "hidden_from_steps", "run_to_retry"]

RETRY_VARIABLES = ("RUNSTORE_RETRY_RUN_ID", "RUNNABLE_RETRY_RUN_ID")
"""One of these that holds a run id turns a start into its retry. An empty one is as unset."""

_lock = threading.Lock()
_users = 0
_hidden: dict[str, str] = {}


def run_to_retry(
    environment: Mapping[str, str], run_id: str | None = None
) -> tuple[str, str] | None:
    """The variable that asks for a retry, and of which run; ``None`` if none does.

    :param run_id: the id that the start was given.
    :raises InputError: if that is another one, or the variables name two.
    """
    asked = [(name, environment[name]) for name in RETRY_VARIABLES if environment.get(name)]
    if not asked:
        return None
    variable, again = asked[0]
    for other, wanted in asked[1:]:
        if wanted != again:
            raise InputError(
                f"{variable} asks for a retry of run {again!r}, and {other} for one of {wanted!r}",
                advice="unset one of them",
            )
    if run_id not in (None, again):
        raise InputError(
            f"{variable} asks for a retry of run {again!r}, and the run id given (run_id, "
            f"--run-id) is {run_id!r}",
            advice=f"unset {variable} to start that run, or leave out the id",
        )
    return variable, again


@contextmanager
def hidden_from_steps() -> Iterator[None]:
    """While this lasts, the process's environment has no such variable: steps inherit none."""
    global _users  # noqa: PLW0603 - there is one environment, and maybe more than one run
    with _lock:
        _users += 1
        for name in RETRY_VARIABLES:
            value = os.environ.pop(name, None)
            if value is not None:
                _hidden[name] = value
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                os.environ.update(_hidden)
                _hidden.clear()
