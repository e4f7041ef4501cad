"""One step in another process: what is sent there, and what is done with it."""

from __future__ import annotations

import datetime
import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from msgspec.structs import replace

from runstore.dag import Task, walk
from runstore.errors import PipelineError, RunNotFoundError, RunstoreError
from runstore.executor.failure import timed_out
from runstore.executor.quarantine import tried
from runstore.executor.retry_variable import hidden_from_steps
from runstore.executor.scratch import scratch
from runstore.executor.shell import Shell, patterns
from runstore.executor.signals import AtOnce
from runstore.executor.stdout import redirected, routed
from runstore.executor.step import StepResult, run_step
from runstore.executor.step_log import Log, lost
from runstore.paths import template
from runstore.pipeline import Pipeline, load_pipeline
from runstore.pipeline.signatures import attempt_parameters
from runstore.plan import Action, Reason, Step, Work
from runstore.plan.history import Damaged
from runstore.records import Blob, Consumed, End, Start, end_of
from runstore.signal_handlers import install
from runstore.storage import Storage
from runstore.store import Attempt, Run, Store
from runstore.store.access import RunAccess
from runstore.store.folder import left_files
from runstore.store.ids import now
from runstore.store.process import current_process
from runstore.store.writer import RecordWriter

__all__ = ["Sender", "run_in_process"]


@dataclass(slots=True)
class _Shared:
    """What all steps of an invocation have in common. Sent as bytes, and loaded once."""

    storage: Storage
    """As it was opened: its options and its engine go along."""
    run_id: str
    nonce: str
    digest: str
    """Of ``run.json``: whether the run is still there."""
    secrets: Mapping[str, Any]
    invocation: str
    folder: str
    source: str | None
    code: Mapping[str, Any] | None


@dataclass(slots=True)
class _Job:
    """A ready step."""

    shared: bytes
    path: str
    task: Task
    number: int
    params: Mapping[str, Any]
    consumed: Consumed
    artifacts: Mapping[str, Any]
    tries: tuple[int, int] | None
    log: str | None
    """The file to print to, where the sender can read it."""


class Sender:
    """Pickles ready steps for another process, and ends the attempts that are left open there, with
    what they have printed.

    :param here: the processes are of this machine, and each is at one step at a time.
    :raises PipelineError: if the store cannot be used from there.
    """

    def __init__(
        self, run: Run, pipeline: Pipeline, code: Mapping[str, Any] | None, *, here: bool
    ) -> None:
        assert run.invocation is not None
        self._run = run
        self._here = here
        self._folder = ExitStack()
        self._logs: str | None = None
        # Whatever the current folder of that process is.
        self._source = os.path.abspath(pipeline.source) if pipeline.source else None
        shared = _Shared(
            run.storage, run.run_id, run.record.nonce, run.record.digest, run.secrets,
            run.invocation, pipeline.folder, self._source, code,
        )  # fmt: skip
        self._shared = _pickled(shared, f"the store {run.storage.url}", "use threads")

    def __enter__(self) -> Self:
        if self._here:
            self._logs = self._folder.enter_context(scratch())
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()

    def call(self, step: Step) -> tuple[Callable[[bytes], StepResult], bytes]:
        """What to submit: a function and its argument.

        :raises PipelineError: for a step that cannot be sent, naming it.
        """
        work = step.work
        assert work is not None
        task = work.task
        artifacts = _that_may_be_loaded(work)
        if self._source is not None and task._function is not None:
            # The file's functions are found by loading the file there: its module is no import.
            task = replace(task, _function=None)
        job = _Job(
            self._shared, step.path, task, work.number, dict(work.params), work.consumed,
            artifacts, work.tries, self._log_file(step.path, work.number),
        )  # fmt: skip
        advice = "define its function at the top level of a module, or use threads"
        return run_in_process, _pickled(job, step.path, advice)

    def end_for(self, start: Start, outcome: str, kind: str, message: str) -> End | Damaged:
        """:meth:`RecordWriter.end_for`, with what was printed there so far."""
        error = {"type": kind, "message": message}
        log = self._printed(start)
        end = end_of(start, outcome, now(), error=error, log=log, ended_by=current_process())
        return self._run.writer.end_or_other(end)

    def time_out(self, step: Step, limit: float) -> float:
        """End the attempt at a step as failed, if it began so many seconds ago, before its process
        is ended. How many seconds it has left; 0 if it has none, or has ended itself."""
        latest = tried(step, self._run.history([step.path]), self._run.invocation)
        if latest is None:
            return limit  # the process is importing still
        if isinstance(latest, Start):
            # One machine wrote it and reads it, so its clock can be compared with itself.
            since = datetime.datetime.fromisoformat(latest.time)
            left = limit - (datetime.datetime.now(datetime.UTC) - since).total_seconds()
            if left > 0:
                return left
            error = timed_out(limit)
            self.end_for(latest, "failed", type(error).__name__, str(error))
        return 0.0

    def cancelled(self, steps: Sequence[Step]) -> Iterator[End | Damaged]:
        """The ends of those of these steps that began, now that their processes have ended: as the
        worker recorded it when it was asked to end, or as cancelled."""
        history = self._run.history([step.path for step in steps]) if steps else None
        for step in steps:
            latest = tried(step, history, self._run.invocation) if history is not None else None
            if isinstance(latest, Start):
                message = f"interrupted{left_files(latest.nonce)}"
                yield self.end_for(latest, "cancelled", "Cancelled", message)
            elif latest is not None:
                yield latest

    def _log_file(self, path: str, number: int) -> str | None:
        name = f"{sha256(path.encode()).hexdigest()}.{number}"
        return os.path.join(self._logs, name) if self._logs is not None else None

    def _printed(self, start: Start) -> Blob | None:
        file = self._log_file(start.path, start.attempt)
        if file is None or not os.path.exists(file):
            return None
        try:
            log = Log(file)
        except OSError as error:
            return lost(self._run, error)
        try:
            return log.kept(self._run)
        finally:
            log.release()


