"""Records that are there and cannot be read: said, never passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runstore.cli.exits import DAMAGED, DONE, complain
from runstore.cli.text import clean, command_line, count

if TYPE_CHECKING:
    from runstore.history import History

__all__ = ["tell_damage"]

_LISTED = 20


def tell_damage(history: History) -> int:
    """Name what is damaged, on stderr. The exit code that goes with it."""
    damaged = history.damaged
    if not damaged:
        return DONE
    were = "record is" if len(damaged) == 1 else "records are"
    complain(
        f"{len(damaged):,} {were} damaged, and counted as not succeeded "
        f"({command_line('runstore', 'verify', history.run.run_id)} checks all of the run)"
    )
    for each in damaged[:_LISTED]:
        click.echo(f"  {clean(each.problem, 400)}", err=True)
    if len(damaged) > _LISTED:
        click.echo(f"  and {count(len(damaged) - _LISTED, 'more', 'more')}", err=True)
    return DAMAGED
