"""Reading a run: its parameters, history, plan, values, logs. Nothing here writes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from runstore.dag import Dag
from runstore.errors import (
    BlobMissingError,
    KeyMissingError,
    RecordDamagedError,
    RefusedError,
    StorageError,
)
from runstore.plan import Plan, Planner, Step
from runstore.plan.focus import needed_prefixes
from runstore.plan.history import Attempt as Known
from runstore.plan.history import Damaged, History
from runstore.records import Blob, RunRecord, Start, keys
from runstore.records.framing import log_in_pack, parse_pack
from runstore.storage import Storage
from runstore.store.access import RunAccess
from runstore.store.load import read_history, read_invocations

__all__ = ["NOT_WHOLE", "RunReader"]

NOT_WHOLE = "what was read may not be all of it: nothing counts that was taken along"


class RunReader(RunAccess):
    """The reading side of :class:`~runstore.store.run.Run`."""

    def __init__(
        self, storage: Storage, record: RunRecord, secrets: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(storage, record.run_id, record.nonce, record.digest, secrets)
        self.record = record
        self.invocation: str | None = None
        """The invocation that new attempts are recorded under."""
        self._dag: Dag | None = None
        self._working: Dag | None = None
        self._planner: Planner | None = None

    def __repr__(self) -> str:
        return f"<Run {self.run_id!r} in {self.storage.url}>"

    @property
    def dag(self) -> Dag:
        """The DAG the run was made with."""
        if self._dag is None:
            self._dag = Dag.from_json(self.record.dag, unknown="ignore")
        return self._dag

    def parameters(self) -> Mapping[str, Any]:
        """The original parameters; a secret is a :class:`~runstore.records.Secret`. A read for each
        large one."""
        return {
            name: self.blobs.load(value, f"parameter {name!r} of run {self.run_id!r}")
            for name, value in self.record.parameters.items()
        }

    @contextmanager
    def read_whole(self) -> Iterator[None]:
        """For copying all of a run while others may remove it, or parts of it. Call
        :meth:`check_there` at the end: the listing may have missed something.

        :raises RunRemovedError: if something is gone because the run was removed meanwhile.
        :raises StorageError: if something is gone from a run that is there.
        """
        try:
            yield
        except KeyMissingError as error:
            self.check_there(NOT_WHOLE)
            raise StorageError(
                f"{error.problem} It was there a moment ago, so something is removing what this "
                f"needs",
                advice="do it again",
            ) from error

    def history(self, paths: Iterable[str] | None = None, *, dag: Dag | None = None) -> History:
        """What is known of the run, read afresh.

        :param paths: only what these node paths and their upstream need; the number of requests
            then depends on the DAG and on the invocations that forced something, not on how many
            items, attempts, packs or other invocations there are. Attempts that ended, and that
            a later one that ended superseded, are left out: they decide nothing.

        Cost: three listings, one read for each pack and invocation, and one for each attempt that
        is in no pack. With ``paths``, a listing for each node that is needed and one more, and of
        packs and invocations only a fork's, and those that are named, or force.
        """
        dag = dag or self._working or self.dag
        prefixes = None if paths is None else needed_prefixes(dag, paths)
        return read_history(self.storage, self.record, dag, prefixes)

    def invocations(self) -> History:
        """What is known of the run's invocations, and of nothing else of it. A listing, and a read
        of each invocation."""
        return read_invocations(self.storage, self.record)

    def plan(
        self,
        dag: Dag | None = None,
        *,
        history: History | None = None,
        paths: Sequence[str] | None = None,
    ) -> Plan:
        """What is left to do. Reads the history unless it is given.

        :param dag: the pipeline as it is now; by default that of the invocation that was begun or
            joined, or the run's own.
        """
        if dag is None:
            dag = self._working or self.dag
            planner = self._planner
            if planner is None or planner.dag is not dag:
                planner = self._planner = Planner(dag)
        else:
            planner = Planner(dag)
        if history is None:
            history = self.history(paths, dag=dag)
        return planner.plan(history, self.invocation, paths=paths)

    def step(self, path: str) -> Step:
        """The plan of one node path, from as little of the history as that needs.

        :raises RefusedError: if the DAG has no such path, as far as it is known.
        """
        for step in self.plan(paths=[path]).steps:
            if step.path == path:
                return step
        raise RefusedError(
            f"run {self.run_id!r} has no step {path!r} at this point",
            advice="`runstore plan` lists those it has",
        )

    def values(self) -> Mapping[str, Any]:
        """Name -> value visible at the end of the DAG, as far as it is known."""
        return {
            name: self.blobs.load(value, f"{name!r} of run {self.run_id!r}")
            for name, value in self.plan().values.items()
        }

    def recorded(
        self, path: str, number: int | None = None, *, history: History | None = None
    ) -> Known:
        """The end record of an attempt, or its start if it has not ended; of the latest attempt by
        default. What a fork took over is attempt 0.

        :raises RefusedError: if there is no such attempt.
        """
        known = _known(history or self.history([path]), path)
        if history is None and number is not None and number not in known:
            # Superseded: it stands on its own, or in a pack alone.
            end = self.read_end(path, number) if 1 <= number <= keys.MAX_ATTEMPT else None
            known = {number: end} if end else _known(self.history(), path)
        if number is None and known:
            return known[max(known)]
        if number in known:
            return known[number]
        which = "attempt" if number is None else f"attempt {number}"
        there = f"; it has {', '.join(map(str, sorted(known)))}" if known else ""
        run = f"{'-- ' * self.run_id.startswith('-')}{shlex.quote(self.run_id)}"
        raise RefusedError(
            f"run {self.run_id!r} has no {which} at {path!r}{there}",
            advice=f"`runstore show {run}` lists the attempts",
        )

    def logs(self, path: str, number: int | None = None) -> bytes:
        """What an attempt wrote to stdout and stderr; the latest attempt by default. Empty if it
        wrote nothing. Attempts that a fork took over have theirs, too.

        :raises RefusedError: if there is no such attempt, or it has not ended.
        :raises RecordDamagedError: if its record cannot be read.
        """
        return self.log_of(self.recorded(path, number), path)

    def log_of(self, record: Known, path: str) -> bytes:
        """:meth:`logs`, of a record that is known. One read, none if it wrote nothing."""
        if isinstance(record, Damaged):
            advice = "restore it from a copy"
            raise RecordDamagedError(record.problem, advice=advice, key=record.key)
        if isinstance(record, Start):
            raise RefusedError(
                f"attempt {record.attempt} at {path} is in progress ({record.by}, "
                f"since {record.time}): its log is there when it has ended"
            )
        return self.read_log(record.log) if record.log else b""

    def read_log(self, log: Blob) -> bytes:
        """A log that a record names; that of an attempt that a fork took over stands in a pack.

        :raises BlobMissingError, BlobDamagedError, RecordDamagedError: naming what is wrong.
        """
        try:
            return self.blobs.read(log)
        except BlobMissingError:
            found = self._log_taken_over(log.sha256)
            if found is None:
                raise
            return found

    def _log_taken_over(self, sha256: str) -> bytes | None:
        """A log that stands in the pack of what a fork took over. One read, none in other runs."""
        if not self.record.origin_pack:
            return None
        key = keys.pack_key(self.prefix, self.record.origin_pack)
        try:
            text = parse_pack(self.storage.read(key), key).logs.get(sha256)
        except KeyMissingError:
            return None
        return None if text is None else log_in_pack(text, sha256, key)


def _known(history: History, path: str) -> dict[int, Known]:
    """The attempts at a path, by number; what a fork took over is attempt 0."""
    known = dict(history.numbered(path))
    damaged = history.unreadable_latest(path)
    if damaged is not None:
        known.setdefault(damaged.attempt, damaged)
    return known
