"""Doing one step: claim, run the function or the command, record the one end."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from msgspec import Struct, field
from msgspec.structs import replace

from runstore.canonical import type_name
from runstore.dag import Task
from runstore.errors import (
    AttemptEndedError,
    AttemptError,
    DamagedError,
    ParameterError,
    RunRemovedError,
    RunstoreError,
    StorageError,
    ValueNotJsonError,
)
from runstore.executor.coroutines import result_of
from runstore.executor.failure import TaskFailedError
from runstore.executor.outputs import by_name, with_advice
from runstore.executor.shell import Shell, run_command
from runstore.executor.signals import AtOnce
from runstore.executor.stdout import captured, flush
from runstore.executor.step_log import Log
from runstore.pipeline import function_of
from runstore.pipeline.signatures import attempt_parameters
from runstore.plan import Step
from runstore.records import End
from runstore.store import Attempt
from runstore.store.access import RunAccess
from runstore.store.process import release

__all__ = ["StepResult", "leave_child", "run_step"]


class StepResult(Struct):
    """What came of a step."""

    path: str
    end: End | None = None
    error: RunstoreError | None = None
    """No attempt was ended here: somebody else has it, or its input is missing."""
    records: list[bytes] = field(default_factory=list)
    """From a worker process: the records written there, for the pack."""
    warning: str = ""
    exit_status: int = 0
    """As a shell has it: of a command its own, 1 of another task that failed."""


def run_step(
    access: RunAccess,
    begin: Callable[[Step], Attempt],
    step: Step,
    folder: str,
    shell: Shell,
    began: Callable[[Attempt, Log], bool],
    log: Log | None = None,
) -> StepResult:
    """One step, in this thread. Never raises for what the task does.

    :param begin: claims the attempt of a step.
    :param began: is told of the attempt and its log; says whether to go on.
    :param log: to print to; one of its own by default.
    :raises StorageError: if the store fails; the attempt may be left open then.
    :raises RunRemovedError: if the run was removed meanwhile.
    """
    assert step.work is not None
    work = step.work
    try:
        params = access.materialise(work.params, step.path)
    except (DamagedError, ParameterError) as error:
        return StepResult(step.path, error=error)
    try:
        # The task's own: whatever it does to them, the planner keeps what was recorded.
        attempt = begin(replace(step, work=replace(work, params=params)))
    except AttemptError as error:
        return StepResult(step.path, error=error)
    attempt._params = params
    done = StepResult(step.path)
    log = Log() if log is None else log
    failure: BaseException | None = None
    try:
        if not began(attempt, log):
            done.end = attempt.cancel("interrupted")
            return done
        outputs, failure = _tried(attempt, work.task, folder, shell, log, done)
        log.settle(attempt)
        done.end = _own(_ended(attempt, outputs, failure, shell))
        if done.end.outcome != "succeeded":
            is_command = type(failure) is TaskFailedError
            done.exit_status = failure.exit_status if is_command else 1  # type: ignore[union-attr]
    except AttemptEndedError as error:
        # Cancelled from outside, or taken over: this result is refused.
        done.error = error
    except (RunRemovedError, StorageError) as error:
        release(attempt.start.nonce)
        error.facts["released"] = attempt.start.nonce  # for who waits for it in another process
        raise
    finally:
        failure = None  # see _tried
        log.release()
    return done


def _tried(
    attempt: Attempt, task: Task, folder: str, shell: Shell, log: Log, done: StepResult
) -> tuple[Mapping[str, Any], BaseException | None]:
    """What the task gave back, or what it raised.

    An error holds the frames that it went through, and those that called them. Where one of them is
    left with a name for it, it holds itself, and all that the task had in hand, until the garbage
    collector comes by.
    """
    outputs: Mapping[str, Any] = {}
    failure: BaseException | None = None
    process = os.getpid()
    with captured(log):
        try:
            if task.type == "shell" and task._function is None:
                outputs = run_command(attempt, task, folder, shell, log)
            else:
                outputs, done.warning = _call(attempt, task, shell)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its failure
            failure = error
        leave_child(process, failure)
        try:
            flush()
        except BaseException as error:  # noqa: BLE001 - the streams may be of the task's making
            failure = failure or error
    try:
        return outputs, failure
    finally:
        failure = None


def _ended(
    attempt: Attempt, outputs: Mapping[str, Any], failure: BaseException | None, shell: Shell
) -> End:
    """Record the one end. Raises for the store, and for an end that is there already, alone."""
    if failure is None:
        try:
            return attempt.succeed(outputs)
        except (AttemptEndedError, RunRemovedError, StorageError):
            raise
        except BaseException as error:  # noqa: BLE001 - no attempt stays open for want of its values
            failure = error
    if type(failure) is ValueNotJsonError:
        try:
            failure = with_advice(failure, attempt.outputs, outputs)
        except BaseException as error:  # noqa: BLE001 - advice only, on objects of the task's own making
            if _interrupted(error, shell):
                failure = error
    if _interrupted(failure, shell):
        return attempt.cancel("interrupted")
    return _fail(attempt, failure)


def _interrupted(failure: BaseException, shell: Shell) -> bool:
    """Whether it was this executor that stopped the task. A task may raise the very same."""
    kind = type(failure)  # isinstance asks the exception itself, which may say anything
    if issubclass(kind, AtOnce):
        return True
    if not shell.stopping:
        return False
    from asyncio import CancelledError

    return issubclass(kind, KeyboardInterrupt | CancelledError)


def _own(end: End) -> End:
    """An end that no task has a hold of, as a worker process would send it."""
    own = pickle.loads(pickle.dumps(end))
    assert isinstance(own, End)
    return own


_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_trace_of = BaseException.__dict__["__traceback__"].__get__
"""Where Python keeps it: a task's exception may have a property of that name."""


