"""Where steps run: threads or worker processes made here, or an executor the caller has."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

# Whoever runs steps in threads does without `multiprocessing`, a sixth of the time to start.
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from runstore.executor.workers import Workers

__all__ = ["Pool"]

_T = TypeVar("_T")


def _processes(pool: Executor) -> list[BaseProcess]:
    # No public name tells them; None after a shutdown.
    return list((getattr(pool, "_processes", None) or {}).values())


class Pool:
    """An executor, with what the loop must know of it.

    :param executor: the caller's own, which is left open and whose processes are never touched;
        a function that makes one, which is then ended here like those made here; or neither.
    """

    abandoned: ClassVar[list[Future[Any]]] = []
    """What goes on, or went on, in threads that nobody waits for."""

    def __init__(
        self,
        executor: Executor | Callable[[], Executor] | None,
        workers: int | None,
        *,
        processes: bool,
    ) -> None:
        self.workers = workers or max(4, 2 * (os.cpu_count() or 1))
        self._make: Callable[[], Executor] | None = None
        self._workers: Workers | None = None
        if executor is None and processes:
            from runstore.executor.workers import Workers

            self._workers = Workers()
        elif executor is None:
            self._make = partial(ThreadPoolExecutor, self.workers, "runstore")
        elif not hasattr(executor, "submit"):
            assert callable(executor)
            self._make = executor
        self.executor: Executor
        if self._workers is not None:
            self.executor = self._workers
        else:
            self.executor = self._make() if self._make else executor  # type: ignore[assignment]  # has `submit`
        self.alone = self._workers is not None
        """Whether a death concerns the one step that was submitted there, and no other."""
        self.in_processes = not isinstance(self.executor, ThreadPoolExecutor) and not bool(
            getattr(self.executor, "shares_memory", False)
        )
        """Whether what is submitted is pickled. Of an executor nobody knows it is, to be sure."""
        self.here = self.alone or (self.in_processes and _is_of_processes(self.executor))
        """Whether it is run in processes of this machine, one step at a time in each."""

    def prime(self) -> None:
        """See whether worker processes can begin, before anything is written.

        :raises PipelineError: if they cannot.
        """
        if self._workers is not None:
            self._workers.prime()

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

    def abandon(self, future: Future[Any]) -> None:
        """The thread that is at this will not come back: have others in its place."""
        self.abandoned.append(future)
        if self._make is not None and not self.in_processes:
            self.executor.shutdown(wait=False)
            self.executor = self._make()

    def kill(self, future: Future[Any]) -> bool:
        """End the worker process that is at this, if it is one of ours; whether it was."""
        return self._workers is not None and self._workers.kill(future)

    def end_processes(self, grace: float, *, now: bool) -> None:
        """End the worker processes, if they are ours, and the commands they run.

        SIGTERM, by which a worker ends its command too, within ``grace`` seconds. ``now``: once
        more soon, by which it kills it. SIGKILL for one that hears nothing.
        """
        if self._workers is not None:
            processes = self._workers.processes()
        elif self._make is not None and self.here:
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
        if self._make is not None or self._workers is not None:
            self.executor.shutdown(wait=False)  # not all that are made of it take more


def _is_of_processes(executor: Executor) -> bool:
    from concurrent.futures import ProcessPoolExecutor

    return isinstance(executor, ProcessPoolExecutor)


def _wait(processes: list[BaseProcess], seconds: float) -> list[BaseProcess]:
    """Wait for processes to end, so long at most; those that have not."""
    from runstore.executor.workers import exit_code

    deadline = time.monotonic() + seconds
    # Not `join`: it waits for the end of a pipe too, which a child of the process may hold open.
    while processes := [each for each in processes if exit_code(each) is None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return processes
