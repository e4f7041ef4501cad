"""``runstore diff``."""

from __future__ import annotations

import click

from runstore.cli.exit_codes import DONE, FAILED
from runstore.cli.options import format_option, store_option
from runstore.cli.render.console import say, say_json
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("diff")
@click.argument("run_id")
@click.argument("pipeline")
@format_option
@store_option
def command(run_id: str, pipeline: str, style: str, store: StoreLocation) -> int:
    """Compare the structure of run RUN_ID with that of PIPELINE: names and shape, no code.

    Prints a line for each difference. Exits with 0 if there is none, with 1 if there are some.
    """
    from runstore.cli.arguments import existing_run, read_pipeline
    from runstore.cli.render.text import clean
    from runstore.dag.structure import diff

    run = existing_run(store, run_id)
    changes = diff(run.dag, read_pipeline(pipeline).dag)
    if style == "json":
        say_json({"run_id": run.run_id, "changes": [change._asdict() for change in changes]})
        return FAILED if changes else DONE
    for change in changes:
        say(clean(str(change), 1_000))
    if not changes:
        same = "the structure is the same; code, commands and configuration are not compared"
        say(same, err=True)
    return FAILED if changes else DONE
