"""Doing one step: claim, run the function or the command, record the one end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runstore.dag import Task
from runstore.errors import (
    AttemptEndedError,
    AttemptError,
    DamagedError,
    ParameterError,
    RunstoreError,
    StorageError,
    ValueNotJsonError,
)
from runstore.executor.capture import captured, flush
from runstore.executor.children import leave_child
from runstore.executor.failure import TaskFailedError
from runstore.executor.log import Log
from runstore.executor.returned import by_name, with_advice
from runstore.executor.shell import Shell, run_command
from runstore.pipeline import attempt_parameter, function_of
from runstore.plan import Step
from runstore.records import End
from runstore.store import Attempt, Run
from runstore.store.holder import abandon

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
    began: Callable[[Attempt, Log], bool],
    code: Mapping[str, Any] | None = None,
    log: Log | None = None,
) -> Done:
    """One step, in this thread. Never raises for what the task does.

    :param began: is told of the attempt and its log; says whether to go on.
    :param log: to print to; one of its own by default.
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
    log = Log() if log is None else log
    try:
        if not began(attempt, log):
            done.end = attempt.cancel("interrupted")
            return done
        failure: BaseException | None = None
        process = os.getpid()
        with captured(log):
            try:
                if task.type == "shell" and task._function is None:
                    outputs = run_command(attempt, task, folder, shell, log)
                else:
                    outputs, done.warning = _call(attempt, task)
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its failure
                failure = error
            leave_child(process, failure)
            flush()
        log.settle(attempt)
        if isinstance(failure, KeyboardInterrupt):
            done.end = attempt.cancel("interrupted")
            return done
        if failure is None:
            try:
                done.end = _succeed(attempt, outputs)
            except (RunstoreError, TypeError) as error:
                if isinstance(error, AttemptEndedError | OSError):
                    raise
                failure = error
        if failure is not None:
            done.end = _fail(attempt, failure)
    except AttemptEndedError as error:
        # Cancelled from outside, or taken over: this result is refused.
        done.error = error
    except StorageError:
        abandon(attempt.start.nonce)
        raise
    finally:
        log.release()
    return done


def _succeed(attempt: Attempt, outputs: Mapping[str, Any]) -> End:
    try:
        return attempt.succeed(outputs)
    except ValueNotJsonError as error:
        raise with_advice(error, {**attempt.outputs, **outputs}) from None


# -- how it failed -------------------------------------------------------------------------------

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _fail(attempt: Attempt, failure: BaseException) -> End:
    """End as failed, with the frames of the task, and none of ours."""
    if isinstance(failure, SystemExit):
        trace = failure.__traceback__
        failure = TaskFailedError(f"the task called sys.exit({failure.code!r})")
        failure = failure.with_traceback(trace)
    trace = failure.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    if trace is None and not isinstance(failure, RunstoreError | TaskFailedError):
        # Without a frame of the task's, this may be a mistake of ours: let it be seen.
        return attempt.fail(failure)
    return attempt.fail(failure.with_traceback(trace))


# -- python --------------------------------------------------------------------------------------


def _call(attempt: Attempt, task: Task) -> tuple[Mapping[str, Any], str]:
    function = function_of(task)
    arguments = dict(attempt.params)
    wants = attempt_parameter(function)
    if wants is not None:
        arguments[wants] = attempt
    return by_name(attempt, task, function(**arguments))
