"""``runstore rm``."""

from __future__ import annotations

import sys

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import store_option
from runstore.cli.render.console import confirm, say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("rm")
@click.argument("run_id")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even if attempts of it are in progress.")
@store_option
def command(run_id: str, yes: bool, force: bool, store: StoreLocation) -> int:
    """Remove run RUN_ID for good: its records, artifacts and logs.

    It asks before it does. A run of which attempts are in progress stays, unless --force.
    """
    from runstore.cli.arguments import existing_store
    from runstore.cli.render.text import count, named
    from runstore.errors import RefusedError
    from runstore.upkeep import remove_run

    opened = existing_store(store, cache=False)
    if opened.exists(run_id) and not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise RefusedError(
                f"run {run_id!r} is not removed, since nobody is there to be asked",
                advice="give --yes",
            )
        question = f"remove run {named(run_id)} from {opened.url} for good?"
        if not confirm(question):
            say("nothing was removed", err=True)
            return DONE
    removed = remove_run(opened.storage, run_id, force=force)
    say(f"run {named(run_id)} is removed: {count(removed, 'object')}")
    return DONE
