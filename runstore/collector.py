"""The garbage collector, held off while many records are read or planned."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_collection"]

_collector_is_off = False
"""By :func:`no_collection`."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the garbage collector while many records are read or planned. None of them is garbage,
    and it would walk them again and again: a third of the time of a large history."""
    global _collector_is_off  # noqa: PLW0603 - there is one collector in a process
    if not gc.isenabled():
        yield
        return
    _collector_is_off = True
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _collector_is_off = False


def _collect_in_child() -> None:
    """A process forked while another thread plans would never collect anything."""
    global _collector_is_off  # noqa: PLW0603
    if _collector_is_off:
        _collector_is_off = False
        gc.enable()


os.register_at_fork(after_in_child=_collect_in_child)
