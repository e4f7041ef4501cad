"""Writing the records of a run: claims, ends and invocations, each created once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runstore.errors import AttemptTakenError, DamagedError, KeyExistsError, KeyMissingError
from runstore.plan.history import Damaged
from runstore.records import Consumed, End, Holder, Invocation, Start, end_of, keys, stamp
from runstore.records.codec import parse_attempt, to_body
from runstore.records.framing import frame
from runstore.store.access import RunAccess
from runstore.store.ids import new_nonce, now
from runstore.store.pack_buffer import PackBuffer
from runstore.store.process import current_process

__all__ = ["RecordWriter"]


class RecordWriter:
    """Creates the records of one run. Safe to use from threads.

    It needs no more of the run than a :class:`RunAccess` knows, so that a worker process, or who
    records what another system did, need not read the run first.
    """

    def __init__(self, access: RunAccess, pack: PackBuffer | None = None) -> None:
        self.access = access
        self.pack = pack or PackBuffer(access.storage, access.run_id, access.nonce)
        """Keeps what is written, once it is told to begin."""

    def write(self, key: str, record: Start | End | Invocation) -> None:
        """Create a record, durably. One create, and a stat (HEAD) of ``run.json``.

        :raises KeyExistsError: if another record is there.
        :raises RunRemovedError: if the run was removed meanwhile.
        """
        data, digest = frame(to_body(record))
        stamp(record, digest)
        self.access.storage.create(key, data)
        self.access.check_there()
        if type(record) is not Invocation:
            self.pack.add([data])

    def claim(
        self,
        path: str,
        number: int,
        invocation: str,
        consumed: Consumed,
        code: Mapping[str, Any] | None = None,
    ) -> Start:
        """Create the start of an attempt: of many that try, one gets it.

        :raises AttemptTakenError: another writer claimed it; the message names it.
        :raises RunRemovedError: if the run was removed meanwhile.
        """
        access = self.access
        start = Start(
            access.run_id, path, number, new_nonce(), invocation, current_process(), now(),
            consumed, code, run_nonce=access.nonce,
        )  # fmt: skip
        key = keys.attempt_key(access.prefix, path, number, "start")
        try:
            self.write(key, start)
        except KeyExistsError:
            raise self._taken(path, number, key) from None
        return start

    def end(self, end: End) -> None:
        """Create the end of an attempt.

        :raises KeyExistsError: if the attempt has another end.
        :raises RunRemovedError: if the run was removed meanwhile.
        """
        self.write(keys.attempt_key(self.access.prefix, end.path, end.attempt, "end"), end)

    def end_for(self, start: Start, outcome: str, kind: str, message: str) -> End | Damaged:
        """End an attempt that another process began; if it was ended meanwhile, that end."""
        error = {"type": kind, "message": message}
        return self.end_or_other(
            end_of(start, outcome, now(), error=error, ended_by=current_process())
        )

    def end_or_other(self, end: End) -> End | Damaged:
        """Create an end; if the attempt has another one already, that one."""
        try:
            self.end(end)
        except KeyExistsError:
            key = keys.attempt_key(self.access.prefix, end.path, end.attempt, "end")
            try:
                other = parse_attempt(self.access.storage.read(key), key)
            except DamagedError as error:
                return Damaged(key, error.problem, end.path, end.attempt, "end")
            assert isinstance(other, End)
            return other
        return end

    def _taken(self, path: str, number: int, key: str) -> AttemptTakenError:
        holder: Holder | None = None
        try:
            record = parse_attempt(self.access.storage.read(key), key)
            if isinstance(record, Start):
                holder = record.by
        except (DamagedError, KeyMissingError):
            pass
        return AttemptTakenError(
            f"attempt {number} at {path} is claimed already, by {holder or 'somebody unknown'}",
            advice="read the history again",
            path=path,
            holder=holder,
        )
