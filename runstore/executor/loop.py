"""The one loop: ask the plan what is ready, run it, add the records, ask again."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from runstore.errors import (
    AttemptEndedError,
    BlobDamagedError,
    BlobMissingError,
    DamagedError,
    PipelineError,
    RunstoreError,
)
from runstore.executor.capture import routed
from runstore.executor.tasks import Done, Shell, as_job, do, do_in_process
from runstore.history import History
from runstore.plan import Plan, Planner, Step
from runstore.records import Blob, End, Start
from runstore.store import Attempt, Run
from runstore.store.reading import deciding_names

__all__ = ["Cancelled", "Loop", "Reporter", "Silent"]


class Reporter(Protocol):
    """Who is told what happens, in the thread of the caller."""

    def planned(self, plan: Plan) -> None:
        """The first plan of the invocation, before anything runs."""

    def began(self, step: Step) -> None:
        """A step was handed to a worker."""

    def ended(self, step: Step, end: End | None, error: Exception | None) -> None:
        """It ended; or it was not run here, because of ``error``."""

    def warned(self, message: str) -> None:
        """Something the user should know."""


class Silent:
    """A reporter that says nothing; others derive from it what they say."""

    def planned(self, plan: Plan) -> None: ...
    def began(self, step: Step) -> None: ...
    def ended(self, step: Step, end: End | None, error: Exception | None) -> None: ...
    def warned(self, message: str) -> None: ...


class Cancelled(Exception):  # noqa: N818 - a state, not an error
    """A signal came."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


