"""``runstore pack``."""

from __future__ import annotations

import click

from runstore.cli.exit_codes import DAMAGED, DONE, print_error
from runstore.cli.options import store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("pack")
@click.argument("run_id")
@store_option
def command(run_id: str, store: StoreLocation) -> int:
    """Put the records of run RUN_ID that are in no pack into one object, for quick reading.

    Nothing is rewritten. Whoever works on the run meanwhile is not disturbed.
    """
    from runstore.cli.arguments import existing_run
    from runstore.cli.render.text import count, named, verb_line
    from runstore.upkeep import pack_run

    run = existing_run(store, run_id, write=True, cache=False)
    done = pack_run(run)
    say(
        f"run {named(run.run_id)}: {count(done.records, 'record')} packed, {done.before:,} were "
        f"before"
    )
    verify = verb_line("verify", run.run_id, options=store.words())
    for problem in done.problems:
        print_error(f"{problem}: {verify} says what to do about it")
    return DAMAGED if done.problems else DONE
