"""What an invocation came to: the summary, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from runstore.cli.exit_codes import DONE, FAILED, REFUSED, print_error
from runstore.cli.render.console import say
from runstore.cli.render.progress import Display, Lines, reporter
from runstore.cli.render.text import (
    clean,
    count,
    error_line,
    named,
    short,
    shown,
    symbols,
    verb_line,
)
from runstore.cli.store_url import StoreLocation
from runstore.plan import Action, Reason, Step
from runstore.plan.steps import BY_VALUE, within
from runstore.records import End, Start

if TYPE_CHECKING:
    from runstore.dag import Dag
    from runstore.executor import Result

__all__ = ["Hints", "work"]

_LISTED = 10
_PASTED = 1_000
"""Characters of a path beyond which nobody is shown a command with it."""


class Hints(NamedTuple):
    """What the commands to go on with are made of."""

    store: StoreLocation
    pipeline: str | None
    """The file, if it was named."""
    options: Sequence[str] = ()
    """Of who works on a run: what was given, and a retry is to be given again."""
    dag: Dag | None = None
    """Of the pipeline; ``None``: the run's own."""


def work(call: Callable[[Lines | Display], Result], hints: Hints) -> int:
    """Let ``call`` run, show how it goes, and say what came of it. The exit code."""
    progress = reporter()
    try:
        result = call(progress)
    finally:
        progress.close()
    return _Summary(result, hints).tell()


class _Summary:
    def __init__(self, result: Result, hints: Hints) -> None:
        self.result = result
        self.run_id = result.run_id
        self.hints = hints
        self.pipeline = [hints.pipeline] if hints.pipeline else []
        self.retry = self._retry()
        self.failed: list[Step] = []
        for step in result.plan.steps:
            if step.action is Action.FAILED and (step.kind == "task" or step.reason in BY_VALUE):
                # A composite repeats the reason of what failed in it, and stands before that.
                if self.failed and within(step.path, self.failed[-1].path):
                    self.failed.pop()
                self.failed.append(step)

    def _command(self, verb: str, *words: str, options: Sequence[str] = ()) -> str:
        return verb_line(verb, *words, options=[*self.hints.store.words(), *options])

    def _retry(self, *options: str) -> str:
        given = [*self.hints.options, *options]
        return self._command("retry", self.run_id, *self.pipeline, options=given)

    def tell(self) -> int:
        status = self.result.status
        if status == "succeeded":
            self._succeeded()
            return DONE
        if status == "cancelled":
            number = self.result.signal
            assert number is not None
            name = getattr(number, "name", str(number))
            print_error(f"run {self.run_id} was cancelled by {name}: {self._ran()}; to go on:")
            self._advise(self.retry)
            return 128 + int(number)
        if self.failed:
            self._failed()
            return FAILED
        if status == "failed":  # every reason for it was told as a warning
            print_error(f"run {self.run_id} failed: {self._ran()}")
            return FAILED
        if status == "stopped":
            where = f"stopped where --only or --until said: {self._ran()}"
            say(f"run {self.run_id} {where}; to go on: {self.retry}")
            return DONE
        self._waiting()
        return REFUSED

    def _ran(self) -> str:
        ran = set(self.result.ran)
        skipped = handled = 0
        for step in self.result.plan.steps:
            if step.kind == "task" and step.path not in ran and step.action is Action.SKIP:
                skipped += 1
            handled += step.reason is Reason.HANDLED and step.kind == "task"
        text = f"{count(len(ran), 'step')} ran, {skipped:,} skipped"
        return text + (f", {count(handled, 'failure')} handled" if handled else "")

    def _succeeded(self) -> None:
        say(f"run {self.run_id} succeeded: {self._ran()}")
        parameters = self.result.run.record.parameters
        for name, value in self.result.plan.values.items():
            if name not in parameters or parameters[name] != value:
                say(f"  {named(name)} = {shown(value)}")

    def _failed(self) -> None:
        failed = self.failed
        print_error(f"run {self.run_id} failed: {count(len(failed), 'step')} failed, {self._ran()}")
        for step in failed[:_LISTED]:
            say(f"  {symbols()['failed']} {short(step.path)}: {_why(step)}", err=True)
        if len(failed) > _LISTED:
            more = f"{len(failed) - _LISTED:,} more"
            say(f"  and {more}: {self._command('plan', self.run_id)}", err=True)
        tried = [step for step in failed if isinstance(step.record, End) and step.kind == "task"]
        if not tried:
            self._advise(self._otherwise(failed[0]))
            return
        if len(tried[0].path) <= _PASTED:
            self._advise(self._command("logs", self.run_id, tried[0].path))
        else:  # it has the path whole, for `runstore logs`
            self._advise(self._command("show", self.run_id, options=["--format", "json"]))
        self._advise(self.retry)

    def _otherwise(self, step: Step) -> str:
        """For a step that fails by a value, as often as it is tried: how to have another value."""
        from runstore.cli.render.hints import origin_of_value

        run = self.result.run
        dag = self.hints.dag or run.dag
        found = origin_of_value(dag, self.result.plan, step, run.record.parameters)
        if found is None:
            return self.retry
        if found.parameter:
            given = ["--param", f"{found.parameter}=VALUE", *self.hints.options]
            return self._command("fork", self.run_id, *self.pipeline, options=given)
        if len(found.path) > _PASTED:
            return self._command("plan", self.run_id, options=["--format", "json"])
        return self._retry("--force", found.path)

    def _advise(self, command: str) -> None:
        with suppress(OSError):  # stderr is gone, and the exit code is not
            say(f"    {command}", err=True)

    def _waiting(self) -> None:
        elsewhere = self.result.plan.waiting
        if not elsewhere:
            print_error(
                f"run {self.run_id} is not finished: what is left could not be run here, "
                f"see the warnings ({self._ran()})"
            )
            return
        first = elsewhere[0]
        holder = f"{short(first.path)}, {_holder(first)}"
        more = f", and {count(len(elsewhere) - 1, 'step')} more" if len(elsewhere) > 1 else ""
        print_error(
            f"run {self.run_id} is not finished: in progress elsewhere is {holder}{more}; wait for "
            f"it and retry, or, if that is dead, retry with --takeover all"
        )


def _why(step: Step) -> str:
    if isinstance(step.record, End) and step.record.error:
        return error_line(step.record.error)
    return clean(step.detail or step.reason.value)


def _holder(step: Step) -> str:
    if isinstance(step.record, Start):
        return f"by {step.record.by} since {step.record.time}"
    return clean(step.detail) or "by somebody whose record is damaged"
