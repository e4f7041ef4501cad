"""What a task prints, taken to its log, without taking the terminal from anybody else."""

from __future__ import annotations

import contextvars
import io
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runstore.executor.step_log import Log

__all__ = ["captured", "flush", "redirected", "routed"]

_current: contextvars.ContextVar[Log | None] = contextvars.ContextVar("log", default=None)
_whole: Log | None = None
"""Where this whole process prints: a worker at its one step."""
_lock = threading.Lock()
_users = 0
_routers: dict[str, _Router] = {}
"""``stdout`` and ``stderr``, as they are while somebody is inside :func:`routed`."""
_found: dict[Log, dict[str, Any]] = {}
"""What each task at work found as ``sys.stdout`` and ``sys.stderr`` when it began."""


def _wanted() -> Log | None:
    log = _current.get()
    # A thread may live longer than the task that it was started by, in its context.
    return _whole if log is None or log.settled else log


class _Nowhere(io.TextIOBase):
    """The stream of a process that has none (``None``, as in a daemon)."""

    encoding = "utf-8"
    errors = "backslashreplace"
    buffer = io.BytesIO()

    def write(self, text: str) -> int:
        return len(text)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("this process has no such stream")

    def reconfigure(self, **_: Any) -> None:
        """There is nothing to do it to."""


class _Router(io.TextIOBase):
    """A stdout that writes to the log of the task in this thread, else where it wrote before."""

    def __init__(self, name: str, original: Any) -> None:
        self.original = original
        self.buffer = _Bytes(self)
        self._name = name
        self._else = _Nowhere() if original is None else original

    def _stream(self) -> Any:
        log = _wanted()
        return self._else if log is None else log.text(self._name)

    def write(self, text: str) -> int:
        count = self._stream().write(text)
        return count if isinstance(count, int) else len(text)  # a stream of the user's may say None

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        # Who kept the stream that was there before prints to the log of a whole process, too.
        if _whole is not None or _wanted() is None:
            self._else.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream().isatty())

    def fileno(self) -> int:
        """What a task hands to a command it runs (``stdout=sys.stdout``) is its log, too."""
        # In a worker the process's own descriptors are its log already.
        return int((self._else if _whole is not None else self._stream()).fileno())

    def detach(self) -> io.BufferedIOBase:  # type: ignore[override]
        """What wraps the bytes anew, as a task may, routes as this does. This goes on working:
        other threads print to it."""
        self.flush()
        return self.buffer

    def close(self) -> None:
        """Nothing: it is not the task's to close, since other threads print to it."""
        with suppress(Exception):
            self.flush()

    def __del__(self) -> None:
        """Nothing is closed when this is collected."""

    @property
    def closed(self) -> bool:
        return bool(getattr(self._stream(), "closed", False))

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    @property
    def mode(self) -> str:
        return "w"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream(), "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return getattr(self._stream(), "errors", None) or "strict"

    def __getattr__(self, name: str) -> Any:
        if name == "_else":
            raise AttributeError(name)  # it is not made yet
        # `reconfigure`, `newlines`, `line_buffering`, and what a notebook's stream has besides.
        return getattr(self._stream(), name)


class _Bytes(io.BufferedIOBase):
    """``sys.stdout.buffer``. It may be kept for longer than a task lasts: it routes each time."""

    mode = "wb"

    def __init__(self, router: _Router) -> None:
        self._router = router

    def write(self, data: Any) -> int:
        log = _wanted()
        if log is not None:
            return log.write(data)
        stream = self._router._else
        buffer = getattr(stream, "buffer", None)
        if buffer is None:  # a notebook's stream takes text alone
            stream.write(bytes(data).decode(self._router.encoding, "replace"))
        else:
            buffer.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._router.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._router.isatty()

    def fileno(self) -> int:
        return self._router.fileno()

    def close(self) -> None:
        """Nothing, as for the text."""

    def __del__(self) -> None:
        """Nothing is closed when this is collected."""

    @property
    def closed(self) -> bool:
        return self._router.closed

    @property
    def name(self) -> str:
        return self._router.name


@contextmanager
def routed() -> Iterator[None]:
    """While this lasts, ``sys.stdout`` and ``sys.stderr``, and the handlers of :mod:`logging` that
    have one of them, tell the threads of tasks apart. Then they are as they were before."""
    global _users  # noqa: PLW0603 - two executors in one process share the routers
    with _lock:
        _users += 1
        if _users == 1:
            for name in ("stdout", "stderr"):
                original = getattr(sys, name)
                _routers[name] = _Router(name, original)
                setattr(sys, name, _routers[name])
                _hand_over(original, _routers[name])
    try:
        yield
    finally:
        flush()
        with _lock:
            _users -= 1
            if _users == 0:
                for name, router in _routers.items():
                    setattr(sys, name, router.original)
                    _hand_over(router, router.original)
                _routers.clear()


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
    """What this thread prints inside :func:`routed` goes to a log. A stream that a task leaves as
    ``sys.stdout`` is removed, once no task is at work that may have put it there."""
    token = _current.set(log)
    with _lock:
        _found[log] = {name: getattr(sys, name, None) for name in _routers}
    try:
        yield
    finally:
        _current.reset(token)
        with _lock:
            _found.pop(log, None)
            _take_away_what_was_left()


def _take_away_what_was_left() -> None:
    # One that is there now, and was not when some task at work began, may be that task's, for a
    # while (`contextlib.redirect_stdout`).
    for name, router in _routers.items():
        now = getattr(sys, name, None)
        if now is not router and all(found.get(name) is now for found in _found.values()):
            setattr(sys, name, router)


@contextmanager
def redirected(log: Log) -> Iterator[None]:
    """Whatever this process prints goes to a log: its threads, its libraries, what it starts.

    Only for a process that is at one task, and at nothing else.
    """
    global _whole  # noqa: PLW0603 - descriptors 1 and 2 are the process's, too
    flush()
    before = [(number, _copy(number)) for number in (1, 2)]
    for number, _ in before:
        os.dup2(log.file(), number)
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
    """Flush the streams. One that a task closed, removed or broke is replaced."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a stream of the task's own making
            router = _routers.get(name)
            if router is not None:
                setattr(sys, name, router)


_forking = threading.local()


def _before_fork() -> None:
    log = _wanted()
    if log is not None:
        log.hold()
    _forking.log = log


def _after_fork() -> None:
    log: Log | None = getattr(_forking, "log", None)
    _forking.log = None
    if log is not None:
        log.let_go()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it, which is not in the child
    _lock = threading.Lock()
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
