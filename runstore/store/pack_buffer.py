"""What an invocation wrote, kept in memory to become one object: a pack."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from runstore.records import keys
from runstore.records.framing import to_pack
from runstore.storage import Storage

__all__ = ["PackBuffer"]

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
