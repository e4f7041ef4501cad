"""What an invocation came to: the summary, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from runstore.cli.exits import DONE, FAILED, REFUSED, complain
from runstore.cli.place import Place
from runstore.cli.progress import Display, Lines, reporter
from runstore.cli.text import clean, command_line, count, error_line, shown, symbols
from runstore.plan import Action, Reason, Step
from runstore.plan.steps import BY_VALUE
from runstore.records import End, Start

if TYPE_CHECKING:
    from runstore.executor import Result

__all__ = ["work"]

_LISTED = 10


def work(call: Callable[[Lines | Display], Result], pipeline: str | None, store: Place) -> int:
    """Let ``call`` run, show how it goes, and say what came of it. The exit code."""
    progress = reporter()
    try:
        result = call(progress)
    finally:
        progress.close()
    return _Summary(result, pipeline, store).tell()


class _Summary:
    def __init__(self, result: Result, pipeline: str | None, store: Place) -> None:
        self.result = result
        self.run_id = result.run_id
        self.store = store.words()
        self.retry = self._command("retry", self.run_id, *([pipeline] if pipeline else []))
        self.failed = [
            step
            for step in result.plan.steps
            if step.action is Action.FAILED and (step.kind == "task" or step.reason in BY_VALUE)
        ]

    def _command(self, verb: str, *words: str) -> str:
        dashes = ["--"] if any(word.startswith("-") for word in words) else []
        return command_line("runstore", verb, *self.store, *dashes, *words)

    def tell(self) -> int:
        status = self.result.status
        if status == "succeeded":
            self._succeeded()
            return DONE
        if status == "cancelled":
            number = self.result.signal
            assert number is not None
            name = getattr(number, "name", str(number))
            complain(f"run {self.run_id} was cancelled by {name}: {self._ran()}; to go on:")
            self._advise(self.retry)
            return 128 + int(number)
        if self.failed:
            self._failed()
            return FAILED
        if status == "failed":  # every reason for it was told as a warning
            complain(f"run {self.run_id} failed: {self._ran()}")
            return FAILED
        if status == "stopped":
            click.echo(
                f"run {self.run_id} stopped where --only or --until said: {self._ran()}; "
                f"to go on: {self.retry}"
            )
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
        click.echo(f"run {self.run_id} succeeded: {self._ran()}")
        parameters = self.result.run.record.parameters
        for name, value in self.result.plan.values.items():
            if name not in parameters or parameters[name] is not value:
                click.echo(f"  {clean(name)} = {shown(value)}")

    def _failed(self) -> None:
        failed = self.failed
        what = f"{count(len(failed), 'step')} failed"
        complain(f"run {self.run_id} failed: {what}, {self._ran()}")
        for step in failed[:_LISTED]:
            click.echo(f"  {symbols()['failed']} {step.path}: {_why(step)}", err=True)
        if len(failed) > _LISTED:
            more = f"{len(failed) - _LISTED:,} more"
            click.echo(f"  and {more}: {self._command('plan', self.run_id)}", err=True)
        tried = [step for step in failed if isinstance(step.record, End) and step.kind == "task"]
        if tried:
            self._advise(self._command("logs", self.run_id, tried[0].path))
        self._advise(self.retry)

    def _advise(self, command: str) -> None:
        click.echo(f"    {command}", err=True)

    def _waiting(self) -> None:
        elsewhere = self.result.plan.waiting
        if not elsewhere:
            complain(
                f"run {self.run_id} is not finished: what is left could not be run here, "
                f"see the warnings ({self._ran()})"
            )
            return
        first = elsewhere[0]
        holder = f"{first.path}, {_holder(first)}"
        more = f", and {count(len(elsewhere) - 1, 'step')} more" if len(elsewhere) > 1 else ""
        complain(
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
