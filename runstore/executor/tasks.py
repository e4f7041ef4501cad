"""Doing one step: claim, run the function or the command, record the one end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any

from runstore.canonical import dumps, loads
from runstore.dag import Task
from runstore.errors import (
    AttemptEndedError,
    AttemptError,
    DamagedError,
    ParameterError,
    RunstoreError,
    StorageError,
)
from runstore.executor.capture import captured
from runstore.pipeline import attempt_parameter, function_of, load_pipeline
from runstore.plan import Action, Reason, Step, Work
from runstore.records import Consumed, End, RunRecord
from runstore.store import Attempt, Run
from runstore.store.holder import abandon

__all__ = ["Done", "Job", "TaskFailedError", "do", "do_in_process"]


class TaskFailedError(Exception):
    """A task that did not raise, and failed all the same: a command's exit status, ``sys.exit``."""


@dataclass(slots=True)
class Done:
    """What came of a step."""

    path: str
    end: End | None = None
    error: RunstoreError | None = None
    """No attempt was ended here: somebody else has it, or its input is missing."""
    records: list[bytes] = field(default_factory=list)
    """From a worker process: the records written there, for the pack."""
    warning: str = ""


GRACE_SECONDS = 5.0
"""How long after SIGTERM a command is killed."""


class Shell:
    """The commands that are running, so that they can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal may come while this very thread holds it
        self._groups: set[int] = set()
        self.grace = GRACE_SECONDS
        self.stopping = False

    def started(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if self.stopping:
                _signal(group, signal.SIGTERM)

    def ended(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask every command, and what it started, to end."""
        with self._lock:
            self.stopping = True
            for group in self._groups:
                _signal(group, how)
            if self._groups and how is signal.SIGTERM:
                # One that does not listen must not keep this process from ending.
                insist = threading.Timer(self.grace, self.stop, [signal.SIGKILL])
                insist.daemon = True
                insist.start()


