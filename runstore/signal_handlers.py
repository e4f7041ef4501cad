"""Signal handlers of this library, which no forked child inherits.

A process that a task forks (multiprocessing on Linux, ``os.fork``) gets the handlers that stood
before ours, so that ``terminate()`` ends it as in a program without runstore.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["install"]

Handler = Callable[[int, FrameType | None], Any]

_installed: dict[int, list[tuple[Handler, Any]]] = {}
"""Signal -> our handlers, from the first to the latest, each with what stood before it."""


def install(handler: Handler, *numbers: int) -> Callable[[], None]:
    """Handle signals, in the main thread; what is returned puts back what stood before.

    A signal that this process was started to ignore (by ``nohup``, or as a background job of a
    script) stays ignored, and one with a handler that is not Python's keeps it.
    """
    changed: list[int] = []
    for number in numbers:
        before = signal.getsignal(number)
        if before is None or before is signal.SIG_IGN:
            continue
        # Noted first: a fork between the two lines finds a handler that is not ours, and leaves it.
        _installed.setdefault(number, []).append((handler, before))
        signal.signal(number, handler)
        changed.append(number)

    def put_back() -> None:
        while changed:
            number = changed.pop()
            handlers = _installed.get(number, [])
            at = next((i for i, (ours, _) in enumerate(handlers) if ours is handler), None)
            if at is not None:
                signal.signal(number, handlers[at][1])
                del handlers[at:]

    return put_back


_before_fork = threading.local()


def _hold_signals() -> None:
    # One that met a child between the fork and _give_back_in_child would be noted by our handler,
    # and then forgotten with it: terminate() would not end that child.
    _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _installed)


def _let_signals_come() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before_fork.mask)


def _give_back_in_child() -> None:
    for number, handlers in _installed.items():
        current = signal.getsignal(number)
        if any(current is ours for ours, _ in handlers):
            with suppress(ValueError):  # a subinterpreter's thread handles no signals
                signal.signal(number, handlers[0][1])
    _installed.clear()
    _let_signals_come()


os.register_at_fork(
    before=_hold_signals, after_in_parent=_let_signals_come, after_in_child=_give_back_in_child
)
