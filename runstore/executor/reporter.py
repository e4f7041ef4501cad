"""Who is told what happens while a run is worked at."""

from __future__ import annotations

from typing import Protocol

from runstore.plan import Plan, Step
from runstore.records import End

__all__ = ["Reporter", "Silent"]


class Reporter(Protocol):
    """Is told what happens in an invocation, in the thread of the caller."""

    def planned(self, plan: Plan) -> None:
        """The first plan of the invocation, before anything runs."""

    def began(self, step: Step) -> None:
        """A step was handed to a worker."""

    def ended(self, step: Step, end: End | None, error: Exception | None) -> None:
        """The step ended; or, if ``end`` is ``None``, it did not run here, because of ``error``."""

    def warned(self, message: str) -> None:
        """Something the user should know."""


class Silent:
    """A reporter that says nothing; others derive from it what they say."""

    def planned(self, plan: Plan) -> None: ...
    def began(self, step: Step) -> None: ...
    def ended(self, step: Step, end: End | None, error: Exception | None) -> None: ...
    def warned(self, message: str) -> None: ...
