"""``runstore verify``."""

from __future__ import annotations

import click

from runstore.cli.exits import DAMAGED, DONE, complain
from runstore.cli.options import store_option

__all__ = ["command"]


@click.command("verify")
@click.argument("run_id")
@store_option
def command(run_id: str, store: str) -> int:
    """Read every record and blob of run RUN_ID, and check them against their digests.

    Names each file that is damaged or missing on stdout, and exits with 3 if there is one.
    """
    from runstore.cli.sources import existing_run
    from runstore.cli.text import clean, count

    run = existing_run(store, run_id)
    checked = bad = 0
    for key, problem in run.verify():
        checked += 1
        if problem is not None:
            bad += 1
            told = problem if key in problem else f"{key}: {problem}"
            click.echo(clean(told, 1_000))
    if bad:
        complain(
            f"{count(bad, 'object')} of {checked:,} in run {run_id} damaged or missing: restore "
            f"what is named from a copy, or let `runstore retry` make it again"
        )
        return DAMAGED
    click.echo(f"run {run_id}: {count(checked, 'object')} checked, all as written")
    return DONE
