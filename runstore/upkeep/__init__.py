"""Looking after a store: removing runs, sweeping up, packing.

Nothing here is called by who works on runs. It needs a storage that can delete
(`runstore.storage.capabilities`), and says so if this one cannot.
"""

from __future__ import annotations

from runstore.upkeep.gc import Litter, Sweep
from runstore.upkeep.pack import Packed, pack_run
from runstore.upkeep.remove import open_attempts, remove_run

__all__ = ["Litter", "Packed", "Sweep", "open_attempts", "pack_run", "remove_run"]
