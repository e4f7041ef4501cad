"""One run in a store: its invocations and attempts. What it tells is in `runstore.store.view`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from runstore.dag import Dag
from runstore.errors import (
    AttemptEndedError,
    AttemptTakenError,
    InputError,
    KeyExistsError,
    KeyMissingError,
    RecordDamagedError,
    RefusedError,
)
from runstore.plan import Action, Step, Work
from runstore.plan.history import Damaged, History
from runstore.records import MAX_COUNT, Consumed, Invocation, RunRecord, Start, keys
from runstore.records.codec import parse
from runstore.storage import Storage
from runstore.store.attempt import Attempt
from runstore.store.ids import new_invocation_id, now
from runstore.store.load import last_invocation
from runstore.store.process import Liveness, current_process
from runstore.store.takeover import Takeover, take_over
from runstore.store.token import read_token
from runstore.store.view import RunReader
from runstore.store.writer import RecordWriter

__all__ = ["Run"]


class Run(RunReader):
    """A run; made by :meth:`Store.create_run` and :meth:`Store.get_run`. Threads may share it."""

    def __init__(
        self,
        storage: Storage,
        record: RunRecord,
        secrets: Mapping[str, Any] | None = None,
        *,
        is_new: bool = False,
    ) -> None:
        super().__init__(storage, record, secrets)
        self.is_new = is_new
        """Whether this object created it, and no invocation of it was begun."""
        self.writer = RecordWriter(self)
        """What writes the records of this run; for executors and importers."""
        self._lock = threading.Lock()

    def begin_invocation(
        self,
        mode: Literal["start", "retry", "fork", "import", "pull"] | None = None,
        *,
        history: History | None = None,
        force: Mapping[str, int] | None = None,
        ignored: Sequence[str] = (),
        dag: Dag | None = None,
        command: Sequence[str] = (),
        code: Mapping[str, Any] | None = None,
        source: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Invocation:
        """Record that this process works on the run; new attempts are recorded under it.

        :param mode: ``start`` for the first one and else ``retry``, if it is not given.
        :param history: what was read of the run. The invocation's number is one more than the
            highest in it.
        :param force: see :func:`runstore.plan.expand`.
        :param dag: the pipeline as it is now, if its structure is not the run's own.
        :param source: of an import or a pull: where the run came from.
        :param name: the id to give it, where processes that know one another's by agreement
            :meth:`join` it: 1 to 64 of ``a-z``, ``0-9`` and ``-``. A random one by default.
        :raises KeyExistsError: if an invocation of this ``name`` is there.
        :raises RunRemovedError: if the run was removed meanwhile.

        One create. Without a ``history``, and unless this object created the run, a listing and a
        read of each invocation besides. Processes that work together, as the pods of one workflow,
        :meth:`join` one.
        """
        from runstore.dag.structure import digest

        if history is not None:
            latest = history.latest_invocation
            number = latest.number if latest else 0
        else:
            folder = self.prefix + keys.INVOCATIONS
            names = () if self.is_new else self.storage.list(folder)
            number = last_invocation(self.storage, list(names))
        if number >= MAX_COUNT:
            raise RefusedError(
                f"the invocations of run {self.run_id!r} are numbered to the last number there is, "
                "which no runstore does",
                advice="fork it, after a look at where it came from",
                run_id=self.run_id,
            )
        invocation = Invocation(
            self.run_id, name or new_invocation_id(forces=bool(force)),
            mode or ("retry" if number else "start"), now(), current_process(),
            tuple(self.mask(word.encode("utf-8", "replace").decode()) for word in command),
            code, dict(force or {}), tuple(ignored),
            None if dag is None else digest(dag), None if dag is None else dag.to_json(),
            source=source, number=number + 1, run_nonce=self.record.nonce,
        )  # fmt: skip
        self.writer.write(keys.invocation_key(self.prefix, invocation.id), invocation)
        self.invocation, self._working, self.is_new = invocation.id, dag, False
        return invocation

    def join(self, invocation: str) -> Invocation:
        """Work under an invocation that another process began: new attempts are recorded under it,
        and plans are made with its pipeline. One read.

        A workflow begins one and passes its id to its pods: if each of ten thousand pods began its
        own, each would have ten thousand to list.

        :raises InputError: if it is not the id of an invocation.
        :raises RefusedError: if the run has none of this id.
        """
        if not isinstance(invocation, str) or keys.is_invocation_id(invocation) is None:
            raise InputError(
                f"{invocation!r:.80} is no id of an invocation", advice="pass on Invocation.id"
            )
        key = keys.invocation_key(self.prefix, invocation)
        try:
            record = parse(self.storage.read(key), key)
        except KeyMissingError:
            raise RefusedError(
                f"run {self.run_id!r} has no invocation {invocation!r}",
                advice="begin it before the processes that join it",
                run_id=self.run_id,
            ) from None
        own = (self.record.nonce, invocation)
        if type(record) is not Invocation or (record.run_nonce, record.id) != own:
            raise RecordDamagedError(f"{key} is not invocation {invocation!r} of it", key=key)
        self._adopt(record)
        return record

    def _adopt(self, invocation: Invocation) -> None:
        given = invocation.dag
        self._working = None if given is None else Dag.from_json(given, unknown="ignore")
        self.invocation = invocation.id

    def join_or_begin(
        self,
        name: str,
        *,
        known: History | None = None,
        dag: Dag | None = None,
        command: Sequence[str] = (),
        code: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """:meth:`join` the invocation of this name, which whoever comes first begins.

        One read if it is there, none if it is ``known``; else a listing, a read of each
        invocation, and a create.

        :param dag: as for :meth:`begin_invocation`; checked against the invocation that is there.
        :raises RefusedError: if it works with another structure.
        """
        from runstore.dag.structure import digest

        found = known.invocations.get(name) if known is not None else None
        if found is not None:
            self._adopt(found)
        else:
            with suppress(RefusedError):  # nobody has begun it
                found = None if self.is_new else self.join(name)
        if found is None:
            try:
                return self.begin_invocation(dag=dag, command=command, code=code, name=name)
            except KeyExistsError:  # by now somebody has
                found = self.join(name)
        own = self.record.structure
        if (found.structure or own) != (own if dag is None else digest(dag)):
            raise RefusedError(
                f"invocation {name!r} of run {self.run_id!r} works with another structure of the "
                "pipeline",
                advice="work under another one",
                run_id=self.run_id,
            )
        return found

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

        Without an invocation that was begun or joined before, one is begun: a listing and a create.
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
        tries = None if work is None else work.tries
        start = self.writer.claim(path, number, self._invocation(), consumed, code, tries)
        return Attempt(self.writer, start, work, run=lambda: self)

    def attempt_of(self, token: str) -> Attempt:
        """The attempt that :attr:`Attempt.token` was made of, for this process to end, with the
        files that were saved by then. Reads nothing. It can save files; its parameters and
        artifacts are known only to the process that began it.

        :raises InputError: for a text that is no token, or a token of another run.
        """
        start, returns, saved = read_token(token, self.record)
        attempt = Attempt(self.writer, start, None, returns, run=lambda: self)
        attempt.keep(saved)
        return attempt

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
        prefix = f"{self.prefix}{keys.ATTEMPTS}{keys.encode(path)}."
        found = (keys.parse_attempt(key.rpartition("/")[2]) for key in self.storage.list(prefix))
        return max((name[1] for name in found if name and name[0] == keys.encode(path)), default=0)

    def _invocation(self) -> str:
        with self._lock:  # of threads that begin at once, one begins the invocation
            if self.invocation is None:
                self.begin_invocation()
            assert self.invocation is not None
            return self.invocation

    def take_over(
        self,
        history: History,
        takeover: Takeover = "dead",
        paths: Iterable[str] = (),
        *,
        liveness: Liveness | None = None,
        within: Callable[[str], bool] | None = None,
    ) -> list[Start | Damaged]:
        """End as ``lost`` the open attempts whose writers are dead, or that the caller gives up.

        :param paths: node paths that a damaged start may belong to, if it no longer tells.
        :param liveness: is asked about writers of which this machine knows nothing.
        :param within: leaves alone the attempts at all other paths.
        :raises InputError: for a ``takeover`` that is none. :func:`runstore.store.check_takeover`
            checks it before anything is written.

        The ends are added to ``history``. Returns the attempts that stay open. A damaged start
        tells neither who began the attempt nor when: ``"all"`` gives it up, and so does any age.
        """
        return take_over(history, takeover, paths, self.writer.end_or_other, liveness, within)
