"""Doing one step: claim, run the function or the command, record the one end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

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
from runstore.executor.failure import TaskFailedError
from runstore.executor.shell import Shell, run_command
from runstore.pipeline import attempt_parameter, function_of
from runstore.plan import Step
from runstore.records import Blob, End
from runstore.store import Attempt, Run
from runstore.store.holder import abandon
from runstore.store.masking import hidden_texts

__all__ = ["Done", "do"]


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
                    outputs = run_command(attempt, task, folder, shell, log)
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
            attempt.log = _kept(run, log)
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


# -- its log -------------------------------------------------------------------------------------

_CHUNK_BYTES = 1 << 20


def _kept(run: Run, log: IO[bytes]) -> Blob | None:
    """Keep a log, if there is one, with ``***`` for every secret value."""
    log.seek(0)
    if not log.read(1):
        return None
    log.seek(0)
    if not run.secrets:
        return run.blobs.put_file(log)  # type: ignore[arg-type]  # a spooled file is no BinaryIO
    with tempfile.SpooledTemporaryFile(max_size=_CHUNK_BYTES) as clean:
        _mask(run, log, clean)
        clean.seek(0)
        return run.blobs.put_file(clean)  # type: ignore[arg-type]  # the same


def _mask(run: Run, log: IO[bytes], clean: IO[bytes]) -> None:
    """Copy a log piece by piece. A secret that lies across two pieces begins less than its length
    before the second one: so much is held back, and looked at again with what comes after."""
    longest = max((len(text.encode()) for text in hidden_texts(run.secrets)), default=0)
    held = b""
    while chunk := log.read(_CHUNK_BYTES):
        text = (held + chunk).decode("utf-8", "surrogateescape")
        data = run.mask(text).encode("utf-8", "surrogateescape")
        cut = max(0, len(data) - longest)
        clean.write(data[:cut])
        held = data[cut:]
    clean.write(held)


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