def _that_may_be_loaded(work: Work) -> Mapping[str, Any]:
    """Of the artifacts in sight, which may be very many, those that a step may load: what a command
    names, none for a function that is given no attempt."""
    task = work.task
    if task._function is not None:
        return work.artifacts() if attempt_parameters(task._function) else {}
    if task.type != "shell":
        return work.artifacts()  # the function is known where it is imported
    sight = work.artifacts() if (names := patterns(task.config, "load")) else {}
    found = {name: sight[name] for name in names if name in sight}
    return found if len(found) == len(set(names)) else sight


def _pickled(value: object, what: str, advice: str) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise PipelineError(
            f"{what} cannot be sent to another process ({error})", advice=advice
        ) from error


class _Worker:
    """A run as a worker process knows it: its record is read when a task asks for it, as few do."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._run: Run | None = None
        self.access = RunAccess(
            shared.storage, shared.run_id, shared.nonce, shared.digest, shared.secrets
        )
        self.writer = RecordWriter(self.access)
        self.writer.pack.begin()

    def begin(self, step: Step) -> Attempt:
        work = step.work
        assert work is not None
        start = self.writer.claim(
            step.path, work.number, self._shared.invocation, work.consumed, self._shared.code,
            work.tries,
        )  # fmt: skip
        return Attempt(self.writer, start, work, run=self.run)

    def run(self) -> Run:
        if self._run is None:
            try:
                run = Store(self.access.storage).get_run(
                    self.access.run_id,
                    secrets=self.access.secrets,
                    invocation=self._shared.invocation,
                )
            except RunNotFoundError:
                self.access.check_there()
                raise
            if run.digest != self.access.digest:
                self.access.check_there()
            self._run = run
        return self._run


@functools.lru_cache(maxsize=2)
def _shared(data: bytes) -> _Shared:
    # Bytes of the process that started this one; connections are kept from step to step.
    shared = pickle.loads(data)
    assert isinstance(shared, _Shared)
    return shared


def run_in_process(data: bytes) -> StepResult:
    """One step, in a worker process that knows nothing but the job.

    :raises PipelineError: if its function cannot be loaded here, or is another one by now.
    """
    try:
        job = pickle.loads(data)
        assert isinstance(job, _Job)
        shared = _shared(job.shared)
    except RunstoreError:
        raise
    except Exception as error:
        raise PipelineError(
            f"a worker process cannot load its step ({type(error).__name__}: {error}): can what "
            f"the pipeline uses be imported there?"
        ) from error
    worker = _Worker(shared)
    work = Work(
        _task_here(job, shared), job.number, job.params, job.consumed, lambda: job.artifacts,
        job.tries,
    )  # fmt: skip
    step = Step(job.path, Action.RUN, Reason.NEVER_RAN, work=work)
    shell = Shell()
    with hidden_from_steps(), _log_of(job) as log, routed(), _sigterm_ends(shell):
        done = run_step(
            worker.access, worker.begin, step, shared.folder, shell, lambda *_: True, log
        )
    done.records = worker.writer.pack.records
    return done


@contextmanager
def _log_of(job: _Job) -> Iterator[Log]:
    """The log of a step. Where the step is in the main thread of a worker process, all that the
    process prints goes there."""
    file = job.log
    if file is not None and not os.path.isdir(os.path.dirname(file)):
        file = None  # the sender has ended
    log = Log(file)
    only = multiprocessing.parent_process() is not None and (
        threading.current_thread() is threading.main_thread()
    )
    try:
        with redirected(log) if file is not None and only else nullcontext():
            yield log
    finally:
        log.release()
        if file is not None:
            with suppress(FileNotFoundError):
                os.unlink(file)


@contextmanager
def _sigterm_ends(shell: Shell) -> Iterator[None]:
    """SIGTERM, by which the parent cancels, ends this process, and its command with it; a second
    one at once, without unwinding the task."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        if shell.stopping:
            shell.stop(signal.SIGKILL)
            os._exit(128 + signal.SIGTERM)
        shell.stop()
        raise KeyboardInterrupt

    def leave(number: int, _: object) -> None:
        raise AtOnce(number)

    back = [install(interrupt, signal.SIGTERM)]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Of a pool of the caller's own. Ctrl-C, which its processes hear of too, is no failure of
        # the task; a KeyboardInterrupt that it raises itself is one.
        back.append(install(leave, signal.SIGINT))
    try:
        yield
    finally:
        if shell.stopping:
            os._exit(128 + signal.SIGTERM)
        for put_back in back:
            put_back()


def _task_here(job: _Job, shared: _Shared) -> Task:
    """The task with its function, as this process can load it: from the pipeline file, once."""
    if shared.source is None or job.task.type != "python":
        return job.task
    digest = shared.code["sha256"] if shared.code is not None else None
    return _load(shared.source, digest).get(template(job.path), job.task)


@functools.lru_cache(maxsize=2)
def _load(source: str, digest: str | None) -> Mapping[str, Task]:
    # Once for each text of the file: a process of the caller's own may outlive an edit of it.
    pipeline = load_pipeline(source)
    if digest is not None and pipeline.digest != digest:
        raise PipelineError(
            f"{source} was changed while it was running",
            advice="retry the run to go on with the file as it is now",
        )
    return {path: node for path, node in walk(pipeline.dag) if isinstance(node, Task)}
