"""The log of an attempt: takes what is printed as it comes, and is kept as a blob with the end."""

from __future__ import annotations

import fcntl
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from runstore.errors import StorageError
from runstore.records import Blob
from runstore.store import Attempt
from runstore.store.access import RunAccess
from runstore.store.secrets import MASK, hidden_texts, mask_pieces, mask_rest

__all__ = ["Log"]

_CHUNK_BYTES = 1 << 20


class Log(io.BufferedIOBase):
    """Bytes that are only added to, by any thread, and by any process that has its descriptor.

    In memory, as far as it is short and no process writes to it; else in a file without a name.

    :param file: keep it in this file from the beginning, so that another process can read it when
        this one is dead.
    """

    def __init__(self, file: str | None = None) -> None:
        self._lock = threading.RLock()  # a signal may come while this very thread holds it
        self._keeping = threading.RLock()
        self._settled = False
        self._memory = bytearray()
        self._fd: int | None = None
        self._given: int | None = None
        self._texts: dict[str, io.TextIOWrapper[Any]] = {}
        self.before_release: Callable[[], object] | None = None
        """Called once, while all that was written can still be read."""
        if file is not None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(file, flags, 0o600)  # what is printed is not masked yet

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        with self._lock:
            if self._settled:
                return len(view)  # somebody who kept this stream longer than the task lasted
            if self._fd is None:
                self._memory += view
                if len(self._memory) > _CHUNK_BYTES:
                    self.file()
            else:
                _write(self._fd, view)
        return len(view)

    def text(self, name: str) -> io.TextIOWrapper[Any]:
        """The text stream of this name (``stdout``, ``stderr``) that writes here at once."""
        stream = self._texts.get(name)
        if stream is None:
            with self._lock:
                buffer: Any = self
                made = io.TextIOWrapper(
                    buffer, "utf-8", "replace", newline="\n", write_through=True
                )
                stream = self._texts.setdefault(name, made)
        return stream

    def fileno(self) -> int:
        """For a task: a descriptor of its own, which it may close, or keep for too long."""
        with self._lock:
            if self._given is None:
                self._given = _hand_out(self.file())
            return self._given

    def file(self) -> int:
        """For processes to write to. What they write stands after all that was written before."""
        with self._lock:
            if self._fd is None:
                if self._settled:
                    raise ValueError("the task whose output this was has ended")
                fd, name = tempfile.mkstemp(prefix="runstore-")
                os.unlink(name)
                fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
                _write(fd, memoryview(self._memory))
                self._memory, self._fd = bytearray(), fd
            return self._fd

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: a task that wraps and closes ``sys.stdout.buffer`` goes on printing. See
        :meth:`release`."""

    @property
    def settled(self) -> bool:
        """Whether nothing that is written from now on is kept."""
        return self._settled

    def size(self) -> int:
        with self._lock:
            return len(self._memory) if self._fd is None else os.fstat(self._fd).st_size

    def tail(self, access: RunAccess, size: int, *, after: int = 0) -> bytes:
        """At most ``size`` of the last bytes behind the first ``after``, secrets masked."""
        hidden = _hidden(access)
        with self._lock:
            begin = max(after, self.size() - size)
            # A secret that ends within them is known only by its beginning.
            seen = max(after, begin - max(map(len, hidden), default=0))
            text = self._piece(seen, begin - seen + size)
        return mask_rest(text, hidden, MASK.encode(), begin - seen)

    def piece(self, begin: int) -> bytes:
        """Some of what stands behind the first ``begin`` bytes; empty if there is nothing yet."""
        return self._piece(begin, _CHUNK_BYTES)

    def masked(self, access: RunAccess, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces with ``***`` for every secret value, wherever they are cut."""
        return mask_pieces(pieces, _hidden(access), MASK.encode())

    def _piece(self, begin: int, size: int) -> bytes:
        with self._lock:
            if self._fd is None:
                return bytes(self._memory[begin : begin + size])
            return os.pread(self._fd, size, begin)

    def _pieces(self) -> Iterator[bytes]:
        """What is there now. Others may go on writing: that is no part of it."""
        begin, end = 0, self.size()
        while begin < end and (piece := self._piece(begin, min(_CHUNK_BYTES, end - begin))):
            yield piece
            begin += len(piece)

    def kept(self, access: RunAccess) -> Blob | None:
        """Keep what is there, with ``***`` for every secret value; ``None`` if nothing is.

        Where this machine fails (no room for temporary files, too many open), a line that says so
        is kept in its place: an attempt does not stay open for want of its log.

        :raises StorageError: if the store fails.
        """
        try:
            if not self.size():
                return None
            # A copy: a blob is read twice, and must be the same both times.
            with tempfile.SpooledTemporaryFile(max_size=_CHUNK_BYTES) as copy:
                for piece in self.masked(access, self._pieces()):
                    copy.write(piece)
                copy.seek(0)
                return access.blobs.put_file(copy)  # type: ignore[arg-type]  # it is no BinaryIO
        except StorageError:
            raise
        except OSError as error:
            return lost(access, error)

    def settle(self, attempt: Attempt) -> None:
        """The task has ended: all of it is the log of its attempt. Raises as :meth:`kept`."""
        with self._keeping:
            attempt.log = self.kept(attempt.access)
            self._settled = True

    def settle_so_far(self, attempt: Attempt) -> None:
        """The attempt is ended while its task goes on: what there is is its log. If the task has
        ended at this moment, the log is what it made of it. Raises as :meth:`kept`."""
        # Not for ever: the task's own thread may hang in a store that does not answer.
        if self._keeping.acquire(timeout=1):
            try:
                if not self._settled and attempt.end is None:
                    attempt.log = self.kept(attempt.access)
            finally:
                self._keeping.release()

    def release(self) -> None:
        """Let go of what it holds."""
        before, self.before_release = self.before_release, None
        if before is not None:
            before()
        with self._keeping, self._lock:
            self._settled = True
            self._memory = bytearray()
            self._texts.clear()
            if self._fd is not None:
                if self._given is not None:
                    _take_back(self._given, self._fd)
                os.close(self._fd)
                self._fd = self._given = None

    def hold(self) -> None:
        """A fork is about to happen: the child is to print here too, and finds no lock taken."""
        self._lock.acquire()
        if not self._settled:
            with suppress(OSError):  # no room for a file: what the child prints is not kept
                self.file()

    def let_go(self) -> None:
        """Parent and child both go on after :meth:`hold`."""
        self._lock.release()


