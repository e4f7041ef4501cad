"""Worker processes made here, each at one step at a time: when one dies, the others go on, it is
known which step it was at, and how it ended."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from runstore.errors import PipelineError, RunstoreError
from runstore.executor.failure import how_it_died
from runstore.executor.main_module import UNGUARDED, WORKER_NAME, main_is_imported, unguarded
from runstore.signal_handlers import install

__all__ = ["WorkerDiedError", "Workers", "exit_code"]

_T = TypeVar("_T")
_POLL_SECONDS = 0.2
"""How often a silent worker is asked whether it lives: a process that it started may hold the pipe
open."""
_REAP_SECONDS = 2.0
_OF_A_TERMINAL = (signal.SIGINT, signal.SIGHUP)
"""Ctrl-C, and a terminal that is closed, reach every process of it."""


class WorkerDiedError(BrokenExecutor):
    """The worker process ended before the step did.

    :param code: its exit code, or the negative number of the signal that ended it, if it is known.
    """

    def __init__(self, code: int | None) -> None:
        self.code = code
        super().__init__(f"a worker process {how_it_died(code)}")


class _RemoteTraceback(Exception):  # noqa: N818 - it is shown as the cause of an error
    """Where an error was raised, in the worker."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    job: tuple[Future[Any], bytes] | None = None
    ready: bool = False
    """It has said that it is there, and waits for its next job."""
    settled: threading.Event = field(default_factory=threading.Event)
    """It is ready, or dead."""


