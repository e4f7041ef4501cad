"""What a task prints, kept with its attempt, without taking the terminal from anybody else."""

from __future__ import annotations

import contextvars
import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

__all__ = ["captured", "routed"]

_current: contextvars.ContextVar[IO[bytes] | None] = contextvars.ContextVar("log", default=None)
_lock = threading.Lock()
_users = 0


class _Router(io.TextIOBase):
    """A stdout that writes where the task at work in this thread wants it, else where it was."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def write(self, text: str) -> int:
        log = _current.get()
        if log is None:
            return int(self.original.write(text))
        log.write(text.encode("utf-8", "replace"))
        return len(text)

    def flush(self) -> None:
        if _current.get() is None:
            self.original.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return _current.get() is None and bool(self.original.isatty())

    def fileno(self) -> int:
        return int(self.original.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> Any:
        log = _current.get()
        return self.original.buffer if log is None else log


@contextmanager
def routed() -> Iterator[None]:
    """While this lasts, ``sys.stdout`` and ``sys.stderr`` know the threads of tasks apart."""
    global _users  # noqa: PLW0603 - two executors in one process share the routers
    with _lock:
        _users += 1
        if _users == 1:
            sys.stdout, sys.stderr = _Router(sys.stdout), _Router(sys.stderr)
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


@contextmanager
def captured() -> Iterator[IO[bytes]]:
    """A file that gets what this thread prints inside :func:`routed`."""
    with tempfile.SpooledTemporaryFile(max_size=1 << 20) as log:
        token = _current.set(log)
        try:
            yield log
        finally:
            _current.reset(token)
