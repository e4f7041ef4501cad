"""Looking after a store: removing runs, sweeping up, packing.

Nothing here is called by who works on runs. It needs a storage that can delete
(`runstore.storage.removing`), and says so if this one cannot.
"""

from __future__ import annotations

from runstore.store.care.packing import Packed, pack_run
from runstore.store.care.removing import open_attempts, remove_run
from runstore.store.care.sweeping import Litter, Sweep

__all__ = ["Litter", "Packed", "Sweep", "open_attempts", "pack_run", "remove_run"]
