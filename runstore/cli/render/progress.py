"""What is said while a run is at work: a display on a terminal, else a line for each step."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from runstore.cli.render.console import console, say
from runstore.cli.render.text import clean, count, error_line, lasted, seconds, short, symbols
from runstore.executor import Silent
from runstore.plan import Action

if TYPE_CHECKING:
    from runstore.plan import Plan, Step
    from runstore.records import End

__all__ = ["Display", "Lines", "reporter"]

_SHOWN = 12
"""Running steps the display shows one by one."""
_FAILURES = 20
"""Failures the display leaves on the terminal; the summary has the rest."""


def reporter() -> Lines | Display:
    """The one that suits stderr."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return Display() if terminal else Lines()


_COUNTED = (("done", "green"), ("failed", "red"), ("cancelled", "yellow"), ("skipped", "dim"))


class Lines(Silent):
    """One line for each step that ended, on stderr. A reader that went away stops no run.

    Where stdout is a terminal, what others write to it is made visible (no control characters).
    """

    def __init__(self) -> None:
        self._stream = sys.stderr  # as it is now: tasks' output is routed by replacing it
        self._marks = symbols(self._stream)
        self._said = ""
        self._relay: _Relay | None = None

    def planned(self, plan: Plan) -> None:
        terminal = next((fd for fd in (1, 2) if os.isatty(fd)), None)
        if self._relay is None and terminal is not None:
            stream = os.fdopen(os.dup(terminal), "w", encoding="utf-8", errors="backslashreplace")
            self._relay = _Relay(lambda line: say(line, file=stream), stream)
        done = _skipped(plan)
        before = f": {count(done, 'step')} done before" if done else ""
        self._say(f"run {plan.run_id}{before}")

    def ended(self, step: Step, end: End | None, error: Exception | None) -> None:
        if line := _line(step, end, error, self._marks, self._said):
            self._say(line)

    def warned(self, message: str) -> None:
        self._said = message
        self._say(f"warning: {clean(message, 1000)}")

    def close(self) -> None:
        """Nothing more is to be said."""
        if self._relay is not None:
            self._relay.give_back()
            self._relay.stream.close()
            self._relay = None

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            say(line, file=self._stream)


def _skipped(plan: Plan) -> int:
    return sum(step.action is Action.SKIP and step.kind == "task" for step in plan.steps)


def _line(
    step: Step, end: End | None, error: Exception | None, marks: Any, said: str
) -> str | None:
    path = short(step.path)
    if end is None:
        if error is None or str(error) == said:
            return None
        return f"{marks['other']} {path}: {clean(str(error), 1000)}"
    if end.outcome == "succeeded":
        facts = [f"attempt {end.attempt}"] if end.attempt > 1 else []
        duration = lasted(end.began, end.ended)
        if duration is not None:
            facts.append(seconds(duration))
        return f"{marks['ok']} {path} ({', '.join(facts)})"
    if end.outcome == "failed":
        return f"{marks['failed']} {path}: {error_line(end.error)}"
    return f"{marks['other']} {path}: {end.outcome}"


