"""``runstore verify``."""

from __future__ import annotations

import click

from runstore.cli.exits import DAMAGED, DONE, complain
from runstore.cli.options import store_option
from runstore.cli.place import Place, is_exported

__all__ = ["command"]


@click.command("verify")
@click.argument("run_id")
@store_option
def command(run_id: str, store: Place) -> int:
    """Read every record and blob of run RUN_ID, and check them against their digests.

    Names each file that is damaged or missing on stdout, and exits with 3 if there is one.
    """
    from runstore.cli.sources import existing_run
    from runstore.cli.text import clean, count

    run = existing_run(store, run_id, cache=False)
    # What an export left out is no damage.
    exported = is_exported(run.storage.url)
    there = set(run.storage.list("")) if exported else set()
    checked = bad = left_out = 0
    for key, problem in run.verify():
        if exported and key not in there:
            left_out += 1
            continue
        checked += 1
        if problem is not None:
            bad += 1
            told = problem if key in problem else f"{key}: {problem}"
            click.echo(clean(told, 1_000))
    if bad:
        complain(
            f"{count(bad, 'object')} of {checked:,} in run {run.run_id} damaged or missing: "
            f"restore what is named from a copy, or let `runstore retry` make it again"
        )
        return DAMAGED
    absent = f"; {count(left_out, 'blob')} are not in this file" if left_out else ""
    click.echo(f"run {run.run_id}: {count(checked, 'object')} checked, all as written{absent}")
    return DONE
