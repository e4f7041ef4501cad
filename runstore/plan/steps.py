"""What a plan is made of: actions, reasons, and the evidence of each."""

from __future__ import annotations

import enum
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from runstore.copies import copied
from runstore.dag import Task
from runstore.plan.history import Attempt, Damaged
from runstore.records import Blob, Consumed, End, Loaded, Start

__all__ = [
    "BY_VALUE", "Action", "Evidence", "Plan", "Reason", "Step", "Values", "Work", "not_loaded",
    "within",
]  # fmt: skip


class Action(enum.StrEnum):
    """What is to be done about a node path."""

    SKIP = "SKIP"
    RUN = "RUN"
    WAIT = "WAIT"
    OMIT = "OMIT"
    FAILED = "FAILED"


class Reason(enum.StrEnum):
    """Why. Members are only ever added; programs match on them, people read the text."""

    # SKIP
    SUCCEEDED = "succeeded"
    UNCHANGED = "succeeded, and its upstream ran again with the same result"
    HANDLED = "failure handled"
    # RUN
    NEVER_RAN = "never ran"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    RETRY = "retry of a failed attempt"
    STALE = "stale"
    FORCED = "forced"
    OUTPUT_MISSING = "output missing or damaged"
    # WAIT
    UPSTREAM_PENDING = "upstream pending"
    BRANCH_UNDECIDED = "branch undecided"
    ITEMS_UNKNOWN = "items unknown"
    IN_PROGRESS = "in progress elsewhere"
    # OMIT
    NOT_TAKEN = "branch not taken"
    TRIGGER_NOT_MET = "trigger not met"
    UPSTREAM_FAILED = "upstream failed"
    # FAILED
    FAILED_NOW = "failed in this invocation"
    PARAMETER_MISSING = "parameter missing"
    NO_BRANCH = "no branch matches"
    LOOP_LIMIT = "loop limit"
    NOT_A_LIST = "not a list"


BY_VALUE = frozenset(
    {Reason.NO_BRANCH, Reason.NOT_A_LIST, Reason.LOOP_LIMIT, Reason.PARAMETER_MISSING}
)
"""Reasons for which a node fails by itself: without an attempt, and whatever is in it."""


class Evidence(NamedTuple):
    """The record a decision rests on."""

    path: str
    attempt: int
    outcome: str
    """``succeeded``, ``failed``, ``lost``, ``cancelled``, ``began`` or ``damaged``."""
    digest: str
    """The record's digest, ``""`` if it is damaged."""

    def __str__(self) -> str:
        return f"attempt {self.attempt} {self.outcome}"


_CUT = re.compile(r"[/\[:@]")

Visible = Mapping[str, tuple[Blob, str]]


class Values(Mapping[str, Any]):
    """Values by name, each a copy of the reader's own: whatever is done to it, the records, and so
    the next plan, stay as they are. A copy is made each time one is asked for."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return copied(self._values[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Values({dict(self._values)!r})"

    def __reduce__(self) -> Any:
        return Values, (dict(self._values),)


def own(record: Attempt | None) -> Attempt | None:
    """A copy of a record, in which nothing is the history's."""
    if type(record) is End:
        return replace(
            record, consumed=_own(record.consumed),
            outputs=dict(Values(record.outputs)), metrics=dict(Values(record.metrics)),
            artifacts=dict(record.artifacts), large=dict(record.large),
            error=record.error and dict(record.error),
        )  # fmt: skip
    if type(record) is Start:
        code = record.code and dict(Values(record.code))
        return replace(record, consumed=_own(record.consumed), code=code)
    return record


def _own(consumed: Consumed) -> Consumed:
    return Consumed(
        dict(consumed.params), dict(consumed.artifacts), dict(consumed.results), dict(consumed.ends)
    )


class Work(Struct, frozen=True):
    """What is needed to run a step: which attempt, from what. A value: see :class:`Step`."""

    task: Task
    number: int
    """The number of the attempt to claim."""
    params: Mapping[str, Any]
    """Name -> JSON value, or :class:`~runstore.records.Blob` or ``Secret``: to be fetched. Each
    time one is asked for, it is a copy."""
    _digests: Consumed
    artifacts: Callable[[], Visible]
    """Artifacts in sight: address -> (blob, path of the node that saved it)."""
    tries: tuple[int, int] | None = None
    """Of a task with ``retries``: which try of this invocation it is, and how many there are."""

    @property
    def consumed(self) -> Consumed:
        """Digests of that, as the start record says them. A copy."""
        return _own(self._digests)

    def consumed_with(self, loaded: Mapping[str, Loaded]) -> Consumed:
        """What was consumed, once it is known which artifacts were loaded.

        An upstream from which something was loaded is no order-only dependency any more.

        :param loaded: address -> which artifact.
        """
        consumed = _own(self._digests)
        results = consumed.results
        if self.task.trigger not in ("one_failed", "all_done"):
            results = not_loaded(results, loaded)
        return Consumed(consumed.params, dict(loaded), results, consumed.ends)


