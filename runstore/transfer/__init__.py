"""Moving runs: export and import of one file, pull and push between any two stores.

Records never change, so moving a run is copying what the other side lacks. What both sides have
under one name must be the same; where it is not, nothing is written (`DivergedError`).
"""

from __future__ import annotations

from runstore.archive.format import Limits
from runstore.transfer.compare import Divergence
from runstore.transfer.copier import Progress
from runstore.transfer.copy import Arrival, Transferred, transfer_run
from runstore.transfer.export import Artifacts, Exported, export_run
from runstore.transfer.importer import import_run

__all__ = [
    "Arrival", "Artifacts", "Divergence", "Exported", "Limits", "Progress", "Transferred",
    "export_run", "import_run", "transfer_run",
]  # fmt: skip
