"""One run in a store: its history, its plan, its attempts."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import orjson

from runstore import keys
from runstore.dag import Dag
from runstore.errors import (
    AttemptEndedError,
    AttemptTakenError,
    DamagedError,
    KeyExistsError,
    KeyMissingError,
    ParameterError,
    RefusedError,
)
from runstore.history import Damaged, History
from runstore.plan import Action, Plan, Planner, Step, Work
from runstore.records import (
    Consumed,
    End,
    Holder,
    Invocation,
    RunRecord,
    Secret,
    Start,
    frame,
    parse_attempt,
    to_body,
    to_pack,
)
from runstore.store.attempt import Attempt
from runstore.store.blobs import Blobs
from runstore.store.clock import new_id, new_nonce, now
from runstore.store.holder import is_dead, myself, was_abandoned
from runstore.store.reading import needed_prefixes, read_history

if TYPE_CHECKING:
    from runstore.storage import Storage

__all__ = ["Run", "Takeover"]

Takeover = Literal["dead", "all"] | datetime.timedelta
"""Whose open attempts may be ended as lost: those known to be dead (same host and boot), all, or
besides the dead those that began longer ago than this."""

_UNKNOWN = "unknown"
"""The invocation that began an attempt whose start cannot be read: not the one that gives it up."""

_PACK_BYTES = 64 << 20


class Run:
    """A run. Made by :meth:`Store.create_run` and :meth:`Store.run`; safe to use from threads."""

    def __init__(
        self, storage: Storage, record: RunRecord, secrets: Mapping[str, Any] | None = None
    ) -> None:
        self.storage = storage
        self.record = record
        self.secrets = dict(secrets or {})
        """Values of secret parameters, in memory only."""
        self.blobs = Blobs(storage, record.run_id)
        self.invocation: str | None = None
        """The invocation that new attempts are recorded under."""
        self._dag: Dag | None = None
        self._planner: Planner | None = None
        self._unpacked: list[bytes] | None = None
        self._unpacked_bytes = 0
        self._lock = threading.Lock()

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
        return {name: self.blobs.load(value) for name, value in self.record.parameters.items()}

    # -- reading ---------------------------------------------------------------------------------

    def history(self, paths: Iterable[str] | None = None, *, dag: Dag | None = None) -> History:
        """What is known of the run, read afresh.

        :param paths: only what these node paths and their upstream need; the number of requests
            then depends on the DAG, not on how many items or attempts there are.

        Cost: three listings, one read for each pack and invocation, and one for each attempt that
        is in no pack.
        """
        dag = dag or self.dag
        prefixes = None if paths is None else needed_prefixes(dag, paths)
        return read_history(self.storage, self.record, dag, prefixes)

    def plan(
        self,
        dag: Dag | None = None,
        *,
        history: History | None = None,
        paths: Sequence[str] | None = None,
    ) -> Plan:
        """What is left to do. Reads the history unless it is given.

        :param dag: the pipeline as it is now, if it is not the run's own.
        """
        if dag is None:
            dag = self.dag
            planner = self._planner = self._planner or Planner(dag)
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
        return {name: self.blobs.load(value) for name, value in self.plan().values.items()}

    def materialise(self, values: Mapping[str, Any], reader: str) -> dict[str, Any]:
        """Values as a plan names them, fetched: blobs read, secrets filled in.

        :raises ParameterError: for a secret that was not given.
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
                out[name] = self.secrets[value.name]
            else:
                out[name] = self.blobs.load(value)
        return out

    def logs(self, path: str, number: int | None = None) -> bytes:
        """What an attempt wrote to stdout and stderr; of the latest one by default.

        :raises RefusedError: if there is no such attempt, or it has no log.
        """
        ends = {end.attempt: end for end in self.history([path]).ends(path) if end.path == path}
        number = number or max(ends, default=0)
        if number not in ends:
            raise RefusedError(
                f"run {self.run_id!r} has no ended attempt {number or ''} at {path!r}: "
                f"`runstore show` lists them"
            )
        log = ends[number].log
        return self.blobs.read(log) if log else b""

    # -- invocations -----------------------------------------------------------------------------

    def begin_invocation(
        self,
        mode: Literal["start", "retry", "fork"],
        *,
        force: Mapping[str, int] | None = None,
        ignored: Sequence[str] = (),
        dag: Dag | None = None,
        command: Sequence[str] = (),
        code: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """Record that this process works on the run; new attempts are recorded under it.

        :param force: see :func:`runstore.plan.expand`.
        :param dag: the pipeline as it is now, if its structure is not the run's own.
        """
        from runstore.structure import digest

        invocation = Invocation(
            self.run_id, new_id(), mode, now(), myself(), tuple(map(_utf8, command)), code,
            dict(force or {}), tuple(ignored),
        )  # fmt: skip
        if dag is not None:
            invocation.structure, invocation.dag = digest(dag), dag.to_json()
        self._write(keys.invocation_key(self.run_id, invocation.id), invocation)
        self.invocation = invocation.id
        return invocation

    # -- attempts --------------------------------------------------------------------------------

    def begin(
        self,
        step: Step | str,
        *,
        number: int | None = None,
        consumed: Consumed | None = None,
        code: Mapping[str, Any] | None = None,
    ) -> Attempt:
        """Claim an attempt: exclusively, durably. Of many that try, one gets it.

        :param step: a ready step of a plan (one create), or a node path. For a path, what it
            consumes is planned from what the store holds of its upstream; with ``consumed`` nothing
            is read, and with ``number`` too, nothing is listed.
        :raises AttemptTakenError: another writer claimed it; the message names it.
        :raises AttemptEndedError: for a path that has succeeded already.
        :raises RefusedError: for a path whose turn has not come.
        """
        work: Work | None = None
        if isinstance(step, str):
            path = step
            if consumed is None:
                planned = self.step(path)
                work = self._work(planned)
                number = number or work.number
                consumed = work.consumed
            elif number is None:
                number = self._last_number(path) + 1
        else:
            path = step.path
            work = self._work(step)
            number, consumed = number or work.number, consumed or work.consumed
        start = Start(
            self.run_id, path, number, new_nonce(), self._invocation(), myself(), now(), consumed,
            code,
        )  # fmt: skip
        key = keys.attempt_key(self.run_id, path, number, "start")
        try:
            self._write(key, start)
        except KeyExistsError:
            raise self._taken(path, number, key) from None
        return Attempt(self, start, key, work)

    attempt = begin
    """The same, for a ``with`` block."""

    def attempt_of(self, token: str) -> Attempt:
        """The attempt that :attr:`Attempt.token` was made of, to be ended by this process."""
        raw = orjson.loads(token)
        consumed = raw["consumed"]
        start = Start(
            self.run_id, raw["path"], raw["attempt"], raw["nonce"], raw["invocation"], myself(),
            raw["time"],
            Consumed(
                consumed.get("params", {}),
                {n: (a["sha256"], a.get("from")) for n, a in consumed.get("artifacts", {}).items()},
                consumed.get("results", {}),
                consumed.get("ends", {}),
            ),
            None,
            raw["start"],
        )  # fmt: skip
        key = keys.attempt_key(self.run_id, start.path, start.attempt, "start")
        return Attempt(self, start, key, None)

    def _work(self, step: Step) -> Work:
        if step.work is not None:
            return step.work
        record = step.record
        if step.action is Action.SKIP:
            raise AttemptEndedError(f"{step.path} is done: {step.reason}", path=step.path)
        if isinstance(record, Start):
            raise AttemptTakenError(
                f"attempt {record.attempt} at {step.path} is in progress: {record.by}, "
                f"since {record.time}",
                path=step.path,
                holder=record.by,
            )
        raise RefusedError(f"{step.path} cannot run now: {step.action}, {step.reason}")

    def _last_number(self, path: str) -> int:
        prefix = self._attempts() + keys.encode(path) + "."
        found = (keys.parse_attempt(key.rpartition("/")[2]) for key in self.storage.list(prefix))
        return max((name[1] for name in found if name and name[0] == keys.encode(path)), default=0)

    def _taken(self, path: str, number: int, key: str) -> AttemptTakenError:
        holder: Holder | None = None
        try:
            record = parse_attempt(self.storage.read(key), key)
            if isinstance(record, Start):
                holder = record.by
        except (DamagedError, KeyMissingError):
            pass
        return AttemptTakenError(
            f"attempt {number} at {path} is claimed already, by {holder or 'somebody unknown'}: "
            f"read the history again",
            path=path,
            holder=holder,
        )

    def _invocation(self) -> str:
        if self.invocation is None:
            self.begin_invocation("retry")
        assert self.invocation is not None
        return self.invocation

    # -- takeover --------------------------------------------------------------------------------

    def take_over(
        self, history: History, takeover: Takeover = "dead", paths: Iterable[str] = ()
    ) -> list[Start | Damaged]:
        """End as ``lost`` the open attempts whose writers are dead, or that the caller gives up.

        :param paths: node paths to think of where a damaged start no longer tells its own.

        ``history`` learns of the ends. Returns the attempts that stay open.
        """
        left: list[Start | Damaged] = []
        for start in list(history.open()):
            if not (
                is_dead(start.by) or was_abandoned(start.nonce) or _given_up(start.time, takeover)
            ):
                left.append(start)
                continue
            history.add(self.end_for(start, "lost", "Lost", f"declared dead: {start.by}"))
        for damaged in list(history.damaged):
            if damaged.kind != "start":
                continue
            path = damaged.path
            if path is None:
                path = next((p for p in paths if keys.encode(p) == damaged.node_key), None)
                if path is None:
                    continue
            latest = history.latest(path)
            if not isinstance(latest, Damaged) or latest.attempt != damaged.attempt:
                continue
            if takeover == "dead":
                left.append(damaged)
                continue
            end = End(
                self.run_id, path, damaged.attempt, new_nonce(), _UNKNOWN, "lost",
                Consumed(), error={"type": "Lost", "message": "its start record is damaged"},
                ended=now(), ended_by=myself(),
            )  # fmt: skip
            history.add(self._end_or_other(end))
        return left

    def end_for(self, start: Start, outcome: str, kind: str, message: str) -> End | Damaged:
        """End an attempt that another process began; if it was ended meanwhile, that end."""
        end = End(
            start.run_id, start.path, start.attempt, start.nonce, start.invocation, outcome,
            start.consumed, start.digest, error={"type": kind, "message": message},
            began=start.time, ended=now(), ended_by=myself(),
        )  # fmt: skip
        return self._end_or_other(end)

    def _end_or_other(self, end: End) -> End | Damaged:
        try:
            self.write_attempt(end)
        except KeyExistsError:
            key = keys.attempt_key(self.run_id, end.path, end.attempt, "end")
            try:
                other = parse_attempt(self.storage.read(key), key)
            except DamagedError as error:
                return Damaged(key, str(error), end.path, end.attempt, "end")
            assert isinstance(other, End)
            return other
        return end

    def read_end(self, path: str, number: int) -> End | None:
        """The end of an attempt; ``None`` if it is missing or damaged. One read."""
        key = keys.attempt_key(self.run_id, path, number, "end")
        try:
            record = parse_attempt(self.storage.read(key), key)
        except (DamagedError, KeyMissingError):
            return None
        return record if isinstance(record, End) else None

    # -- writing ---------------------------------------------------------------------------------

    def write_attempt(self, end: End) -> None:
        """Create an end record. :raises KeyExistsError: if the attempt has another end."""
        self._write(keys.attempt_key(self.run_id, end.path, end.attempt, "end"), end)

    def _write(self, key: str, record: Start | End | Invocation) -> None:
        data, record.digest = frame(to_body(record))
        self.storage.create(key, data)
        if type(record) is not Invocation:
            self.keep([data])

    def keep_for_pack(self) -> None:
        """From now on keep what is written, for :meth:`write_pack`."""
        self._unpacked = []
        self._unpacked_bytes = 0

    def kept(self) -> list[bytes]:
        """What was kept so far, framed."""
        return list(self._unpacked or ())

    def keep(self, records: Iterable[bytes]) -> None:
        """Keep records that another process of this invocation wrote."""
        with self._lock:
            if self._unpacked is None:
                return
            for data in records:
                self._unpacked.append(data)
                self._unpacked_bytes += len(data)
            full = self._unpacked_bytes > _PACK_BYTES
        if full:
            self.write_pack()

    def write_pack(self) -> str | None:
        """Put the records that were kept into one object, for quick reading; its key.

        The records stay as they are. One create, none if there is nothing to pack.
        """
        with self._lock:
            kept, self._unpacked, self._unpacked_bytes = self._unpacked or [], [], 0
        if len(kept) < 3:
            return None
        data, digest = to_pack(self.run_id, kept)
        key = keys.pack_key(self.run_id, digest)
        self.storage.create(key, data)
        return key

    def _attempts(self) -> str:
        return keys.run_prefix(self.run_id) + keys.ATTEMPTS

    # -- checking --------------------------------------------------------------------------------

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Read every record and blob: ``(key, what is wrong, or None)``."""
        from runstore.store.verify import verify_run

        return verify_run(self)


def _utf8(text: str) -> str:
    """What a record can hold of a command line, whose bytes may be anything."""
    return text.encode("utf-8", "replace").decode()


def _given_up(since: str, takeover: Takeover) -> bool:
    if takeover == "all":
        return True
    if takeover == "dead":
        return False
    try:
        began = datetime.datetime.fromisoformat(since)
    except ValueError:
        return True
    return datetime.datetime.now(datetime.UTC) - began > takeover
