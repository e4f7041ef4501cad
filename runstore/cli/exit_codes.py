"""Exit codes, and the one sentence on stderr that goes with each."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import click

from runstore.cli.render.console import say, say_text
from runstore.cli.render.text import clean
from runstore.errors import DamagedError, RunstoreError, StorageError, StoreNotFoundError
from runstore.signal_handlers import install

__all__ = [
    "ASK_AGAIN", "BUG", "DAMAGED", "DONE", "FAILED", "REFUSED", "Terminated", "exit_process",
    "print_error", "run_command",
]  # fmt: skip

DONE = 0
FAILED = 1
REFUSED = 2
DAMAGED = 3
BUG = 70  # EX_SOFTWARE of sysexits(3)
ASK_AGAIN = 75  # EX_TEMPFAIL
_SIGNALLED = 128  # what a shell adds to the number of a signal


class Terminated(BaseException):
    """SIGTERM or SIGHUP came while no task was running."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)


def run_command(action: Callable[[dict[str, Any]], Any]) -> int:
    """Do it; the exit code. What it raises becomes a sentence on stderr."""
    state: dict[str, Any] = {"debug": False}
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        # Whatever is in a path or an error can be printed on whatever terminal.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    put_back = _on_signals()
    try:
        code = action(state)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except BrokenPipeError:
        # The reader has seen enough (`runstore ls | head -1`). Later flushes must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _SIGNALLED + signal.SIGPIPE
    except BaseException as error:  # noqa: BLE001 - the last that sees it: it becomes a sentence
        code = _code(error)
        if state["debug"] and code not in (_SIGNALLED + signal.SIGINT, DONE):
            import traceback

            say_text(traceback.format_exc(), err=True)
        return code
    finally:
        put_back()


def _open_closed() -> None:
    """Let nobody take the number of a standard stream that is closed (``2>&-``): what is printed
    to that number, by a step or a library in C, would go into a file of the store."""
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            try:
                os.fstat(number)
            except OSError:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it is to stay
            setattr(sys, name, stream)


def _on_signals() -> Callable[[], None]:
    """Let them unwind: for the first process of a container, SIGTERM would do nothing otherwise."""

    def stop(number: int, _: object) -> NoReturn:
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    return install(stop, signal.SIGTERM, signal.SIGHUP)


def _code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else BUG
    if isinstance(error, click.exceptions.Exit):  # --help and --version
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        print_error("cancelled")
        return _SIGNALLED + signal.SIGINT
    if isinstance(error, Terminated):
        print_error(f"cancelled by {error.signal.name}")
        return _SIGNALLED + error.signal
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, RunstoreError):
        print_error(str(error))
        if isinstance(error, DamagedError | StorageError):
            return REFUSED if isinstance(error, StoreNotFoundError) else DAMAGED
        return REFUSED
    if isinstance(error, OSError):
        print_error(f"{error} (--debug shows where)")
        return DAMAGED
    if isinstance(error, MemoryError):
        print_error("out of memory (--debug shows where)")
        return BUG
    print_error(
        f"this is a bug in runstore ({type(error).__name__}: {clean(str(error), 200)}): "
        f"run it again with --debug, and report what that shows"
    )
    return BUG


def _usage(error: click.ClickException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2; a missing verb is no mistake
        error.show()
        return REFUSED
    context = getattr(error, "ctx", None)
    where = f" (see {context.command_path} --help)" if context is not None else ""
    message = error.format_message().rstrip(".")
    print_error(f"{message[:1].lower()}{message[1:]}{where}")
    return REFUSED


def print_error(message: str) -> None:
    """``error: ...`` on stderr; nothing, where stderr is gone."""
    with contextlib.suppress(OSError):
        first, *rest = clean(message, 4000, keep_lines=True).split("\n")
        # Indented: no line of a message begins as another one would.
        say(f"error: {first}", *(f"  {line}" for line in rest), err=True)


def exit_process(code: int) -> NoReturn:
    """End the process, promptly: a task that hangs in a thread does not hold it up."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    _end_quietly()
    pool = sys.modules.get("runstore.executor.pool")
    abandoned = pool is not None and not all(each.done() for each in pool.Pool.abandoned)
    if (code not in (DONE, FAILED) or abandoned) and _held_up():
        _end_children()
        os._exit(code)
    sys.exit(code)


def _end_quietly() -> None:
    """All is written: a signal that comes now is not to print where the interpreter was."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def _held_up() -> bool:
    """Whether a thread is at work that the interpreter would wait for."""
    deadline = 0.2
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(deadline)
            if thread.is_alive():
                return True
    return False


def _end_children() -> None:
    """Worker processes do not notice that this one is gone: they would wait for ever."""
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing else ():
        child.terminate()
