"""``runstore push``."""

from __future__ import annotations

import click

from runstore.cli.options import single_writer_option, store_option
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("push")
@click.argument("words", metavar="[SRC] RUN_ID DST", nargs=-1, required=True)
@single_writer_option
@store_option
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], store: StoreLocation) -> int:
    """Bring run RUN_ID of the store SRC to the store DST: what is missing there.

    SRC is --store if it is not given. Nothing is overwritten: if both sides made an attempt under
    one number, and not the same, all such are named and nothing is copied.
    """
    from runstore.cli.commands.transfer import copy

    if not 2 <= len(words) <= 3:
        raise click.UsageError("give RUN_ID and DST, or SRC, RUN_ID and DST", ctx)
    source, run_id, target = (store.url, *words) if len(words) == 2 else words
    return copy(store.at(source), run_id, store.at(target))
