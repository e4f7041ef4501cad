"""SIGINT, SIGTERM and SIGHUP while a run is worked at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runstore.signal_handlers import install

__all__ = ["AtOnce", "Cancelled", "Signals"]


class Cancelled(Exception):  # noqa: N818 - a state, not an error
    """A signal came."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


class AtOnce(KeyboardInterrupt):
    """A second signal came: whatever is going on here is left."""

    def __init__(self, number: int) -> None:
        self.number = number


class Signals:
    """What has come."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first one."""

    def check(self) -> None:
        """:raises Cancelled: if one has come."""
        if self.number is not None:
            raise Cancelled(self.number)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """The first one leaves a note; a second one raises :class:`AtOnce`, and a third one does
        what it always does. Only where signals can be had: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _: Any) -> None:
            if self.number is not None:
                put_back()
                raise AtOnce(number)
            self.number = number

        put_back = install(note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        try:
            yield
        finally:
            put_back()
