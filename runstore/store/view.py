"""What one run tells: its parameters, history, plan, values, logs. Nothing here writes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runstore.copies import copied
from runstore.dag import Dag
from runstore.errors import (
    BlobMissingError,
    DamagedError,
    KeyMissingError,
    ParameterError,
    RecordDamagedError,
    RefusedError,
    RunRemovedError,
    StorageError,
)
from runstore.plan import Plan, Planner, Step
from runstore.plan.history import Attempt as Known
from runstore.plan.history import Damaged, History
from runstore.records import Blob, End, RunRecord, Secret, Start, keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import log_in_pack, parse_pack
from runstore.storage.capabilities import Dated
from runstore.store.blobs import Blobs
from runstore.store.load import read_history, read_invocations
from runstore.store.needs import needed_prefixes
from runstore.store.secrets import mask, refuse_short

if TYPE_CHECKING:
    from runstore.storage import Storage

__all__ = ["NOT_WHOLE", "RunView"]

_DIGEST = slice(11, 75)  # in a frame: FORMAT.md, section 3
_NOT_KEPT = "what it did is not kept: stop; `runstore run` starts a new one"
NOT_WHOLE = "what was read may not be all of it: nothing counts that was taken along"


class RunView:
    """The reading side of :class:`~runstore.store.run.Run`."""

    def __init__(
        self, storage: Storage, record: RunRecord, secrets: Mapping[str, Any] | None = None
    ) -> None:
        self.storage = storage
        self.record = record
        self.secrets = dict(secrets or {})
        refuse_short(self.secrets)
        """Values of secret parameters, in memory only."""
        self.prefix = keys.run_prefix(record.run_id, record.nonce)
        """Below it is everything of the run but for its own record."""
        self.blobs = Blobs(storage, self.prefix)
        self.invocation: str | None = None
        """The invocation that new attempts are recorded under."""
        self._digest = record.digest
        self._version = ""
        """Of ``run.json``, when it was last seen to be this run's."""
        self._dated = storage if isinstance(storage, Dated) else None
        self._dag: Dag | None = None
        self._working: Dag | None = None
        self._planner: Planner | None = None

    def __repr__(self) -> str:
        return f"<Run {self.run_id!r} in {self.storage.url}>"

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def dag(self) -> Dag:
        """The DAG the run was made with."""
        if self._dag is None:
            self._dag = Dag.from_json(self.record.dag, unknown="ignore")
        return self._dag

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The original parameters; a secret is a :class:`~runstore.records.Secret`."""
        return {
            name: self.blobs.load(value, f"parameter {name!r} of run {self.run_id!r}")
            for name, value in self.record.parameters.items()
        }

    def check_there(self, so: str = _NOT_KEPT) -> None:
        """See that the run is still the one that was opened: it may have been removed since.

        :raises RunRemovedError: if it was, which ends with ``so``: what that means for the caller.

        Cost: at first a read and a stat (HEAD) of ``run.json``; from then on the stat alone.
        """
        key = keys.run_key(self.run_id)
        try:
            version = self._dated.info(key).version if self._dated else ""
            if version and version == self._version:
                return
            if self.storage.read(key)[_DIGEST] == self._digest.encode():
                self._version = version
                return
        except KeyMissingError:
            pass
        raise RunRemovedError(
            f"run {self.run_id!r} was removed from {self.storage.url} while this process worked on "
            f"it, and {so}",
            run_id=self.run_id,
        )

    @contextmanager
    def read_whole(self) -> Iterator[None]:
        """For who takes along all that there is of a run, beside who may remove it, or some of it.
        At the end they :meth:`check_there`: what was listed may not have been all of it.

        :raises RunRemovedError: if something is gone because the run was removed meanwhile.
        :raises StorageError: if something is gone from a run that is there.
        """
        try:
            yield
        except KeyMissingError as error:
            self.check_there(NOT_WHOLE)
            raise StorageError(
                f"{error} It was there a moment ago, so something is removing what this needs: "
                f"do it again",
            ) from error

    # -- reading ---------------------------------------------------------------------------------

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
            f"run {self.run_id!r} has no step {path!r} at this point: "
            f"`runstore plan` lists those it has"
        )

    def values(self) -> Mapping[str, Any]:
        """Name -> value visible at the end of the DAG, as far as it is known."""
        return {
            name: self.blobs.load(value, f"{name!r} of run {self.run_id!r}")
            for name, value in self.plan().values.items()
        }

    def materialise(self, values: Mapping[str, Any], reader: str) -> dict[str, Any]:
        """Values as a plan names them, fetched: blobs read, secrets filled in. They are the
        caller's own: what is done to them is seen by nobody else.

        :raises ParameterError: for a secret that was not given.
        :raises BlobMissingError, BlobDamagedError, CodecError: for one that cannot be had.
        """
        out: dict[str, Any] = {}
        for name, value in values.items():
            if type(value) is Secret:
                if value.name not in self.secrets:
                    raise ParameterError(
                        f"{reader} reads the secret {value.name!r}, which is never stored: "
                        f"give it again (secrets={{...}}, or RUNSTORE_SECRET_{value.name.upper()})",
                        parameter=value.name,
                    )
                out[name] = copied(self.secrets[value.name])
            else:
                out[name] = self.blobs.load(value, f"{name!r}, which {reader} reads,")
        return out

    def recorded(
        self, path: str, number: int | None = None, *, history: History | None = None
    ) -> Known:
        """The record that says most of an attempt: its end, else its start; of the latest attempt
        by default. What a fork took over is attempt 0.

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
        raise RefusedError(
            f"run {self.run_id!r} has no {which} at {path!r}{there}: "
            f"`runstore show{' --' * self.run_id.startswith('-')} {shlex.quote(self.run_id)}` "
            f"lists the attempts"
        )

    def logs(self, path: str, number: int | None = None) -> bytes:
        """What an attempt wrote to stdout and stderr; of the latest one by default, and of one that
        a fork took over, too. Empty if it wrote nothing.

        :raises RefusedError: if there is no such attempt, or it has not ended.
        :raises RecordDamagedError: if its record cannot be read.
        """
        return self.log_of(self.recorded(path, number), path)

    def log_of(self, record: Known, path: str) -> bytes:
        """:meth:`logs`, of a record that is known. One read, none if it wrote nothing."""
        if isinstance(record, Damaged):
            raise RecordDamagedError(record.problem, key=record.key)
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
        pack = (self.record.origin or {}).get("pack")
        if not pack:
            return None
        key = keys.pack_key(self.prefix, pack)
        try:
            text = parse_pack(self.storage.read(key), key).logs.get(sha256)
        except KeyMissingError:
            return None
        return None if text is None else log_in_pack(text, sha256, key)

    def mask(self, text: str) -> str:
        """``text`` with the values of this run's secrets replaced by ``***``: strings of at least
        four characters, also within other values, and the canonical JSON of those; and as Python,
        JSON, URLs, shells, HTML and base64 spell them.

        Errors, reasons and command lines go through it before they are recorded. What was derived
        from a secret otherwise (a hash, a part) is not found, nor are shorter ones.
        """
        return mask(text, self.secrets)

    def read_end(self, path: str, number: int) -> End | None:
        """The end of an attempt; ``None`` if it is missing or damaged. One read."""
        key = keys.attempt_key(self.prefix, path, number, "end")
        try:
            record = parse_attempt(self.storage.read(key), key)
        except (DamagedError, KeyMissingError):
            return None
        return record if isinstance(record, End) else None


def _known(history: History, path: str) -> dict[int, Known]:
    """The attempts at a path, by number; what a fork took over is attempt 0."""
    known: dict[int, Known] = {each.attempt: each for each in history.attempts.get(path, ())}
    if path in history.adopted:
        known[0] = history.adopted[path]
    damaged = history.nameless(path)
    if damaged is not None:
        known.setdefault(damaged.attempt, damaged)
    return known
