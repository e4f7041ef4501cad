"""``runstore gc``."""

from __future__ import annotations

from datetime import timedelta

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import Age, store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("gc")
@click.option(
    "--older-than",
    type=Age(),
    default="1d",
    show_default=True,
    help="Leave alone what was written within this age (30m, 2h, 1d; 0: nothing).",
)
@click.option("--yes", "-y", is_flag=True, help="Remove it; else it is only listed.")
@store_option
def command(older_than: timedelta, yes: bool, store: StoreLocation) -> int:
    """List what nobody will use any more, and with --yes remove it.

    Unfinished writes, what interrupted imports, forks and removals left, blobs that no record
    names. A run that is being worked on is left alone.
    """
    from runstore.cli.arguments import existing_store
    from runstore.cli.render.text import clean, count
    from runstore.upkeep import Sweep

    sweep = Sweep(existing_store(store, cache=False).storage, older_than)
    found = 0
    for each in sweep.run(dry_run=not yes):
        found += 1
        say(f"{clean(each.name, 1_000)}  {each.what}")
    for run, why in sweep.spared.items():
        say(f"note: blobs of {run} are left alone: {clean(why, 500)}", err=True)
    if not yes and not found:
        say("nothing to remove")
    elif yes:
        say(f"{count(found, 'object')} removed")
    else:
        say(f"{count(found, 'object')} to remove: --yes does it")
    return DONE
