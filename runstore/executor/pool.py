"""Where steps run: threads or worker processes made here, or an executor the caller has."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from runstore.executor.workers import Workers, exit_code

__all__ = ["Pool"]

_T = TypeVar("_T")


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
            self._make = partial(ThreadPoolExecutor, self.workers, "runstore")
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

    def prime(self) -> None:
        """See whether worker processes can begin, before anything is written.

        :raises PipelineError: if they cannot.
        """
        if isinstance(self.executor, Workers):
            self.executor.prime()

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
        for patience in (0.3, 1.0) if now else (grace + 2,):
            for process in processes:
                process.terminate()
            processes = _wait(processes, patience)
        for process in processes:
            process.kill()

    def close(self) -> None:
        """Let go of it: nothing more will be submitted. One of the caller's own stays open."""
        if self._make is not None:
            self.executor.shutdown(wait=False)  # not all that are made of it take more


def _wait(processes: list[BaseProcess], seconds: float) -> list[BaseProcess]:
    """Wait for processes to end, so long at most; those that have not."""
    deadline = time.monotonic() + seconds
    # Not `join`: it waits for the end of a pipe too, which a child of the process may hold open.
    while processes := [each for each in processes if exit_code(each) is None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return processes
