"""Where steps run: threads or worker processes made here, or an executor the caller has."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from runstore.signal_handlers import install

__all__ = ["Pool", "Workers"]

_T = TypeVar("_T")


class Workers(Executor):
    """Worker processes, each in a pool of its own: when one dies, the others go on, and it is known
    which step it was at. (A `ProcessPoolExecutor` of many ends them all with the one.)

    They begin when they are needed. Whoever submits minds how many are at work.
    """

    def __init__(self) -> None:
        # spawn: a fork of a process with threads may inherit a lock that nobody will release.
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._all: list[ProcessPoolExecutor] = []
        self._idle: list[ProcessPoolExecutor] = []

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        while True:
            worker = self._take()
            try:
                future = worker.submit(fn, *args, **kwargs)
            except BrokenExecutor:  # it died while it had nothing to do
                self._drop(worker)
                continue
            future.add_done_callback(partial(self._give_back, worker))
            return future

    def processes(self) -> list[BaseProcess]:
        """Those that live, or did a moment ago. Children of this process, all of them."""
        with self._lock:
            workers = list(self._all)
        return [process for worker in workers for process in _processes(worker)]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            worker.shutdown(wait=False, cancel_futures=cancel_futures)
        for worker in workers if wait else ():
            worker.shutdown()

    def _take(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            worker = ProcessPoolExecutor(
                1, mp_context=self._context, initializer=_leave_interrupts_to_the_parent
            )
            self._all.append(worker)
            return worker

    def _give_back(self, worker: ProcessPoolExecutor, done: Future[Any]) -> None:
        if not done.cancelled() and isinstance(done.exception(), BrokenExecutor):
            self._drop(worker)
            return
        with self._lock:
            if worker in self._all:
                self._idle.append(worker)

    def _drop(self, worker: ProcessPoolExecutor) -> None:
        with self._lock:
            if worker in self._all:
                self._all.remove(worker)
        worker.shutdown(wait=False)


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C goes to every process of a terminal: the parent ends its workers itself.

    Not SIG_IGN, which every command that a task starts would inherit.
    """
    install(lambda *_: None, signal.SIGINT)


def _processes(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    # No public name tells them; None after a shutdown.
    return list((getattr(pool, "_processes", None) or {}).values())


class Pool:
    """An executor, with what the loop must know of it.

    :param executor: the caller's own, which is left open and whose processes are never touched;
        a function that makes one, which is then ended here like those made here; or neither.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor] | None,
        workers: int | None,
        *,
        processes: bool,
    ) -> None:
        self.workers = workers or max(4, 2 * (os.cpu_count() or 1))
        self._make: Callable[[], Executor] | None = None
        if executor is None and processes:
            self._make = Workers
        elif executor is None:
            self._make = self._threads
        elif not hasattr(executor, "submit"):
            assert callable(executor)
            self._make = executor
        self.executor: Executor = self._make() if self._make else executor  # type: ignore[assignment]  # has `submit`
        self.alone = isinstance(self.executor, Workers)
        """Whether a death concerns the one step that was submitted there, and no other."""
        self.in_processes = not isinstance(self.executor, ThreadPoolExecutor) and not bool(
            getattr(self.executor, "shares_memory", False)
        )
        """Whether what is submitted is pickled. Of an executor nobody knows it is, to be sure."""
        self.here = isinstance(self.executor, Workers | ProcessPoolExecutor)
        """Whether it is run in processes of this machine, one step at a time in each."""

    def _threads(self) -> Executor:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="runstore")

    def submit(self, fn: Callable[..., _T], /, *args: Any) -> Future[_T]:
        """:raises BrokenExecutor: then :meth:`renew` it."""
        return self.executor.submit(fn, *args)

    def renew(self) -> bool:
        """Replace an executor that broke; whether there is one that works now."""
        if self.alone:
            return True
        if self._make is None:
            return False
        self.executor.shutdown(wait=False)
        self.executor = self._make()
        return True

    def end_processes(self, grace: float, *, now: bool) -> None:
        """End the worker processes, if they are ours, and the commands they run.

        SIGTERM, by which a worker ends its command too, within ``grace`` seconds. ``now``: once
        more soon, by which it kills it. SIGKILL for one that hears nothing.
        """
        if isinstance(self.executor, Workers):
            processes = self.executor.processes()
        elif self._make is not None and isinstance(self.executor, ProcessPoolExecutor):
            processes = _processes(self.executor)
        else:
            return
        for patience in (0.3, 1.0) if now else (grace + 1,):
            for process in processes:
                process.terminate()
            processes = _wait(processes, patience)
        for process in processes:
            process.kill()

    def close(self) -> None:
        """Let go of it: nothing more will be submitted. One of the caller's own stays open."""
        if self._make is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)


def _wait(processes: list[BaseProcess], seconds: float) -> list[BaseProcess]:
    """Wait for processes to end, so long at most; those that have not."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    return [process for process in processes if process.is_alive()]