def _signal(group: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def do(
    run: Run,
    step: Step,
    folder: str,
    shell: Shell,
    began: Callable[[Attempt], bool],
    code: Mapping[str, Any] | None = None,
) -> Done:
    """One step, in this thread. Never raises for what the task does.

    :param began: is told of the attempt; says whether to go on.
    :raises StorageError: if the store fails; the attempt may be left open then.
    """
    assert step.work is not None
    task = step.work.task
    try:
        params = run.materialise(step.work.params, step.path)
    except (DamagedError, ParameterError) as error:
        return Done(step.path, error=error)
    try:
        attempt = run.begin(step, code=code)
    except AttemptError as error:
        return Done(step.path, error=error)
    attempt._params = params
    done = Done(step.path)
    try:
        if not began(attempt):
            done.end = attempt.cancel("interrupted")
            return done
        with captured() as log:
            try:
                if task.type == "shell" and task._function is None:
                    outputs = _command(attempt, task, folder, shell, log)
                else:
                    outputs, done.warning = _call(attempt, task)
                failure: BaseException | None = None
            except SystemExit as error:
                failure = TaskFailedError(f"the task called sys.exit({error.code!r})")
            except KeyboardInterrupt:
                done.end = attempt.cancel("interrupted")
                return done
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its failure
                failure = error
            log.seek(0)
            if log.read(1):
                log.seek(0)
                attempt.log = run.blobs.put_file(log)  # type: ignore[arg-type]
        if failure is None:
            try:
                done.end = attempt.succeed(outputs)
            except (RunstoreError, TypeError) as error:
                if isinstance(error, AttemptEndedError | OSError):
                    raise
                failure = error
        if failure is not None:
            done.end = attempt.fail(_without_us(failure))
    except AttemptEndedError as error:
        # Cancelled from outside, or taken over: this result is refused.
        done.error = error
    except StorageError:
        abandon(attempt.start.nonce)
        raise
    return done


def _without_us(error: BaseException) -> BaseException:
    """A traceback that begins in the task."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return error.with_traceback(trace) if trace is not None else error


# -- python --------------------------------------------------------------------------------------


def _call(attempt: Attempt, task: Task) -> tuple[Mapping[str, Any], str]:
    function = function_of(task)
    arguments = dict(attempt.params)
    wants = attempt_parameter(function)
    if wants is not None:
        arguments[wants] = attempt
    return _named(attempt, task, function(**arguments))


def _named(attempt: Attempt, task: Task, value: Any) -> tuple[Mapping[str, Any], str]:
    names = task.returns
    if not names:
        if value is None:
            return {}, ""
        return {}, (
            f"{attempt.path} returned a {type(value).__name__} and its `returns` names nothing: "
            f"the value is not kept"
        )
    if len(names) == 1:
        return {names[0]: value}, ""
    if isinstance(value, dict) and set(value) == set(names):
        return value, ""
    if isinstance(value, tuple) and len(value) == len(names):
        return dict(zip(names, value, strict=True)), ""
    shown = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
    raise TaskFailedError(
        f"{attempt.path} returned {shown}, and its `returns` names {len(names)}: "
        f"{', '.join(names)}; return a tuple in this order, or a dict with these keys"
    )


# -- shell ---------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_VARIABLE = 100_000  # Linux takes 128 KiB for one; what is longer is in the file alone


def _command(
    attempt: Attempt, task: Task, folder: str, shell: Shell, log: IO[bytes]
) -> Mapping[str, Any]:
    config = task.config
    with tempfile.TemporaryDirectory(prefix="runstore-") as scratch:
        work = os.path.join(scratch, "work")
        os.mkdir(work)
        for pattern in _patterns(config, "load"):
            attempt.load(pattern, to=work)
        params_file = os.path.join(scratch, "params.json")
        returns_file = os.path.join(scratch, "returns.json")
        with open(params_file, "w", encoding="utf-8") as file:
            json.dump(dict(attempt.params), file, ensure_ascii=False)
        environment = dict(os.environ)
        environment.update({str(k): str(v) for k, v in dict(config.get("env") or {}).items()})
        for name, value in attempt.params.items():
            text = value if isinstance(value, str) else dumps(value).decode()
            if _VARIABLE.fullmatch(name) and len(text) < _LONGEST_VARIABLE and "\0" not in text:
                environment[name] = text
        environment.update(
            RUNSTORE_PARAMS=params_file,
            RUNSTORE_RETURNS=returns_file,
            RUNSTORE_PIPELINE_DIR=folder,
            RUNSTORE_RUN_ID=attempt.run.run_id,
            RUNSTORE_PATH=attempt.path,
            RUNSTORE_ATTEMPT=str(attempt.number),
        )
        with open(os.path.join(scratch, "log"), "w+b") as output:
            status = _run(str(config["command"]), work, environment, output, shell)
            output.seek(0)
            while chunk := output.read(1 << 20):
                log.write(chunk)
            output.seek(max(0, output.tell() - 2000))
            tail = output.read().decode("utf-8", "replace").strip().splitlines()[-5:]
        if status and shell.stopping:
            raise KeyboardInterrupt  # it was this executor that ended it
        if status:
            how = f"exit status {status}"
            if status < 0:
                how = f"killed by {signal.Signals(-status).name}"
            raise TaskFailedError("\n".join([how, *tail]) if not tail else f"{how}: {tail[-1]}")
        for pattern in _patterns(config, "save"):
            attempt.save(pattern, base=work)
        return _returned(attempt, task, returns_file)


def _patterns(config: Mapping[str, Any], key: str) -> list[str]:
    value = config.get(key) or []
    return [value] if isinstance(value, str) else [str(pattern) for pattern in value]


def _run(
    command: str, work: str, environment: dict[str, str], output: IO[bytes], shell: Shell
) -> int:
    # -e: a command of several lines stops at the first that fails. Its own session: a signal meets
    # everything it started.
    process = subprocess.Popen(
        ["/bin/sh", "-ec", command],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    shell.started(process.pid)
    try:
        return process.wait()
    except BaseException:
        _signal(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        shell.ended(process.pid)


def _returned(attempt: Attempt, task: Task, path: str) -> Mapping[str, Any]:
    if not os.path.exists(path):
        if task.returns:
            raise TaskFailedError(
                f"{attempt.path} is to return {', '.join(task.returns)}, and wrote no JSON object "
                f'to "$RUNSTORE_RETURNS"'
            )
        return {}
    with open(path, "rb") as file:
        document = loads(file.read())
    if not isinstance(document, dict):
        raise TaskFailedError(f'{attempt.path} wrote no JSON object to "$RUNSTORE_RETURNS"')
    return document


# -- in a worker process -------------------------------------------------------------------------


@dataclass(slots=True)
class Job:
    """A step and all it needs, to be sent to another process."""

    url: str
    durable: bool
    record: RunRecord
    secrets: Mapping[str, Any]
    invocation: str
    path: str
    template: str
    task: Task
    number: int
    params: Mapping[str, Any]
    consumed: Consumed
    artifacts: Mapping[str, Any]
    folder: str
    source: str | None
    code: Mapping[str, Any] | None


_loaded: dict[str, dict[str, Task]] = {}


def do_in_process(job: Job) -> Done:
    """One step, in a worker process that knows nothing but the job."""
    from runstore.executor.capture import routed
    from runstore.storage import open_storage

    run = Run(open_storage(job.url, durable=job.durable), job.record, job.secrets)
    run.invocation = job.invocation
    run.keep_for_pack()
    task = _task_here(job)
    work = Work(task, job.number, job.params, job.consumed, lambda: job.artifacts)
    step = Step(job.path, Action.RUN, Reason.NEVER_RAN, work=work)
    shell = Shell()
    with routed(), _sigterm_ends(shell):
        done = do(run, step, job.folder, shell, lambda _: True, job.code)
    done.records = run.kept()
    return done


def begin_worker() -> None:
    """Ctrl-C goes to every process of a terminal: leave it to the parent, who ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _sigterm_ends(shell: Shell) -> Iterator[None]:
    """SIGTERM, by which the parent cancels, ends this process, and its command with it; a second
    one at once, without unwinding the task."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        shell.stop()
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if shell.stopping:
            os._exit(128 + signal.SIGTERM)
        signal.signal(signal.SIGTERM, old)


def _task_here(job: Job) -> Task:
    """The task with its function, as this process can load it: from the pipeline file, once."""
    if job.source is None or job.task.type != "python":
        return job.task
    if job.source not in _loaded:
        from runstore.dag import walk

        dag = load_pipeline(job.source).dag
        _loaded[job.source] = {path: node for path, node in walk(dag) if node.kind == "task"}
    found = _loaded[job.source].get(job.template)
    return found if found is not None else job.task


def as_job(
    run: Run, step: Step, folder: str, source: str | None, code: Mapping[str, Any] | None
) -> Job:
    """A ready step as something to send."""
    from runstore.paths import template

    work = step.work
    assert work is not None
    assert run.invocation is not None
    storage, task = run.storage, work.task
    if source is not None and task._function is not None:
        # The file's functions are found by loading the file there: its module is no import.
        task = task.model_copy()
        task._function = None
    return Job(
        storage.url, storage.durable, replace(run.record, dag={}), run.secrets, run.invocation,
        step.path, template(step.path), task, work.number, dict(work.params), work.consumed,
        work.artifacts(), folder, source, code,
    )  # fmt: skip
