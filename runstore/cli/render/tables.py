"""Tables: by rich on a terminal; in columns, one line a row, for everything else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runstore.cli.render.console import console, say
from runstore.cli.render.text import named

__all__ = ["Cell", "print_table"]

Cell = str | tuple[str, str]
"""A text, or a text and its style in rich's words (``red``, ``bold``)."""

_FOR_RICH = 2_000
"""Rows beyond which laying them out nicely would take seconds."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print to stdout. Columns that are empty in every row are left out."""
    used = [at for at in range(len(columns)) if any(_text(row[at]) for row in rows)]
    columns = [columns[at] for at in used]
    rows = [[row[at] for at in used] for row in rows]
    if sys.stdout.isatty() and len(rows) <= _FOR_RICH:
        _rich(columns, rows)
    else:
        _plain(columns, rows)


def _text(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else cell[0]
    return named(text, 2_000)


def _plain(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    lines = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    out = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    say(*out)


def _rich(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for at, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=0 < at < len(columns) - 1)
    for row in rows:
        styles = ("" if isinstance(cell, str) else cell[1] for cell in row)
        table.add_row(*(Text(_text(cell), style) for cell, style in zip(row, styles, strict=True)))
    console().print(table)
