"""What attempts print, shown while they print it: as it goes into their logs, secrets masked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from runstore.executor.step_log import Log
from runstore.store import Attempt

__all__ = ["Follower"]

_POLL_SECONDS = 0.05


class Follower:
    """Hands on what comes into the logs of attempts, from a thread for each.

    A log is looked at, not stood in between: a command writes straight into its file, and is never
    held up by a reader that is slow or gone.

    :param write: is given the path, if there are ``several`` attempts at once, else an empty text;
        and bytes, as they come. At the end of one of several its last line is ended. What it raises
        ends the following, and nothing else.
    """

    def __init__(self, write: Callable[[str, bytes], object], *, several: bool) -> None:
        self._write = write
        self._several = several
        self._lock = threading.Lock()
        self._at_work: dict[Log, tuple[threading.Thread, threading.Event]] = {}

    def began(self, attempt: Attempt, log: Log) -> None:
        """Follow the log of an attempt until :meth:`Log.release`, or :meth:`finish`."""
        ended = threading.Event()
        thread = threading.Thread(
            target=self._follow, args=(attempt, log, ended), daemon=True,
            name="runstore-output",
        )  # fmt: skip
        with self._lock:
            self._at_work[log] = (thread, ended)
        log.before_release = lambda: self._finish(log)
        thread.start()

    def finish(self) -> None:
        """Hand on what there is now, and follow no longer."""
        for log in list(self._at_work):
            self._finish(log)

    def _finish(self, log: Log) -> None:
        with self._lock:
            thread, ended = self._at_work.pop(log, (None, None))
        if thread is not None and ended is not None:
            ended.set()
            thread.join(10)  # whoever reads may be stuck: the attempt is not

    def _follow(self, attempt: Attempt, log: Log, ended: threading.Event) -> None:
        whose = attempt.path if self._several else ""
        last = b"\n"
        try:
            for piece in log.masked(attempt.access, self._pieces(log, ended)):
                if piece:
                    self._write(whose, piece)
                    last = piece
            if whose and not last.endswith(b"\n"):
                self._write(whose, b"\n")
        except (OSError, ValueError):
            return  # nobody reads any more

    def _pieces(self, log: Log, ended: threading.Event) -> Iterator[bytes]:
        seen = 0
        while True:
            last = ended.wait(_POLL_SECONDS)
            while piece := log.piece(seen):
                seen += len(piece)
                yield piece
            if last:
                return