class Display(Silent):
    """Counts, and the steps that are running, kept up to date at the end of the terminal.

    What a task's subprocess or a thread of a library writes to the terminal is printed above it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._printing = threading.Lock()
        self._running: dict[str, tuple[int, float]] = {}
        self._counts = {"done": 0, "failed": 0, "skipped": 0}
        self._began = time.monotonic()
        self._head = ""
        self._said = ""
        self._failures = 0
        self._early: list[str] = []
        self._live: Any = None
        self._terminal: _Terminal | None = None

    def planned(self, plan: Plan) -> None:
        from rich.live import Live

        self._head = f"run {plan.run_id}"
        self._counts["skipped"] = _skipped(plan)
        self._terminal = _Terminal(self._print)
        self._live = Live(
            self, console=self._terminal.console, refresh_per_second=8, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._live.start()
        for message in self._early:
            self._print(message, "yellow")

    def began(self, step: Step) -> None:
        number = step.work.number if step.work else 1
        with self._lock:
            self._running[step.path] = (number, time.monotonic())

    def ended(self, step: Step, end: End | None, error: Exception | None) -> None:
        with self._lock:
            self._running.pop(step.path, None)
            if end is not None:
                what = "done" if end.outcome == "succeeded" else end.outcome
                self._counts[what] = self._counts.get(what, 0) + 1
        if end is not None and end.outcome == "succeeded":
            return
        self._failures += 1
        if self._failures > _FAILURES:
            return
        if line := _line(step, end, error, symbols(), self._said):
            self._print(line, "red")

    def warned(self, message: str) -> None:
        self._said = message
        line = f"warning: {clean(message, 1000)}"
        if self._live is None:
            self._early.append(line)
        else:
            self._print(line, "yellow")

    def close(self) -> None:
        """Give the terminal back."""
        if self._terminal is not None:
            self._terminal.give_back()
        with self._printing, contextlib.suppress(OSError):  # it may be closed by now
            live, self._live = self._live, None
            if live is not None:
                live.stop()
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                self._terminal.stream.close()
            self._terminal = None

    def _print(self, line: str, style: str = "") -> None:
        from rich.text import Text

        with self._printing, contextlib.suppress(OSError):  # a terminal that is gone stops no run
            if self._live is not None:
                self._live.console.print(Text(line, style), soft_wrap=True)

    def __rich__(self) -> Any:
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            running = list(self._running.items())
            counts = dict(self._counts)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(self._head, "bold")
        text.append(f"  {len(running):,} running", "cyan")
        for what, style in _COUNTED:
            if counts.get(what):
                text.append(f"  {counts[what]:,} {what}", style)
        text.append(f"  {seconds(now - self._began)}", "dim")
        mark = symbols()["running"]
        for path, (number, since) in running[:_SHOWN]:
            again = f" (attempt {number})" if number > 1 else ""
            text.append(f"\n  {mark} {clean(short(path))}{again}  ")
            text.append(seconds(now - since), "dim")
        if len(running) > _SHOWN:
            text.append(f"\n    and {len(running) - _SHOWN:,} more", "dim")
        return text


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


class _Relay:
    """What others write to fd 1 and 2, where these are terminals, goes line by line to somebody."""

    def __init__(self, printed: Callable[[str], object], stream: IO[str]) -> None:
        _flush()
        self._printed = printed
        self.stream = stream
        """The terminal itself."""
        self._saved = {fd: os.dup(fd) for fd in (1, 2) if os.isatty(fd)}
        source, sink = os.pipe()
        for fd in self._saved:
            os.dup2(sink, fd)
        os.close(sink)
        self._thread = threading.Thread(target=self._relay, args=(source,), daemon=True)
        self._thread.start()

    def _relay(self, source: int) -> None:
        with os.fdopen(source, encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                # Whatever happens, go on reading: who writes would be held up.
                with contextlib.suppress(Exception):
                    self._printed(clean(line, 1000))

    def give_back(self) -> None:
        """From here on fd 1 and 2 are as they were; what was caught before is printed."""
        _flush()
        for fd, saved in self._saved.items():
            os.dup2(saved, fd)
            os.close(saved)
        self._thread.join(0.2)  # a process that a task left behind may hold the other end


class _Terminal(_Relay):
    """The terminal for the display alone: what others write comes out above it."""

    def __init__(self, printed: Callable[[str], object]) -> None:
        stream = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
        size = os.get_terminal_size(2)
        fixed = None if sys.stdin is not None and sys.stdin.isatty() else size
        self.console: Any = console(
            file=stream,
            force_terminal=True,
            width=fixed.columns if fixed and fixed.columns else None,
            height=fixed.lines if fixed and fixed.lines else None,
        )
        super().__init__(printed, stream)
