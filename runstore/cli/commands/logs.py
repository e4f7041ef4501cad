"""``runstore logs``."""

from __future__ import annotations

import io

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import store_option
from runstore.cli.render.console import hand_out, say, say_text
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("logs")
@click.argument("run_id")
@click.argument("path", required=False, metavar="PATH")
@click.option(
    "--attempt", type=click.IntRange(0), metavar="N", help="Of this attempt; else of the latest."
)
@store_option
def command(run_id: str, path: str | None, attempt: int | None, store: StoreLocation) -> int:
    """Print what the step at PATH of run RUN_ID wrote to stdout and stderr.

    The log goes to stdout as it was written, but that a terminal is shown control characters and
    does not obey them; of a failed attempt, the traceback goes to stderr.
    """
    from runstore.cli.arguments import existing_run, tell_salvaged
    from runstore.cli.render.text import verb_line
    from runstore.errors import BlobDamagedError, BlobMissingError
    from runstore.paths import NodePath
    from runstore.records import End

    if path is None:
        show = verb_line("show", run_id, options=store.words())
        raise click.UsageError(f"say of which step, by its PATH: `{show}` lists them")
    run = existing_run(store, run_id, salvage=True)
    tell_salvaged(run)
    NodePath.parse(path)  # says what is wrong with it
    record = run.recorded(path, attempt)
    told = f"attempt {record.attempt} at {path}"
    damage: BlobDamagedError | None = None
    try:
        log = run.log_of(record, path)
    except BlobMissingError:
        say(f"{told}: its log is not here (left out by an export, perhaps)", err=True)
    except BlobDamagedError as found:
        damage = found  # the traceback is told all the same
    else:
        hand_out(io.BytesIO(log))
    assert isinstance(record, End)  # another one has no log
    if record.log is None and record.outcome == "lost":
        say(f"{told}: its log was lost with its process", err=True)
    elif record.log is None:
        say(f"{told} wrote nothing", err=True)
    if record.error:
        error = record.error
        text = error.get("traceback") or f"{error.get('type')}: {error.get('message')}"
        say_text(text.rstrip(), err=True)
    if damage is not None:
        raise damage
    return DONE
