"""``runstore import``."""

from __future__ import annotations

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import single_writer_option, store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@single_writer_option
@store_option
def command(file: str, store: StoreLocation) -> int:
    """Put the run of an exported FILE into the store, or bring the run there up to it.

    All of the file is checked first: if anything in it is wrong, nothing is written. That it was
    imported is recorded: `retry` and `fork` then ask for the PIPELINE.
    """
    from runstore.cli.render.bar import bar
    from runstore.cli.render.text import command_line, named
    from runstore.transfer import import_run

    opened = store.open_to_write(cache=False)
    with bar() as progress:
        run = import_run(opened, file, progress=progress)
    say(
        f"run {named(run.run_id)} is in {opened.url}; what is left of it: "
        f"{command_line('runstore', 'plan', *store.words(), run.run_id)}"
    )
    return DONE
