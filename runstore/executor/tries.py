"""What a task's configuration says of trying it: how often, after which pause, for how long."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from runstore.dag import Task
from runstore.errors import PipelineError
from runstore.records.keys import MAX_ATTEMPT

__all__ = ["TRY_OPTIONS", "Tries", "seconds_of", "tries_of"]

TRY_OPTIONS = ("retries", "retry_delay", "retry_backoff", "timeout")
"""The names of the configuration; in a YAML file they stand beside ``command``."""

_LONGEST = 365 * 86_400.0
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Tries(NamedTuple):
    """How a task is tried."""

    retries: int = 0
    delay: float = 0.0
    """Seconds before the second try."""
    backoff: float = 1.0
    """What the pause is multiplied by from one retry to the next."""
    timeout: float | None = None
    """Seconds after which a try is ended, and has failed."""

    def pause(self, tried: int) -> float:
        """Seconds to wait after so many tries."""
        return min(self.delay * self.backoff ** (tried - 1), _LONGEST)


def tries_of(task: Task) -> Tries:
    """:raises PipelineError: naming the task, and what is wrong with its configuration."""
    given = {name: task.config[name] for name in TRY_OPTIONS if task.config.get(name) is not None}
    return Tries() if not given else _read(task.name, json.dumps(given))


@functools.lru_cache(maxsize=256)
def _read(name: str, text: str) -> Tries:
    given: Mapping[str, Any] = json.loads(text)
    retries = given.get("retries", 0)
    if type(retries) is not int or not 0 <= retries < MAX_ATTEMPT:
        raise _wrong(name, "retries", retries, "a number from 0, such as 3")
    backoff = given.get("retry_backoff", 1)
    if type(backoff) not in (int, float) or not 1 <= backoff <= 1000:
        raise _wrong(name, "retry_backoff", backoff, "a factor from 1, such as 2")
    delay = given.get("retry_delay", 0)
    seconds = seconds_of(delay)
    if seconds is None:
        raise _wrong(name, "retry_delay", delay, 'seconds, or a text such as "10s" or "2m"')
    limit = given.get("timeout")
    timeout = None if limit is None else seconds_of(limit)
    if limit is not None and not timeout:
        raise _wrong(name, "timeout", limit, 'seconds, or a text such as "90s" or "30m"')
    return Tries(retries, seconds, float(backoff), timeout)


def seconds_of(value: object) -> float | None:
    """A duration: a number of seconds, or a text such as ``500ms``, ``10s``, ``30m``, ``2h``,
    ``1d``. ``None`` for what is none, or longer than a year."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        value = float(found[1]) * _UNITS[found[2]]
    if type(value) not in (int, float) or not 0 <= value <= _LONGEST:  # type: ignore[operator]
        return None
    return float(value)  # type: ignore[arg-type]


def _wrong(name: str, option: str, value: object, what: str) -> PipelineError:
    return PipelineError(
        f"task {name!r}: its {option} is {json.dumps(value):.80}", advice=f"write {what}"
    )
