"""``runstore logs``."""

from __future__ import annotations

import sys

import click

from runstore.cli.exits import DONE
from runstore.cli.options import store_option
from runstore.cli.place import Place

__all__ = ["command"]


@click.command("logs")
@click.argument("run_id")
@click.argument("path")
@click.option(
    "--attempt", type=click.IntRange(0), metavar="N", help="Of this attempt; else of the latest."
)
@store_option
def command(run_id: str, path: str, attempt: int | None, store: Place) -> int:
    """Print what the step at PATH of run RUN_ID wrote to stdout and stderr.

    The log goes to stdout as it was written; of a failed attempt, the traceback to stderr.
    """
    from runstore.cli.sources import existing_run, tell_salvaged
    from runstore.paths import NodePath
    from runstore.records import End

    run = existing_run(store, run_id, salvage=True)
    tell_salvaged(run)
    NodePath.parse(path)  # says what is wrong with it
    record = run.recorded(path, attempt)
    log = run.log_of(record, path)
    assert isinstance(record, End)  # another one has no log
    if record.log is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(log)
        sys.stdout.flush()
    else:
        click.echo(f"attempt {record.attempt} at {path} wrote nothing", err=True)
    if record.error:
        error = record.error
        told = error.get("traceback") or f"{error.get('type')}: {error.get('message')}"
        click.echo(told.rstrip(), err=True)
    return DONE
