"""What a task prints, taken to its log, without taking the terminal from anybody else."""

from __future__ import annotations

import contextvars
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runstore.executor.log import Log

__all__ = ["captured", "flush", "redirected", "routed"]

_current: contextvars.ContextVar[Log | None] = contextvars.ContextVar("log", default=None)
_whole: Log | None = None
"""Where this whole process prints: a worker at its one step."""
_lock = threading.Lock()
_users = 0


def _wanted() -> Log | None:
    log = _current.get()
    # A thread may live longer than the task that it was started by, in its context.
    return _whole if log is None or log.settled else log


class _Router(io.TextIOBase):
    """A stdout that writes where the task at work in this thread wants it, else where it was:
    nowhere, if there was none (``None``, as in a daemon)."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def write(self, text: str) -> int:
        log = _wanted()
        if log is None:
            return len(text) if self.original is None else int(self.original.write(text))
        log.write(text.encode("utf-8", "replace"))
        return len(text)

    def flush(self) -> None:
        # Who kept the stream that was there before prints to the log of a whole process, too.
        if (_whole is not None or _wanted() is None) and self.original is not None:
            self.original.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return _wanted() is None and self.original is not None and bool(self.original.isatty())

    def fileno(self) -> int:
        """What a task hands to a command it runs (``stdout=sys.stdout``) is its log, too."""
        log = _wanted() if _whole is None else None  # the process's own are its log already
        if log is not None:
            return log.fileno()
        if self.original is None:
            raise io.UnsupportedOperation("this process has no such stream")
        return int(self.original.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> Any:
        log = _wanted()
        if log is not None:
            return log
        return io.BytesIO() if self.original is None else self.original.buffer


@contextmanager
def routed() -> Iterator[None]:
    """While this lasts, ``sys.stdout`` and ``sys.stderr`` know the threads of tasks apart; so do
    the handlers of :mod:`logging` that were given one of them before."""
    global _users  # noqa: PLW0603 - two executors in one process share the routers
    with _lock:
        _users += 1
        if _users == 1:
            for name in ("stdout", "stderr"):
                original = getattr(sys, name)
                setattr(sys, name, router := _Router(original))
                _hand_over(original, router)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for name in ("stdout", "stderr"):
                    stream = getattr(sys, name)
                    if isinstance(stream, _Router):
                        setattr(sys, name, stream.original)
                        _hand_over(stream, stream.original)


def _hand_over(old: Any, new: Any) -> None:
    """Let what logs to one stream log to another: `logging.basicConfig()` at the import of a
    pipeline keeps the stream of that moment."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        for handler in getattr(logger, "handlers", ()):  # a placeholder has none
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                handler.stream = new  # setStream flushes, which a closed pipe does not take


@contextmanager
def captured(log: Log) -> Iterator[None]:
    """What this thread prints inside :func:`routed` goes to a log."""
    token = _current.set(log)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def redirected(log: Log) -> Iterator[None]:
    """Whatever this process prints goes to a log: its threads, its libraries, what it starts.

    Only for a process that is at one task, and at nothing else.
    """
    global _whole  # noqa: PLW0603 - descriptors 1 and 2 are the process's, too
    flush()
    before = [(number, _copy(number)) for number in (1, 2)]
    for number, _ in before:
        os.dup2(log.fileno(), number)
    _whole = log
    try:
        yield
    finally:
        flush()
        _whole = None
        for number, copy in before:
            if copy is None:
                os.close(number)
            else:
                os.dup2(copy, number)
                os.close(copy)


def _copy(number: int) -> int | None:
    try:
        return os.dup(number)
    except OSError:  # it is closed: a daemon's
        return None


def flush() -> None:
    """Hand on what is held back in the streams, which may be of a task's own making."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
