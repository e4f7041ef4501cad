"""Writing the records of a run: claims, ends and invocations, each created once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from runstore.errors import AttemptTakenError, DamagedError, KeyExistsError, KeyMissingError
from runstore.plan.history import Damaged
from runstore.records import Consumed, End, Holder, Invocation, Start, end_of, keys, stamp
from runstore.records.codec import parse_attempt, to_body
from runstore.records.framing import frame, to_pack
from runstore.storage import Storage
from runstore.store.access import RunAccess
from runstore.store.ids import new_nonce, now
from runstore.store.process import current_process

__all__ = ["PackBuffer", "RecordWriter"]

_PACK_BYTES = 64 << 20
_FEWEST = 3


class PackBuffer:
    """Keeps framed records until they are written as a pack; nothing before :meth:`begin`."""

    def __init__(self, storage: Storage, run_id: str, nonce: str) -> None:
        self._storage = storage
        self._run_id = run_id
        self._nonce = nonce
        self._records: list[bytes] | None = None
        self._bytes = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """From now on keep what is written, for :meth:`write`."""
        with self._lock:
            self._records, self._bytes = [], 0

    @property
    def records(self) -> list[bytes]:
        """What was kept so far."""
        with self._lock:
            return list(self._records or ())

    @property
    def full(self) -> bool:
        """Whether 64 MiB are kept, in memory: time to :meth:`write`."""
        return self._bytes > _PACK_BYTES

    def add(self, records: Iterable[bytes]) -> None:
        """Keep framed records, of this process or of another one of this invocation."""
        with self._lock:
            if self._records is None:
                return
            for data in records:
                self._records.append(data)
                self._bytes += len(data)

    def write(self) -> str | None:
        """Put the records that were kept into one object, for quick reading; its key.

        The records stay as they are, so a failure costs nothing but time: they are not packed then,
        and not kept any longer. One create, none if there is nothing to pack.

        :raises StorageError: if the storage failed.
        """
        with self._lock:
            kept = self._records or []
            if self._records is not None:
                self._records = []
            self._bytes = 0
        if len(kept) < _FEWEST:
            return None
        data, digest = to_pack(self._run_id, self._nonce, kept)
        key = keys.pack_key(keys.run_prefix(self._run_id, self._nonce), digest)
        # Named by its content: other bytes under this name are damage, not somebody else's.
        self._storage.create(key, data, repair=True)
        return key


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
        tries: tuple[int, int] | None = None,
    ) -> Start:
        """Create the start of an attempt: of many that try, one gets it.

        :param tries: which try of its invocation it is, and how many there may be.
        :raises AttemptTakenError: another writer claimed it; the message names it.
        :raises RunRemovedError: if the run was removed meanwhile.
        """
        access = self.access
        start = Start(
            access.run_id, path, number, new_nonce(), invocation, current_process(), now(),
            consumed, code, run_nonce=access.nonce,
            try_=None if tries is None else tries[0], of=None if tries is None else tries[1],
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
