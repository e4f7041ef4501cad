"""``runstore logs``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from runstore.cli.exits import DONE
from runstore.cli.options import store_option
from runstore.cli.place import Place

if TYPE_CHECKING:
    from runstore.history import Attempt, History
    from runstore.store import Run

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
    from runstore.cli.sources import existing_run
    from runstore.paths import NodePath
    from runstore.records import End, Start

    run = existing_run(store, run_id)
    NodePath.parse(path)  # says what is wrong with it
    record = _chosen(run, run.history([path]), path, attempt)
    if isinstance(record, End):
        if record.log is not None:
            sys.stdout.flush()
            sys.stdout.buffer.write(run.blobs.read(record.log))
            sys.stdout.flush()
        else:
            click.echo(f"attempt {record.attempt} at {path} wrote nothing", err=True)
        if record.error:
            error = record.error
            told = error.get("traceback") or f"{error.get('type')}: {error.get('message')}"
            click.echo(told.rstrip(), err=True)
        return DONE
    from runstore.errors import RecordDamagedError, RefusedError

    if isinstance(record, Start):
        raise RefusedError(
            f"attempt {record.attempt} at {path} is in progress ({record.by}, "
            f"since {record.time}): its log is there when it has ended"
        )
    raise RecordDamagedError(record.problem, key=record.key)


def _chosen(run: Run, history: History, path: str, number: int | None) -> Attempt:
    from runstore.cli.text import command_line
    from runstore.errors import RefusedError

    known: dict[int, Attempt] = {each.attempt: each for each in history.attempts.get(path, ())}
    if path in history.adopted:
        known[0] = history.adopted[path]  # taken over from the origin of a fork
    damaged = history.nameless(path)
    if damaged is not None:
        known.setdefault(damaged.attempt, damaged)
    if number is None and known:
        return known[max(known)]
    if number in known:
        return known[number]
    which = "attempt" if number is None else f"attempt {number}"
    there = f"; it has {', '.join(map(str, sorted(known)))}" if known else ""
    raise RefusedError(
        f"run {run.run_id!r} has no {which} at {path!r}{there}: "
        f"`{command_line('runstore', 'show', run.run_id)}` lists the attempts"
    )