def _fail(attempt: Attempt, failure: BaseException) -> End:
    """End as failed, with the frames of the task, and none of ours."""
    trace = _trace_of(failure)
    kind = type(failure)
    if issubclass(kind, SystemExit | KeyboardInterrupt):
        failure = TaskFailedError(_left(failure))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    if trace is None and not issubclass(kind, RunstoreError | TaskFailedError):
        # Without a frame of the task's, this may be a mistake of ours: let it be seen.
        return attempt.fail(failure)
    return attempt.fail(BaseException.with_traceback(failure, trace))


def _left(failure: BaseException) -> str:
    """What is said of a task that meant to end more than itself."""
    if not issubclass(type(failure), SystemExit):
        return "the task raised KeyboardInterrupt, and nobody had interrupted it"
    try:
        code = repr(getattr(failure, "code", None))
    except BaseException as broken:  # noqa: BLE001 - an object of the task's own making
        code = f"an object whose repr raised {type_name(type(broken))}"
    return f"the task called sys.exit({str.__str__(code):.1000})"


def _call(attempt: Attempt, task: Task, shell: Shell) -> tuple[Mapping[str, Any], str]:
    function = function_of(task)
    arguments = dict(attempt.params())
    arguments.update(dict.fromkeys(attempt_parameters(function), attempt))
    stopping = lambda: shell.stopping or attempt.end is not None  # noqa: E731
    return by_name(attempt, task, result_of(function, arguments, stopping))


def leave_child(process: int, failure: BaseException | None) -> None:
    """Return in the process that began the attempt; end any other one.

    A forked child that returns from the task, raises, or calls ``sys.exit`` must not come back to
    the executor: the attempt, its records, the files and the cleanup are the parent's. It ends as a
    program would: 0, the code given to ``sys.exit``, or 1 and the traceback in the log.

    :param process: id of the process that began the attempt.
    """
    if os.getpid() != process:
        _end_process(failure)


def _end_process(failure: BaseException | None) -> NoReturn:
    code = 1
    try:
        if failure is None:
            code = 0
        elif isinstance(failure, SystemExit):
            code = _code_of(failure)
        else:
            traceback.print_exception(failure)
        flush()
    finally:
        # Not sys.exit: that would unwind what the parent has still open.
        os._exit(code)


def _code_of(failure: SystemExit) -> int:
    if failure.code is None:
        return 0
    if isinstance(failure.code, int):
        return failure.code & 0xFF
    with suppress(Exception):  # its text may be of the task's own making
        sys.stderr.write(f"{failure.code}\n")
    return 1
