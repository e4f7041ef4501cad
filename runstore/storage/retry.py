"""How long one operation goes on trying, and how it pauses in between."""

from __future__ import annotations

import random
import time

__all__ = ["Backoff"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class Backoff:
    """The budget of one operation, and its pauses: doubled, and jittered so that writers that
    failed together do not come back together."""

    def __init__(self, budget: float) -> None:
        self._began = time.monotonic()
        self._budget = budget
        self._pause = _FIRST_PAUSE
        self.tries = 1

    def __str__(self) -> str:
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"{times} in {self.seconds():.1f} s"

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def left(self) -> float:
        return max(0.0, self._budget)

    def spend(self, seconds: float) -> None:
        self._budget -= seconds

    def shorten(self, budget: float) -> None:
        self._budget = min(self._budget, budget)

    def wait(self) -> bool:
        """Pause; ``False`` at once if the budget would be spent before it is over."""
        pause = self._pause * random.uniform(0.5, 1.5)
        if self.seconds() + pause > self._budget:
            return False
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        time.sleep(pause)
        self.tries += 1
        return True