_parked: list[int] = []
"""Descriptors that tasks were given, to be given to others. A task may keep one for longer than it
lasts, as `faulthandler.enable()` does; its number must never become that of a file of the store."""
_parking = threading.Lock()


def _unlock_in_child() -> None:
    global _parking  # noqa: PLW0603 - a thread may have held it that is not in the child
    _parking = threading.Lock()


os.register_at_fork(after_in_child=_unlock_in_child)


def _hand_out(fd: int) -> int:
    with _parking:
        while _parked:
            number = _parked.pop()
            if _is_same(number, os.devnull):  # else a task closed it, and it is somebody else's
                break
        else:
            number = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return os.dup2(fd, number, inheritable=False)


def _take_back(number: int, fd: int) -> None:
    with _parking:
        if _is_same(number, fd):
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, number, inheritable=False)
            os.close(nowhere)
            _parked.append(number)


def _is_same(number: int, other: int | str) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.stat(other))
    except OSError:
        return False


def _write(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]


def lost(access: RunAccess, error: OSError) -> Blob:
    """Keep a line that says why a log could not be kept.

    :raises StorageError: if the store fails.
    """
    text = access.mask(f"runstore: the output could not be kept: {error}\n")
    return access.blobs.put(text.encode("utf-8", "replace"))


def _hidden(access: RunAccess) -> list[bytes]:
    # As a stream of ours would print them.
    return [text.encode("utf-8", "replace") for text in hidden_texts(access.secrets)]
