"""``runstore diff``."""

from __future__ import annotations

import click

from runstore.cli.exits import DONE, FAILED
from runstore.cli.options import store_option
from runstore.cli.place import Place

__all__ = ["command"]


@click.command("diff")
@click.argument("run_id")
@click.argument("pipeline")
@store_option
def command(run_id: str, pipeline: str, store: Place) -> int:
    """Compare the structure of run RUN_ID with that of PIPELINE: names and shape, no code.

    Prints a line for each difference. Exits with 0 if there is none, with 1 if there are some.
    """
    from runstore.cli.sources import existing_run, read_pipeline
    from runstore.cli.text import clean
    from runstore.structure import diff

    run = existing_run(store, run_id)
    changes = diff(run.dag, read_pipeline(pipeline).dag)
    for change in changes:
        click.echo(clean(str(change), 1_000))
    if not changes:
        click.echo(
            "the structure is the same; code, commands and configuration are not compared", err=True
        )
    return FAILED if changes else DONE