def within(path: str, node: str) -> bool:
    """Whether ``path`` is ``node`` or stands inside it."""
    return path.startswith(node) and (len(path) == len(node) or path[len(node)] in "/[:@")


def cuts(path: str) -> Iterator[int]:
    """Where the paths end that a path is within: ``within(path, path[:at])`` for each of them."""
    yield from (found.start() for found in _CUT.finditer(path))
    yield len(path)


def not_loaded(results: Mapping[str, str], loaded: Mapping[str, Loaded]) -> Mapping[str, str]:
    """The results of the nodes from which nothing was loaded, and from nothing in them."""
    sources = sorted({each.source for each in loaded.values() if each.source})

    def has(path: str) -> bool:
        for text in (path, f"{path}/", f"{path}:", f"{path}@", f"{path}["):
            at = bisect_left(sources, text)
            if at < len(sources) and (
                sources[at] == path or (text != path and sources[at].startswith(text))
            ):
                return True
        return False

    return {path: result for path, result in results.items() if not has(path)}


class Step(Struct, frozen=True):
    """One node path: what is to be done, why, and on what evidence.

    A value, as a plan is: it cannot be changed, and what it gives is a copy.
    """

    path: str
    action: Action
    reason: Reason
    _known: Attempt | None = None
    """The record of the history itself; :attr:`record` is a copy."""
    detail: str = ""
    """For people: which input differs, which value names no branch, who is at it..."""
    kind: str = "task"
    work: Work | None = None
    """For a task that is to RUN."""

    def __str__(self) -> str:
        """In one line, for people."""
        why = f"{self.reason}: {self.detail}" if self.detail else f"{self.reason}"
        evidence = self.evidence
        return f"{self.path}: {self.action}, {why}" + (f" ({evidence})" if evidence else "")

    @property
    def record(self) -> Attempt | None:
        """The record the decision rests on, a copy."""
        return own(self._known)

    @property
    def evidence(self) -> Evidence | None:
        """The record the decision rests on, ``None`` where it rests on there being none."""
        record = self._known
        if record is None:
            return None
        if type(record) is Damaged:
            return Evidence(self.path, record.attempt, "damaged", "")
        assert not isinstance(record, Damaged)
        outcome = record.outcome if type(record) is End else "began"
        return Evidence(record.path, record.attempt, outcome, record.digest)

    def to_json(self) -> dict[str, Any]:
        """For programs: ``{"path", "kind", "action", "reason", "detail"?, "evidence"?}``."""
        out: dict[str, Any] = {
            "path": self.path,
            "kind": self.kind,
            "action": self.action.value,
            "reason": self.reason.value,
        }
        if self.detail:
            out["detail"] = self.detail
        if evidence := self.evidence:
            out["evidence"] = {k: v for k, v in evidence._asdict().items() if v != ""}
        if self.work:
            out["attempt"] = self.work.number
        return out


class Plan(Struct, frozen=True):
    """For every node path, an action and the reason for it. A value: it cannot be changed.

    ``status``: ``succeeded`` or ``failed`` when everything is settled, else ``pending``.
    ``values``: name -> value visible at the end of the DAG, as far as it is known, each a copy.
    """

    run_id: str
    status: str
    steps: tuple[Step, ...]
    values: Mapping[str, Any] = Values({})

    @property
    def ready(self) -> list[Step]:
        """The tasks that can run now, in the order of the DAG."""
        return [step for step in self.steps if step.work is not None]

    @property
    def waiting(self) -> list[Step]:
        """The tasks another process is at."""
        return [
            step for step in self.steps if step.reason is Reason.IN_PROGRESS and step.kind == "task"
        ]

    def __str__(self) -> str:
        """A line for the run, and one for each step."""
        return "\n".join((f"run {self.run_id}: {self.status}", *map(str, self.steps)))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __getitem__(self, path: str) -> Step:
        """The step of a path. Linear: for a few look-ups, not for a loop."""
        for step in self.steps:
            if step.path == path:
                return step
        raise KeyError(path)

    def to_json(self) -> dict[str, Any]:
        """For programs, the format of ``runstore plan --format json``."""
        counts: dict[str, int] = {}
        for step in self.steps:
            if step.kind == "task":
                counts[step.action.value] = counts.get(step.action.value, 0) + 1
        return {
            "run_id": self.run_id,
            "status": self.status,
            "tasks": counts,
            "steps": [step.to_json() for step in self.steps],
        }
