"""Other systems' words for what a run is. Nothing but the command line imports these."""

from __future__ import annotations

__all__: list[str] = []
