"""What an invocation wrote, kept in memory to become one object: a pack."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from runstore.records import RunRecord, keys
from runstore.records.framing import to_pack
from runstore.storage import Storage

__all__ = ["Keeping"]

_PACK_BYTES = 64 << 20
_FEWEST = 3


class Keeping:
    """Framed records, and what becomes of them. Nothing is kept until :meth:`begin`."""

    def __init__(self, storage: Storage, run: RunRecord) -> None:
        self._storage = storage
        self._run = run
        self._records: list[bytes] | None = None
        self._bytes = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._records, self._bytes = [], 0

    @property
    def records(self) -> list[bytes]:
        """What was kept so far."""
        with self._lock:
            return list(self._records or ())

    @property
    def full(self) -> bool:
        """Whether it is time for a pack: what is kept is kept in memory, and read at once."""
        return self._bytes > _PACK_BYTES

    def add(self, records: Iterable[bytes]) -> None:
        """Keep some more; writes nothing."""
        with self._lock:
            if self._records is None:
                return
            for data in records:
                self._records.append(data)
                self._bytes += len(data)

    def write(self) -> str | None:
        """See :meth:`Run.write_pack`."""
        with self._lock:
            kept = self._records or []
            if self._records is not None:
                self._records = []
            self._bytes = 0
        if len(kept) < _FEWEST:
            return None
        data, digest = to_pack(self._run.run_id, self._run.nonce, kept)
        key = keys.pack_key(keys.run_prefix(self._run.run_id, self._run.nonce), digest)
        # Named by its content: other bytes under this name are damage, not somebody else's.
        self._storage.create(key, data, repair=True)
        return key
