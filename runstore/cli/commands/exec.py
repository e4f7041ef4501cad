"""``runstore exec``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from runstore.cli.exit_codes import ASK_AGAIN, DONE, FAILED, REFUSED, print_error
from runstore.cli.options import (
    Age,
    Given,
    at_one_step,
    label_option,
    recorded_code_option,
    takeover_option,
)
from runstore.cli.render.console import say, stream_out

if TYPE_CHECKING:
    from runstore.executor.node import NodeResult
    from runstore.executor.reporter import Reporter
    from runstore.store.process import Liveness

__all__ = ["command"]


@click.command("exec")
@click.argument("run_id")
@click.argument("path")
@click.argument("words", metavar="[-- COMMAND ...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--pipeline",
    metavar="FILE",
    help="The pipeline whose function or command is run: file.py, file.py:name, file.yaml or "
    "file.json.",
)
@click.option(
    "--item-index",
    "indices",
    type=click.IntRange(0),
    multiple=True,
    metavar="N",
    help="Of a map that PATH passes without naming an item: the item at this position of its "
    "list, from 0. Repeatable, the outermost map first.",
)
@click.option(
    "--start",
    "create",
    is_flag=True,
    help="Create the run if it is not there; of many that try, one does, and all others join it.",
)
@click.option(
    "--invocation",
    metavar="NAME",
    envvar="RUNSTORE_INVOCATION",
    help="Record attempts under this name, of a-z, 0-9 and -, which all steps of one submission "
    "share: a workflow's uid, a job's number. Else $RUNSTORE_INVOCATION.",
)
@click.option(
    "--wait",
    type=Age(),
    default="0",
    metavar="AGE",
    help="How long to wait for what others are at, and for what comes before (30s, 10m).",
)
@click.option(
    "--grace",
    type=Age(),
    default="5s",
    show_default=True,
    metavar="AGE",
    help="After a signal: when to kill a command that does not end.",
)
@click.option(
    "--outputs-dir",
    type=click.Path(),
    metavar="DIR",
    help="Write each recorded output of the task into a file of its name: text as it is, anything "
    "else as JSON.",
)
@click.option(
    "--fail-with",
    type=click.IntRange(1, 255),
    metavar="CODE",
    help="The exit code if what was run failed, whatever its own was: for a scheduler that takes "
    "75, 137 or 143 for a reason to run the step again.",
)
@label_option
@takeover_option
@recorded_code_option
@at_one_step
def command(given: Given, /, *, words: tuple[str, ...], **options: Any) -> int:
    """Do what is left of one step of run RUN_ID: nothing, if it is done.

    PATH names a task, or a map, a branch, an item with all that is in it; it may be
    percent-encoded. COMMAND is run in this folder, in place of what the pipeline has; it finds the
    parameters as a command of a pipeline does. Its output comes to stdout, and is kept.

    \b
    Exit codes:
        0  done: now, or before; or there is nothing to do (branch not taken)
       75  others are at work on it, or on what comes before: ask again
        2  refused: what comes before has failed, wrong usage
        3  the store is damaged or out of reach
      143  ended by SIGTERM (130: Ctrl-C); never 0 then
     else  the exit code of what was run; 1 of a function that failed
    """
    from runstore.cli.arguments import existing_run, read_pipeline, recorded_pipeline
    from runstore.executor.node import UNGROUPED, Request, run_node

    words = words[1:] if words[:1] == ("--",) else words
    store = given.store.open_to_write(cache=False)
    if options["pipeline"]:
        pipeline = read_pipeline(options["pipeline"])
    elif words or options["create"]:
        pipeline = None
    else:
        run = existing_run(given.store, options["run_id"], write=True, cache=False)
        pipeline = recorded_pipeline(run, allowed=options["recorded_code"])
    secret = [*(pipeline.secrets if pipeline else ()), *(name for name, _ in given.secrets)]
    request = Request(
        options["run_id"], options["path"], options["indices"], pipeline, words,
        create=options["create"], parameters=given.parameters(secret),
        labels=dict(options["labels"]), secrets=given.secret_values,
        invocation=options["invocation"] or UNGROUPED, takeover=options["takeover"],
        wait=options["wait"], grace=options["grace"].total_seconds(),
        workers=options["workers"] or 1, recorded_code=options["recorded_code"],
        liveness=_liveness(), outputs=options["outputs_dir"] is not None, arguments=given.command,
    )  # fmt: skip
    if options["outputs_dir"]:
        _make_folder(options["outputs_dir"])
    result = run_node(request, store, write=stream_out(), reporter=_warnings())
    if options["outputs_dir"] and result.status == "succeeded":
        _write_outputs(result, options["outputs_dir"])
    code = _told(result)
    return options["fail_with"] or code if result.status == "failed" else code


def _liveness() -> Liveness | None:
    """Who can tell whether other pods live, in a pod of a workflow."""
    if "RUNSTORE_ARGO_NODE" not in os.environ:
        return None
    from runstore.integrations.argo.pods_before import of_environment

    return of_environment(os.environ)


def _warnings() -> Reporter:
    """Says what the user should know, at once."""
    from runstore.executor.reporter import Silent

    class Warnings(Silent):
        def warned(self, message: str) -> None:
            say(f"warning: {message}", err=True)

    return Warnings()


def _told(result: NodeResult) -> int:
    """Say what came of it, in a line on stderr; the exit code."""
    from runstore.cli.render.text import clean, error_line, short, symbols
    from runstore.records import End, Start

    step, path = result.step, short(result.path)
    record, where = step.record, "" if step.path == result.path else f"{short(step.path)}: "
    if result.status == "succeeded":
        attempt = f" (attempt {record.attempt})" if isinstance(record, End) else ""
        how = "" if result.ran else ": done before, nothing to do"
        say(f"{symbols()['ok']} {path}{attempt}{how}", err=True)
        return DONE
    if result.status == "omitted":
        say(f"{symbols()['other']} {path}: {step.reason}, nothing to do", err=True)
        return DONE
    why = f"{step.reason}: {clean(step.detail, 300)}" if step.detail else str(step.reason)
    if result.status == "failed":
        if isinstance(record, End) and record.error:
            why = error_line(record.error)
        print_error(f"{path} failed: {where}{why}")
        return result.exit_status or FAILED
    if result.status == "cancelled":
        assert result.signal is not None
        name = getattr(result.signal, "name", str(result.signal))
        print_error(f"{path} was cancelled by {name}")
        return 128 + int(result.signal)
    if result.status == "waiting":
        who = f"{record.by}, since {record.time}" if isinstance(record, Start) else ""
        option = "; if that is dead, --takeover all runs it again" if who else ""
        print_error(f"{path} cannot run yet: {where}{why}{option}; ask again, or --wait for it")
        return ASK_AGAIN
    print_error(f"{path} cannot run: {where}{why}")
    return REFUSED


def _make_folder(folder: str) -> None:
    """Before anything runs: what is made is to be had."""
    from runstore.errors import InputError

    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder!r} cannot be made: {error.strerror}",
            advice="name another one with --outputs-dir",
        ) from error


def _write_outputs(result: NodeResult, folder: str) -> None:
    from runstore.executor.environment import spelt
    from runstore.paths import escape

    for name, value in result.outputs().items():
        # No name of an output is the name of a folder, or hides: "." and ".." are none of a file.
        file = escape(name).replace(".", "%2E") if name in (".", "..") else escape(name)
        with open(os.path.join(folder, file), "w", encoding="utf-8", newline="") as target:
            target.write(spelt(value))
