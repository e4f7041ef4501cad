"""A storage that can delete, and stops at its k-th operation: each key that is removed is one."""

from __future__ import annotations

from collections.abc import Iterable

from tests.crash.breaking import Breaking

__all__ = ["Interrupted"]


class Interrupted(Breaking):
    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            breaks = self._step(f"remove {key}")
            self.storage.remove([key])  # type: ignore[attr-defined]
            if breaks:
                self._break(f"remove {key}")
