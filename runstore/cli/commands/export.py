"""``runstore export``."""

from __future__ import annotations

from typing import Any

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


class _Bare(click.Command):
    """``--artifacts`` alone means all of them, and never takes the next word for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        bare = ["--artifacts=all" if word == "--artifacts" else word for word in args[:end]]
        return super().parse_args(ctx, bare + args[end:])


@click.command("export", cls=_Bare)
@click.argument("run_id")
@click.option(
    "-o", "--output", "output", required=True, metavar="FILE", type=click.Path(dir_okay=False),
    help="The file to write, which ends in .json; it is replaced when all is written.",
)  # fmt: skip
@click.option(
    "--artifacts",
    type=click.Choice(["none", "needed", "all"]),
    default="none",
    metavar="[=all|needed]",
    help="Take files along too: all (and logs), or those that steps still to run may load.",
)
@store_option
def command(run_id: str, output: str, artifacts: Any, store: StoreLocation) -> int:
    """Write run RUN_ID into one self-contained JSON file.

    Every command that reads takes such a file in place of a store and a run; `runstore import` puts
    it into a store.
    """
    from runstore.cli.arguments import existing_run
    from runstore.cli.render.bar import bar
    from runstore.cli.render.text import amount, count, named
    from runstore.transfer import export_run

    if not output.endswith(".json"):
        raise click.BadParameter("the name of an exported run ends in .json", param_hint="-o")
    run = existing_run(store, run_id, cache=False)
    with bar() as progress:
        done = export_run(run, output, artifacts=artifacts, progress=progress)
    if done.left_out:
        lost = count(len(done.left_out), "blob")
        say(f"warning: left out {lost} missing or damaged: a retry makes them again", err=True)
    if artifacts != "all" and (left := _not_asked_for(done.path) - len(done.left_out)) > 0:
        say(
            f"note: left out {count(left, 'blob')} (files that steps saved, and logs): "
            f"--artifacts takes them along"
            + (", --artifacts=needed those that a step to run may load" * (artifacts == "none")),
            err=True,
        )
    say(
        f"run {named(run.run_id)}: {count(done.records, 'record')}, {count(done.blobs, 'blob')}, "
        f"{amount(done.size)} in {output}"
    )
    return DONE


def _not_asked_for(path: str) -> int:
    """How many blobs the records in an exported file name that are not in it. The file is read once
    more, one record at a time: it is on this machine, and the run may not be."""
    from runstore.records import keys
    from runstore.upkeep.verify import named_blobs

    store = StoreLocation(path).open()
    (run_id,) = store.run_ids()
    run = store.get_run(run_id)
    there = {keys.name_in(key) for key in run.storage.list(run.prefix + keys.BLOBS)}
    return len(named_blobs(run) - there)
