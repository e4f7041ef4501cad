"""A progress bar on terminals, for what copies; nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from runstore.cli.render.console import console

__all__ = ["bar"]

_SECONDS = 0.1  # between two looks at it
_WORDS = {"read": "reading", "check": "checking", "copy": "copying"}


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], object] | None]:
    """What to give as ``progress``; on stderr, and gone when the block ends."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, TimeElapsedColumn(), console=console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}
    told = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < _SECONDS and done < total:
            return
        told = now
        if what not in tasks:
            tasks[what] = progress.add_task(_WORDS.get(what, what))
        progress.update(tasks[what], completed=done, total=total)

    with progress:
        yield tell