class Workers(Executor):
    """They begin when they are needed. Whoever submits minds how many are at work."""

    def __init__(self) -> None:
        # spawn: a fork of a process with threads may inherit a lock that nobody will release.
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._all: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._leaving: list[BaseProcess] = []
        self._numbers = itertools.count(1)
        self._thread: threading.Thread | None = None
        self._news, self._bell = self._context.Pipe(duplex=False)
        self._closed = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        data = pickle.dumps((fn, args, kwargs))
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers were shut down")
            worker = self._idle.pop() if self._idle else self._started()
            worker.job = (future, data)
        self._ring()
        return future

    def prime(self) -> None:
        """Begin the first one, if it imports the program that was started, to see whether it can.

        :raises PipelineError: if it cannot.
        """
        if self._all or not main_is_imported():
            return
        with self._lock:
            worker = self._started()
            self._idle.append(worker)
        worker.settled.wait()
        if worker.ready:
            return
        code = exit_code(worker.process)
        if code == UNGUARDED:
            raise PipelineError(unguarded())
        raise PipelineError(
            f"a worker process {how_it_died(code)} before it could do anything. It imports the "
            "program that was started first",
            advice="see what it printed, or use threads",
        )

    def kill(self, future: Future[Any]) -> bool:
        """End the process that is at this job; whether there is one."""
        with self._lock:
            at_it = [w for w in self._all if w.job is not None and w.job[0] is future]
        for worker in at_it:
            worker.process.kill()
        return bool(at_it)

    def processes(self) -> list[BaseProcess]:
        """Those that live, or did a moment ago. Children of this process, all of them."""
        with self._lock:
            return [worker.process for worker in self._all]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Idle workers end now, others with what they are at."""
        with self._lock:
            self._closed = True
            jobs = [worker.job for worker in self._all if worker.job is not None]
            thread = self._thread
        if cancel_futures:
            for future, _ in jobs:
                future.cancel()
        self._ring()
        if thread is None:
            self._news.close()
        elif wait:
            thread.join()

    def _started(self) -> _Worker:
        """One more, under the lock."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs,), name=f"{WORKER_NAME}-{next(self._numbers)}"
        )
        try:
            with _interrupts_held_back():
                process.start()
        finally:
            theirs.close()
        worker = _Worker(process, ours)
        self._all.append(worker)
        if self._thread is None:
            # A daemon: a step that hangs does not keep this process from ending.
            self._thread = threading.Thread(
                target=self._manage, name="runstore-workers", daemon=True
            )
            self._thread.start()
        return worker

    def _ring(self) -> None:
        with suppress(OSError):  # nobody listens any more: all have ended
            self._bell.send_bytes(b"!")

    def _manage(self) -> None:
        try:
            while (workers := self._left()) is not None:
                self._listen(workers)
        except BaseException as error:  # whoever waits for a step would wait for ever
            self._fail(error)
            raise
        deadline = time.monotonic() + _REAP_SECONDS
        while any(exit_code(process) is None for process in self._leaving):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)

    def _listen(self, workers: list[_Worker]) -> None:
        heard = wait([self._news, *(worker.connection for worker in workers)], _POLL_SECONDS)
        if self._news in heard:
            self._news.recv_bytes()
        for worker in workers:
            if worker.connection in heard:
                self._hear(worker)
            elif exit_code(worker.process) is not None:
                self._died(worker)
            if worker.ready and worker.job is not None:
                self._give(worker)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._closed = True
            workers = list(self._all)
        for worker in workers:
            worker.settled.set()
            if worker.job is not None and not worker.job[0].done():
                worker.job[0].set_exception(RunstoreError(f"worker processes were lost: {error}"))
            # By which it ends: this program would wait for it when it ends itself.
            worker.connection.close()

    def _left(self) -> list[_Worker] | None:
        """Those to listen to. After a shutdown, the idle ones are let go; ``None`` for the end."""
        with self._lock:
            if self._closed:
                for worker in [each for each in self._all if each.job is None]:
                    if worker.ready:
                        worker.connection.close()  # by which it knows
                    else:
                        worker.process.terminate()  # it is importing still, and need not
                    self._all.remove(worker)
                    self._leaving.append(worker.process)
                if not self._all:
                    self._news.close()
                    return None
            return list(self._all)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            self._died(worker)
            return
        if not message:
            worker.ready = True
            worker.settled.set()
            return
        if worker.job is None:  # its task has written to what is not its own
            self._died(worker)
            return
        future, _ = worker.job
        with self._lock:
            worker.job, worker.ready = None, True
            self._idle.append(worker)
        try:
            value, error, trace = pickle.loads(message)
        except Exception as unread:  # noqa: BLE001 - it goes to whoever waits for it
            problem = f"what a worker sent is unreadable: {unread}"
            value, error, trace = None, RunstoreError(problem), ""
        if error is None:
            future.set_result(value)
        else:
            error.__cause__ = _RemoteTraceback(trace)
            future.set_exception(error)

    def _give(self, worker: _Worker) -> None:
        assert worker.job is not None
        future, data = worker.job
        if not future.set_running_or_notify_cancel():
            with self._lock:
                worker.job = None
                self._idle.append(worker)
            return
        worker.ready = False
        try:
            worker.connection.send_bytes(data)
        except OSError:
            self._died(worker)

    def _died(self, worker: _Worker) -> None:
        with self._lock:
            if worker not in self._all:
                return
            self._all.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
        deadline = time.monotonic() + _REAP_SECONDS
        while (code := exit_code(worker.process)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if code is None:
            worker.process.kill()  # it cannot say anything any more
        worker.connection.close()
        worker.ready = False
        worker.settled.set()
        if worker.job is not None:
            future, _ = worker.job
            worker.job = None
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(WorkerDiedError(code))


_reaping = threading.Lock()


def exit_code(process: BaseProcess) -> int | None:
    """As ``process.exitcode``, which two threads that ask at once can mislead."""
    with _reaping:
        return process.exitcode


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes started inside begin with these signals blocked: a worker that is still importing
    would print a traceback, or be gone before the parent can end its attempt."""
    resource_tracker.ensure_running()  # it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_A_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    # The parent ends its workers itself. Not SIG_IGN, which every command of a task would inherit.
    install(lambda *_: None, *_OF_A_TERMINAL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_A_TERMINAL)
    # What a task forks or starts must not hold the pipe open when this process is gone.
    os.register_at_fork(after_in_child=connection.close)
    os.set_inheritable(connection.fileno(), False)
    try:
        connection.send_bytes(b"")
        while True:
            connection.send_bytes(_done(connection.recv_bytes()))
    except (EOFError, OSError):
        return  # the parent has no more work, or is gone


def _done(data: bytes) -> bytes:
    try:
        function, args, kwargs = pickle.loads(data)
        return pickle.dumps((function(*args, **kwargs), None, ""))
    except BaseException as error:  # noqa: BLE001 - the parent is to see whatever it was
        trace = f"\n{traceback.format_exc()}"
        try:
            return pickle.dumps((None, error, trace))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, its text can be sent
            said = f"{type(error).__name__}: {error}"
            return pickle.dumps((None, RunstoreError(f"a worker process failed: {said}"), trace))
