"""``runstore pull``."""

from __future__ import annotations

import click

from runstore.cli.options import single_writer_option, store_option
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("pull")
@click.argument("source", metavar="SRC")
@click.argument("run_id", metavar="RUN_ID")
@click.argument("target", metavar="[DST]", required=False)
@single_writer_option
@store_option
def command(source: str, run_id: str, target: str | None, store: StoreLocation) -> int:
    """Bring run RUN_ID of the store SRC to the store DST: what is missing there.

    DST is --store if it is not given. Nothing is overwritten: if both sides made an attempt under
    one number, and not the same, all such are named and nothing is copied. That it was
    pulled is recorded: `retry` and `fork` then ask for the PIPELINE.
    """
    from runstore.cli.commands.transfer import copy

    return copy(store.at(source), run_id, store.at(target or store.url), pulled=True)
