"""Stores, runs, attempts: what executors write and everybody reads.

The functions below are the methods of :class:`Run` and :class:`Attempt` under the names of what an
executor does, for those that cannot hold a block open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runstore.plan import Step
from runstore.records import Consumed, End
from runstore.store.attempt import Attempt
from runstore.store.fork import compare
from runstore.store.run import Run
from runstore.store.store import Store, open_store
from runstore.store.takeover import Takeover, check_takeover

__all__ = [
    "Attempt",
    "Run",
    "Store",
    "Takeover",
    "begin",
    "cancel",
    "check_takeover",
    "compare",
    "fail",
    "open_store",
    "succeed",
]


def begin(
    run: Run,
    step: Step | str,
    *,
    number: int | None = None,
    consumed: Consumed | None = None,
) -> Attempt:
    """Claim an attempt; see :meth:`Run.begin`. One create for a ready step of a plan."""
    return run.begin(step, number=number, consumed=consumed)


def succeed(attempt: Attempt, outputs: Mapping[str, Any] | None = None) -> End:
    """End an attempt as succeeded; see :meth:`Attempt.succeed`. One create."""
    return attempt.succeed(outputs)


def fail(attempt: Attempt, error: BaseException | str) -> End:
    """End an attempt as failed; see :meth:`Attempt.fail`. One create."""
    return attempt.fail(error)


def cancel(attempt: Attempt, reason: str = "cancelled") -> End:
    """End an attempt as cancelled; see :meth:`Attempt.cancel`. One create."""
    return attempt.cancel(reason)