class Loop:
    """One invocation at work."""

    def __init__(
        self,
        run: Run,
        planner: Planner,
        history: History,
        pool: Executor,
        workers: int,
        *,
        folder: str,
        source: str | None,
        code: Mapping[str, Any] | None,
        chosen: Callable[[str], bool],
        reporter: Reporter,
        renew: Callable[[], Executor] | None,
    ) -> None:
        self.run = run
        self.planner = planner
        self.history = history
        self.pool = pool
        self.workers = workers
        self.folder = folder
        self.source = source
        self.code = code
        self.chosen = chosen
        self.reporter = reporter
        self.renew = renew
        self.shell = Shell()
        self.ran: list[str] = []
        self.warnings: list[str] = []
        self.held_back = False
        self._in_processes = isinstance(pool, ProcessPoolExecutor) or not _shares_memory(pool)
        self._lock = threading.Lock()
        self._open: dict[str, Attempt] = {}
        self._futures: dict[Future[Done], Step] = {}
        self._refused: set[str] = set()
        self._lacking: set[tuple[str, str]] = set()
        self.stuck = False
        """Something cannot run, for lack of what nothing makes again."""
        self._unbegun: Counter[str] = Counter()
        self._signal: int | None = None
        self._deciding = deciding_names(planner.dag)
        self._learn(run.record.parameters)

    def plan(self) -> Plan:
        """The plan as of now."""
        return self.planner.plan(self.history, self.run.invocation)

    def go(self) -> Plan:
        """Run until nothing is ready. The last plan.

        :raises Cancelled: on SIGINT or SIGTERM, after every attempt in progress was ended.
        """
        queue: deque[Step] = deque()
        plan = self.plan()
        self.reporter.planned(plan)
        fresh, looked_again = True, False
        with self._signals(), routed():
            try:
                while True:
                    if self._signal is not None:
                        raise Cancelled(self._signal)
                    if not queue and fresh:
                        plan = self.plan()
                        queue.extend(self._startable(plan))
                        fresh = False
                    while queue and len(self._futures) < self.workers:
                        self._submit(queue.popleft())
                    if self._futures:
                        if self._collect():
                            fresh = True
                    elif not queue and not fresh:
                        if plan.waiting and not looked_again:
                            # What others are at may have ended meanwhile: look once more.
                            self._reread()
                            fresh = looked_again = True
                            continue
                        return plan
            except Cancelled:
                self._cancel_all()
                raise
            except BaseException:
                # The store failed, or something here did: let what is at work end as it can.
                self._drain()
                raise

    def _startable(self, plan: Plan) -> Iterator[Step]:
        running = {step.path for step in self._futures.values()}
        for step in plan.ready:
            if step.path in running or step.path in self._refused:
                continue
            if self.chosen(step.path):
                yield step
            else:
                self.held_back = True

    def _submit(self, step: Step) -> None:
        self.reporter.began(step)
        if self._in_processes:
            job = as_job(self.run, step, self.folder, self.source, self.code)
            try:
                future = self.pool.submit(do_in_process, job)
            except BrokenProcessPool:
                self._renew_pool()
                future = self.pool.submit(do_in_process, job)
        else:
            future = self.pool.submit(
                do, self.run, step, self.folder, self.shell, self._began, self.code
            )
        self._futures[future] = step

    def _began(self, attempt: Attempt) -> bool:
        with self._lock:
            self._open[attempt.path] = attempt
            return not self.shell.stopping

    def _collect(self) -> bool:
        """Wait for one to be done, and take all that are. Whether there is news."""
        # A timeout: a signal only leaves a note, and does not end the waiting.
        finished, _ = wait(self._futures, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in finished:
            step = self._futures.pop(future)
            with self._lock:
                self._open.pop(step.path, None)
            try:
                done = future.result()
            except BrokenProcessPool:
                done = self._died(step)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                if not self._in_processes:
                    raise
                raise PipelineError(
                    f"{step.path} cannot be sent to another process ({error}): define its function "
                    f"at the top level of a module, or use threads"
                ) from error
            self._take(step, done)
        return bool(finished)

    def _learn(self, values: Mapping[str, Any]) -> None:
        """Fetch what the planner must see (map lists, branch choices) and stands in a blob."""
        for name, value in values.items():
            if name not in self._deciding or type(value) is not Blob:
                continue
            try:
                self.history.values[value.sha256] = self.run.blobs.load(value)
            except DamagedError:
                self.history.missing.add(value.sha256)

    def _take(self, step: Step, done: Done) -> None:
        self.run.keep(done.records)
        if done.warning:
            self.warn(done.warning)
        if done.end is not None:
            self.ran.append(step.path)
            self.history.add(done.end)
            self._learn(done.end.outputs)
            sha256 = (done.end.error or {}).get("sha256")
            if sha256:
                self.history.missing.add(sha256)
            elif self.history.missing:
                self.history.missing -= set(self.history.blobs_of(done.end))
        elif isinstance(done.error, BlobMissingError | BlobDamagedError):
            # An input is gone: the next plan makes it again from its producer. If it is gone still
            # when this step's turn comes again, nothing makes it (a parameter of the run).
            lacks = (step.path, done.error.facts["sha256"])
            if lacks in self._lacking:
                self.warn(f"{step.path} cannot run: {done.error}")
                self._refused.add(step.path)
                self.stuck = True
            self._lacking.add(lacks)
            self.history.missing.add(lacks[1])
        elif done.error is not None:
            if isinstance(done.error, AttemptEndedError):
                self.ran.append(step.path)
            else:
                self._refused.add(step.path)
            self.warn(str(done.error))
            self._reread()
        self.reporter.ended(step, done.end, done.error)

    def _reread(self) -> None:
        """Somebody else writes to this run: see what they did."""
        missing = self.history.missing
        self.history = self.run.history(dag=self.planner.dag)
        self.history.missing |= missing

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self.reporter.warned(message)

    # -- worker processes ------------------------------------------------------------------------

    def _died(self, step: Step) -> Done:
        """A worker process is gone, and with it what it was at."""
        self._renew_pool()
        history = self.run.history([step.path])
        latest = history.latest(step.path)
        if isinstance(latest, Start) and latest.invocation == self.run.invocation:
            end = self.run.end_for(latest, "failed", "WorkerDied", "its worker process died")
            return Done(step.path, end if isinstance(end, End) else None)
        if isinstance(latest, End) and latest.invocation == self.run.invocation:
            return Done(step.path, latest)
        # It had not begun: the next plan has it again, unless workers do nothing but die.
        self._unbegun[step.path] += 1
        if self._unbegun[step.path] > 3:
            raise RunstoreError(
                f"worker processes die before they begin {step.path}: "
                f"does its module import, and is there memory enough?"
            )
        return Done(step.path)

    def _renew_pool(self) -> None:
        if self.renew is None:
            raise RunstoreError(
                "a worker process died and the executor is broken: give runstore a fresh one, "
                "or let it make its own"
            )
        if getattr(self.pool, "_broken", False):
            self.pool.shutdown(wait=False)
            self.pool = self.renew()

    # -- the end of it ---------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM leave a note; a second one of them does what it always does.

        Only where signals can be had: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _: Any) -> None:
            self._signal = number
            signal.signal(number, old[number] or signal.SIG_DFL)

        numbers = (signal.SIGINT, signal.SIGTERM)
        old: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            signal.signal(number, note)
        try:
            yield
        finally:
            for which, handler in old.items():
                signal.signal(which, handler or signal.SIG_DFL)

    def _drain(self) -> None:
        for future in self._futures:
            future.cancel()
        wait(self._futures)

    def _cancel_all(self) -> None:
        """End what is in progress as cancelled. A task that goes on finds its end taken."""
        self.shell.stop()
        for future in self._futures:
            future.cancel()
        if self._in_processes:
            if self.renew is not None:
                # Those too that have not begun: nobody is to begin after this.
                for process in list((getattr(self.pool, "_processes", None) or {}).values()):
                    process.terminate()
                    process.join(1)
            paths = [step.path for step in self._futures.values()]
            history = self.run.history(paths) if paths else None
            for start in list(history.open()) if history else ():
                if start.invocation == self.run.invocation:
                    self._cancelled(
                        self.run.end_for(start, "cancelled", "Cancelled", "interrupted")
                    )
                    if start.by.pid and start.by.pid != os.getpid():
                        _kill(start.by.pid)
            return
        with self._lock:
            attempts = list(self._open.values())
        for attempt in attempts:
            with suppress(AttemptEndedError):  # it was quicker
                self._cancelled(attempt.cancel("interrupted"))

    def _cancelled(self, end: Any) -> None:
        self.ran.append(end.path)
        self.history.add(end)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def _shares_memory(pool: Executor) -> bool:
    """Whether what is submitted runs in this process. Threads do; of others that is not known, so
    they are sent something that can be pickled."""
    from concurrent.futures import ThreadPoolExecutor

    return isinstance(pool, ThreadPoolExecutor) or bool(getattr(pool, "shares_memory", False))
