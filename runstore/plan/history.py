"""What is known of a run: a value, made of records, with no store behind it.

The planner reads nothing else. Who builds it (the store, a file that was exported, a test) puts the
records in; order does not matter, and putting one in twice changes nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from runstore.records import End, Invocation, RunRecord, Start
from runstore.records.keys import encode

__all__ = ["Attempt", "Damaged", "History"]


@dataclass(slots=True, frozen=True)
class Damaged:
    """A record that is there and cannot be read. It never counts as success."""

    key: str
    """Where it stands."""
    problem: str
    path: str | None = None
    """The node path, where the key still tells it."""
    attempt: int = 0
    kind: str = ""
    """``start`` or ``end`` for an attempt's record; ``""`` for any other."""
    node_key: str = ""
    """The key form of the path, where it does not tell the path itself."""


WORKING = ("start", "retry", "fork")
"""The modes of invocations that run steps."""

_OUTERMOST = re.compile(r"[^/\[:@]*")  # in names these characters are escaped

Attempt = End | Start | Damaged
"""One attempt, as the record that says most of it: its end, else its start."""


class History:
    """The records of one run.

    :param run: the run record.
    :param values: contents of blobs the planner needs (map lists, branch choices), by digest.
    """

    __slots__ = (
        "__weakref__", "_damaged", "_forces", "_nameless", "adopted", "attempts", "damaged",
        "invocations", "missing", "run", "touched", "values",
    )  # fmt: skip

    def __init__(self, run: RunRecord, records: Iterable[Any] = ()) -> None:
        self.run = run
        self.attempts: dict[str, list[Attempt]] = {}
        """Path -> its attempts, by number. An attempt that ended is its end."""
        self.adopted: dict[str, End] = {}
        """In a fork: path -> the end it took over. It counts as attempt 0."""
        self.invocations: dict[str, Invocation] = {}
        self.damaged: list[Damaged] = []
        self._damaged: set[Damaged] = set()
        self.values: dict[str, Any] = {}
        self.missing: set[str] = set()
        """Digests of blobs that a record names and the store does not hold, or holds damaged."""
        self.touched: dict[str, int] = {}
        """Outermost node -> how many records of it or of what is in it were put in."""
        self._nameless: dict[str, Damaged] = {}
        self._forces: Mapping[str, int] | None = None
        for record in records:
            self.add(record)

    def __repr__(self) -> str:
        count = sum(map(len, self.attempts.values()))
        return f"<History of {self.run.run_id!r}: {count} attempts at {len(self.attempts)} paths>"

    def add(self, record: Start | End | Damaged | Invocation) -> None:
        """Put one record in. An end replaces its start; a second equal record changes nothing."""
        if type(record) is Invocation:
            self.invocations[record.id] = record
            self._forces = None
            return
        assert not isinstance(record, Invocation)
        if type(record) is Damaged:
            if record in self._damaged:
                return
            self._damaged.add(record)
            self.damaged.append(record)
            if record.path is None or not record.attempt:
                if record.node_key and record.attempt:
                    known_so_far = self._nameless.get(record.node_key, record)
                    self._nameless[record.node_key] = max(
                        known_so_far, record, key=lambda each: (each.attempt, each.kind == "end")
                    )
                return
        path = record.path
        assert path is not None
        self._touch(path)
        known = self.attempts.get(path)
        if known is None:
            self.attempts[path] = [record]
            return
        number = record.attempt
        if known[-1].attempt < number:
            known.append(record)
            return
        at = bisect_left(known, number, key=attrgetter("attempt"))
        if known[at].attempt != number:
            known.insert(at, record)
        elif _weight(record) > _weight(known[at]):
            known[at] = record

    @property
    def latest_work(self) -> Invocation | None:
        """The latest of those that worked on the run: not of an import, or a pull."""
        work = (each for each in self.invocations.values() if each.mode in WORKING)
        return max(work, key=lambda each: (each.number, each.id), default=None)

    def distrust(self, damaged: Damaged) -> None:
        """Put a damaged record in place of all that is known of its attempt: of records that
        contradict each other neither counts."""
        assert damaged.path is not None
        known = self.attempts.get(damaged.path, [])
        others = [a for a in known if a.attempt != damaged.attempt]
        self.attempts.pop(damaged.path, None)
        if others:
            self.attempts[damaged.path] = others
        self.add(damaged)

    def remove(self, invocation: Invocation) -> None:
        """Take an invocation out again: for asking what it would change."""
        del self.invocations[invocation.id]
        self._forces = None

    def adopt(self, end: End) -> None:
        """In a fork: take over an attempt of its origin."""
        self.adopted[end.path] = end
        self._touch(end.path)

    def _touch(self, path: str) -> None:
        outermost = _OUTERMOST.match(path)[0]  # type: ignore[index]  # it matches nothing, too
        self.touched[outermost] = self.touched.get(outermost, 0) + 1

    @property
    def latest_invocation(self) -> Invocation | None:
        """The one of the highest number; of equal ones, that of the greatest id."""
        return max(self.invocations.values(), key=lambda each: (each.number, each.id), default=None)

    def latest(self, path: str) -> Attempt | None:
        """The attempt that decides: the highest number, else what a fork took over."""
        if self._nameless and (damaged := self.overriding(path)):
            return damaged
        known = self.attempts.get(path)
        return known[-1] if known else self.adopted.get(path)

    @property
    def overridden(self) -> bool:
        """Whether there may be a path for which :meth:`overriding` gives something."""
        return bool(self._nameless)

    def overriding(self, path: str) -> Damaged | None:
        """A damaged record that no longer tells its path, and comes after all others of it."""
        damaged = self.unreadable_latest(path)
        known = self.attempts.get(path)
        if damaged is None or not known or damaged.attempt > known[-1].attempt:
            return damaged
        same = damaged.attempt == known[-1].attempt
        return damaged if same and _weight(damaged) > _weight(known[-1]) else None

    def last_number(self, path: str) -> int:
        """The highest attempt number seen at a path, 0 if there is none of this run."""
        known = self.attempts.get(path)
        number = known[-1].attempt if known else 0
        if self._nameless:
            damaged = self.unreadable_latest(path)
            if damaged is not None:
                number = max(number, damaged.attempt)
        return number

    def unreadable_latest(self, path: str) -> Damaged | None:
        """The latest damaged record whose key is that of ``path``, but no longer tells it."""
        return self._nameless.get(encode(path)) if self._nameless else None

    def lacks(self, end: End) -> bool:
        """Whether a blob that an attempt handed on is missing."""
        return any(blob.sha256 in self.missing for blob in end.blobs())

    def lacking(self) -> Iterator[str]:
        """Paths whose latest attempt succeeded and handed on a blob that is missing."""
        if self.missing:
            for path in self.paths():
                end = self.latest(path)
                if type(end) is End and end.outcome == "succeeded" and self.lacks(end):
                    yield path

    def numbered(self, path: str) -> list[tuple[int, Attempt]]:
        """The attempts at a path, with their numbers; what a fork took over is attempt 0."""
        own = [(each.attempt, each) for each in self.attempts.get(path, ())]
        return [(0, self.adopted[path]), *own] if path in self.adopted else own

    def ends(self, path: str) -> list[End]:
        """The ends at a path, by number, without what a fork took over."""
        return [a for a in self.attempts.get(path, ()) if type(a) is End]

    def open(self) -> Iterator[Start]:
        """The attempts that began and did not end."""
        for attempts in self.attempts.values():
            for attempt in attempts:
                if type(attempt) is Start:
                    yield attempt

    def paths(self) -> Iterator[str]:
        """Every path something is known of."""
        yield from self.attempts
        for path in self.adopted:
            if path not in self.attempts:
                yield path

    @property
    def forces(self) -> Mapping[str, int]:
        """Path -> attempt number: it is to run again unless it has a higher one by now."""
        if self._forces is None:
            forces: dict[str, int] = {}
            for invocation in self.invocations.values():
                for path, number in invocation.force.items():
                    if forces.get(path, -1) < number:
                        forces[path] = number
            self._forces = MappingProxyType(forces)
        return self._forces


def _weight(record: Attempt) -> int:
    """An end says more than a damaged end, that more than a start, that more than a damaged one."""
    if type(record) is End:
        return 3
    if type(record) is Start:
        return 1
    assert type(record) is Damaged
    return 2 if record.kind == "end" else 0
