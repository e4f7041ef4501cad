"""The one loop: ask the plan what is ready, run it, add the records, ask again."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from runstore.dag import Task
from runstore.errors import (
    AttemptEndedError,
    BlobDamagedError,
    BlobMissingError,
    CodecError,
    DamagedError,
    RunRemovedError,
    RunstoreError,
    StorageError,
)
from runstore.executor.checks import code_of, lent
from runstore.executor.failure import timed_out
from runstore.executor.pool import Pool
from runstore.executor.quarantine import Quarantine
from runstore.executor.reporter import Reporter
from runstore.executor.scratch import remove_left
from runstore.executor.shell import Shell
from runstore.executor.signals import AtOnce, Cancelled, Signals
from runstore.executor.stdout import routed
from runstore.executor.step import StepResult, run_step
from runstore.executor.step_log import Log
from runstore.executor.tries import tries_of
from runstore.pipeline import Pipeline
from runstore.plan import Plan, Planner, Reason, Step
from runstore.plan.focus import deciding_names
from runstore.plan.history import History
from runstore.records import Blob, End, Invocation
from runstore.store import Attempt, Run
from runstore.store.process import release

if TYPE_CHECKING:
    from runstore.executor.process_worker import Sender

__all__ = ["Loop"]


_PAUSE_SECONDS = 0.1
"""How often it is looked whether a step is to be tried again."""
_PLANNING = 10
"""While steps are queued, planning takes at most one part in so many of the time."""


class Loop:
    """One invocation at work."""

    def __init__(
        self,
        run: Run,
        pipeline: Pipeline,
        planner: Planner,
        history: History,
        pool: Pool,
        reporter: Reporter,
        chosen: Callable[[str], bool] | None,
        *,
        paths: Sequence[str] | None = None,
        output: Callable[[Attempt, Log], object] | None = None,
        substitute: Callable[[Task], Task] | None = None,
    ) -> None:
        """
        :param paths: read and plan what these need, and nothing else of the run.
        :param output: is told of each attempt, in the thread that is to work at it, with the log
            that will take what it prints; not of those in worker processes.
        :param substitute: gives what is to be done in place of a task.
        """
        self.run = run
        self.planner = planner
        self.history = history
        self.pool = pool
        self.reporter = reporter
        self.chosen = chosen
        self.paths = paths
        self.output = output
        self.substitute = substitute
        self.forced: Invocation | None = None
        """Forces steps, and is no record."""
        self.folder = pipeline.folder
        self.code = code_of(pipeline)
        self.shell = Shell()
        self.ran: list[str] = []
        self.exit_statuses: dict[str, int] = {}
        """Of the tasks that failed here, by path."""
        self.warnings: list[str] = []
        self.deselected = False
        self.stuck = False
        """Something cannot run, for lack of what nothing makes again."""
        self._lent = lent(run)
        self._sender: Sender | None = None
        if pool.in_processes:
            from runstore.executor.process_worker import Sender  # and all of multiprocessing

            self._sender = Sender(run, pipeline, self.code, here=pool.here)
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Attempt, Log, float]] = {}
        """Path -> the attempt at work, its log, and when it began, by the monotonic clock."""
        self._futures: dict[Future[StepResult], Step] = {}
        self._limits: dict[Future[StepResult], float] = {}
        """Of functions with a timeout: how many seconds they may take."""
        self._look_at: dict[Future[StepResult], float] = {}
        """Of those in worker processes: when to look whether they took that long."""
        self._queue: deque[Step] = deque()
        self._dirty = False
        self._not_before: dict[tuple[str, int], float] = {}
        """Path and attempt of a try that failed -> when the next may be, by the monotonic clock."""
        self._pausing = False
        """Whether a step is held back by that."""
        self._planned = self._planning = 0.0
        self._refused: set[str] = set()
        self._missing_inputs: set[tuple[str, str]] = set()
        self._quarantine = Quarantine(run, (self._sender or run.writer).end_for)
        self._removed = False
        """The run is not there any more: nothing is to be written."""
        self._signals = Signals()
        self._deciding = deciding_names(planner.dag)
        self._learn(run.record.parameters)

    def plan(self) -> Plan:
        """The plan as of now."""
        return self.planner.plan(self.history, self.run.invocation, paths=self.paths)

    def go(self) -> Plan:
        """Run until nothing is ready. The last plan.

        :raises Cancelled: on SIGINT, SIGTERM or SIGHUP, after every attempt in progress was ended.
        :raises RunRemovedError: if the run was removed: commands and worker processes have ended.
        """
        remove_left()
        with self._signals.noted(), routed(), self._sender or nullcontext():
            try:
                try:
                    plan = self._go()
                    self._signals.check()  # one may have come while the last plan was made
                    return plan
                except Cancelled:
                    self._cancel()
                    raise
                except RunRemovedError:
                    # Nothing that is at work can be kept.
                    self._removed = True
                    self._cancel()
                    raise
                except Exception:
                    # The store failed, or something here did: let what is at work end as it can.
                    self._drain()
                    raise
            except Exception:
                raise
            except BaseException as error:
                self._cancel(now=True)
                if isinstance(error, AtOnce):
                    raise Cancelled(error.number) from None
                raise

    def _go(self) -> Plan:
        plan = self._replan()
        self.reporter.planned(plan)
        looked_again = False
        while True:
            self._signals.check()
            waited = time.monotonic() - self._planned
            if self._pausing and waited > _PAUSE_SECONDS:
                self._dirty = True  # its time may have come
            if self._dirty and (not self._queue or waited > _PLANNING * self._planning):
                plan = self._replan()
            self._submit_some()
            if self._futures:
                self._dirty |= self._collect()
                if self.run.writer.pack.full:
                    self.pack()
            elif not self._queue and not self._dirty:
                if self._pausing:
                    time.sleep(_PAUSE_SECONDS)
                    continue
                if not plan.waiting or looked_again:
                    return plan
                # What others are at may have ended meanwhile: look once more.
                self._reread()
                self._dirty = looked_again = True

    def _replan(self) -> Plan:
        """Plan, and queue what is ready: what became so just now comes first, since it may be what
        most of the run waits for; what was queued stays so, as far as it is to run still."""
        began = time.monotonic()
        plan = self.plan()
        ready = {step.path: step for step in self._startable(plan)}
        queued = [ready.pop(step.path) for step in self._queue if step.path in ready]
        self._queue = deque(ready.values())
        self._queue.extend(queued)
        self._dirty = False
        self._planned = time.monotonic()
        self._planning = self._planned - began
        return plan

    def _startable(self, plan: Plan) -> Iterator[Step]:
        taken = {step.path for step in (*self._futures.values(), *self._quarantine.queue)}
        now = time.monotonic()
        self._pausing = False
        for step in plan.ready:
            if step.path in taken or step.path in self._refused:
                continue
            if step.reason is Reason.RETRY and self._time_of(step, now) > now:
                self._pausing = True
                continue
            if self.chosen is None or self.chosen(step.path):
                yield step
            else:
                self.deselected = True

    def _time_of(self, step: Step, now: float) -> float:
        """When a step may be tried again, by the monotonic clock. After a try of another process by
        the time that its record has: never later than its whole pause from now, whatever that
        clock said."""
        end = step.record
        if not isinstance(end, End) or end.try_ is None or step.work is None:
            return now
        key = (step.path, end.attempt)
        if key not in self._not_before:
            pause = tries_of(step.work.task).pause(end.try_)
            left = min(pause, max(0.0, pause - _seconds_since(end.ended)))
            self._not_before[key] = now + left
        return self._not_before[key]

    def _submit_some(self) -> None:
        if self._quarantine:
            if not self._futures and self._quarantine.queue:
                self._submit(self._quarantine.queue.popleft())
            return
        while self._queue and len(self._futures) < self.pool.workers:
            if not self._submit(self._queue[0]):
                return
            self._queue.popleft()

    def _submit(self, step: Step) -> bool:
        """Whether it was handed over: not to a broken executor, before all that it had is back."""
        call: tuple[Any, ...]
        if self.substitute is not None and step.work is not None:
            work = replace(step.work, task=self.substitute(step.work.task))
            step = replace(step, work=work)
        if self._sender is not None:
            call = self._sender.call(step)
        else:
            begin = partial(self._lent.begin, code=self.code)
            call = (run_step, self._lent, begin, step, self.folder, self.shell, self._began)
        try:
            future = self.pool.submit(*call)
        except BrokenExecutor:
            if self._futures:
                return False
            self._renew()
            future = self.pool.submit(*call)
        self._futures[future] = step
        assert step.work is not None
        limit = tries_of(step.work.task).timeout
        if limit is not None and (step.work.task.type != "shell" or step.work.task._function):
            self._limits[future], self._look_at[future] = limit, time.monotonic() + limit
        self.reporter.began(step)
        return True

    def _began(self, attempt: Attempt, log: Log) -> bool:
        with self._lock:
            self._open[attempt.path] = (attempt, log, time.monotonic())
            if self.shell.stopping:
                return False
        if self.output is not None:
            self.output(attempt, log)
        return True

    def _collect(self) -> bool:
        """Wait for one to be done, and take all that are. Whether there is news."""
        # A timeout: a signal only leaves a note, and does not end the waiting.
        finished, _ = wait(self._futures, timeout=0.2, return_when=FIRST_COMPLETED)
        timed_out = self._time_out() if self._limits else False
        gone: list[tuple[Step, int | None]] = []
        broke = self._take_all(finished, gone)
        if broke and not self.pool.alone:
            # Whatever else was at work there is gone too, or done.
            broke += self._take_all(wait(self._futures).done, gone)
        if gone:
            attributed = self.pool.alone or (broke == 1 and len(gone) == 1)
            for step, end in self._quarantine.gone(gone, attributed=attributed):
                self._take(step, StepResult(step.path, end))
        if broke:
            self._renew()
        return bool(finished) or timed_out

    def _time_out(self) -> bool:
        """End attempts that take longer than they may; whether there was one. Commands are ended by
        who runs them."""
        found = False
        for future, step in list(self._futures.items()):
            limit = self._limits.get(future)
            if limit is None or future.done():
                continue
            if self._sender is not None:
                if self.pool.alone and time.monotonic() > self._look_at[future]:
                    left = self._sender.time_out(step, limit)
                    self._look_at[future] = time.monotonic() + left
                    if not left:
                        self.pool.kill(future)
                        del self._limits[future]
                continue
            with self._lock:
                opened = self._open.get(step.path)
            if opened is None or time.monotonic() - opened[2] < limit:
                continue
            attempt, log, _ = opened
            try:
                log.settle_so_far(attempt)
                end = attempt.fail(timed_out(limit))
            except AttemptEndedError:  # it was quicker
                continue
            with self._lock:
                self._open.pop(step.path, None)
            del self._futures[future], self._limits[future]
            self.pool.abandon(future)
            self._take(step, StepResult(step.path, end, exit_status=124))
            self.warn(f"the thread of {step.path} cannot be stopped, and goes on")
            found = True
        return found

    def _take_all(
        self, futures: set[Future[StepResult]], gone: list[tuple[Step, int | None]]
    ) -> int:
        """Take what came of each; add to ``gone`` those of which nothing came. How many of them
        were in an executor that broke."""
        broke = 0
        for future in futures:
            step = self._futures.pop(future)
            self._limits.pop(future, None)
            self._look_at.pop(future, None)
            with self._lock:
                self._open.pop(step.path, None)
            try:
                done = future.result()
            except (BrokenExecutor, CancelledError) as error:
                gone.append((step, getattr(error, "code", None)))
                broke += isinstance(error, BrokenExecutor)
                continue
            except StorageError as error:
                _let_go(error)
                raise
            self._take(step, done)
        return broke

    def _renew(self) -> None:
        if not self.pool.renew():
            raise RunstoreError(
                "a worker process died and the executor is broken",
                advice="give runstore a fresh one, or let it make its own",
            )

    def _learn(self, values: Mapping[str, Any]) -> None:
        """Fetch what the planner must see (map lists, branch choices) and stands in a blob."""
        for name, value in values.items():
            if name not in self._deciding or type(value) is not Blob or value.codec is not None:
                continue
            try:
                self.history.values[value.sha256] = self.run.blobs.load(value)
            except DamagedError:
                self.history.missing.add(value.sha256)

    def _take(self, step: Step, done: StepResult) -> None:
        self.run.writer.pack.add(done.records)
        if lost := self._quarantine.cleared(step.path):
            self.history.add(lost)
        if done.warning:
            self.warn(done.warning)
        if done.end is not None:
            self.ran.append(step.path)
            if done.exit_status:
                self.exit_statuses[step.path] = done.exit_status
            self.history.add(done.end)
            if done.end.outcome == "failed" and done.end.try_ is not None and step.work:
                pause = tries_of(step.work.task).pause(done.end.try_)
                self._not_before[step.path, done.end.attempt] = time.monotonic() + pause
            self._learn(done.end.outputs)
            sha256 = (done.end.error or {}).get("sha256")
            if sha256:
                self.history.missing.add(sha256)
            elif self.history.missing:
                self.history.missing -= {blob.sha256 for blob in done.end.blobs()}
        elif isinstance(done.error, BlobMissingError | BlobDamagedError):
            # An input is gone: the next plan makes it again from its producer. If it is gone still
            # when this step's turn comes again, nothing makes it (a parameter of the run).
            lacks = (step.path, done.error.facts["sha256"])
            self.run.check_there()
            if lacks in self._missing_inputs:
                self._refuse(step, done.error)
            self._missing_inputs.add(lacks)
            self.history.missing.add(lacks[1])
        elif isinstance(done.error, CodecError):
            self._refuse(step, done.error)
        elif done.error is not None:
            if isinstance(done.error, AttemptEndedError):
                self.ran.append(step.path)
            else:
                self._refused.add(step.path)
            self.warn(str(done.error))
            self._reread()
        self.reporter.ended(step, done.end, done.error)

    def _refuse(self, step: Step, error: RunstoreError) -> None:
        self.warn(f"{step.path} cannot run: {error}")
        self._refused.add(step.path)
        self.stuck = True

    def _reread(self) -> None:
        """Read the history again: somebody else writes to this run, or has removed it."""
        self.run.check_there()
        missing = self.history.missing
        self.history = self.run.history(self.paths, dag=self.planner.dag)
        self.history.missing |= missing
        if self.forced is not None:
            self.history.add(self.forced)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self.reporter.warned(message)

    def pack(self) -> None:
        """Pack the records for quick reading. A failure is a warning: they stand on their own."""
        if self._removed:
            return
        try:
            self.run.writer.pack.write()
        except StorageError as error:
            self.warn(f"the records were not packed for quick reading: {error}")

    def _drain(self) -> None:
        for future in self._futures:
            future.cancel()
        while wait(self._futures, timeout=0.2).not_done:
            if self._signals.number is not None:
                self._cancel()
                return
        for future in self._futures:
            if not future.cancelled():
                _let_go(future.exception())

    def _cancel(self, *, now: bool = False) -> None:
        """End what is in progress as cancelled. A task that goes on finds its end taken.

        :param now: kill what can be killed, and wait for nothing.
        """
        self.shell.stop(signal.SIGKILL if now else signal.SIGTERM)
        for future in self._futures:
            future.cancel()
        for lost in self._quarantine.lost:
            self.history.add(lost)
        if self._sender is not None:
            # Those too that have not begun: nobody is to begin after this.
            self.pool.end_processes(self.shell.grace, now=now)
            if self._removed:
                return
            try:
                for end in self._sender.cancelled(list(self._futures.values())):
                    self._cancelled(end)
            except StorageError as error:
                self.warn(f"attempts in progress were left open: {error}")
            return
        with self._lock:
            attempts = [] if self._removed else list(self._open.values())
        for attempt, log, _ in attempts:
            try:
                log.settle_so_far(attempt)
                self._cancelled(attempt.cancel("interrupted"))
            except (AttemptEndedError, RunRemovedError):  # it was quicker
                pass
            except StorageError as error:
                release(attempt.start.nonce)
                self.warn(f"attempt {attempt.number} at {attempt.path} was left open: {error}")
        # Recorded before the commands have ended: this process may be killed meanwhile.
        self.shell.finish()

    def _cancelled(self, end: Any) -> None:
        self.ran.append(end.path)
        self.history.add(end)


def _let_go(error: BaseException | None) -> None:
    """Of an attempt that a worker process could not end, as its store failed: a retry in this
    process may take it over, although the worker lives."""
    if isinstance(error, StorageError) and "released" in error.facts:
        release(error.facts["released"])


def _seconds_since(time_of: str) -> float:
    """By this machine's clock; of a record that tells no time, long ago."""
    try:
        then = datetime.fromisoformat(time_of)
        return (datetime.now(UTC) - then).total_seconds()
    except (ValueError, TypeError):
        return float("inf")
