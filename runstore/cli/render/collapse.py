"""Maps of many items, in few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from runstore.paths import segments

__all__ = ["FOLDED_BEYOND", "Fold", "depth", "fold"]

FOLDED_BEYOND = 20
"""This many equal items of a map are listed one by one."""

T = TypeVar("T")


class Fold(NamedTuple):
    """Equal items of a map, in place of the lines of each."""

    path: str
    """Of the map."""
    items: int
    state: Hashable


def depth(path: str) -> int:
    """How deep a path is nested, from 0."""
    return len(segments(path)) - 1 if "/" in path else 0


def fold(steps: Iterable[tuple[str, Hashable | None, T]]) -> Iterator[T | Fold]:
    """Leave out the items of which there are many and all is in one and the same state.

    :param steps: path, state (``None``: never left out), and what to give for it. A fold stands
        where the first of its items did. Linear.
    """
    steps = list(steps)
    states: dict[tuple[str, str], Hashable | None] = {}
    items: list[list[tuple[str, str]]] = []
    for path, state, _ in steps:
        inside = list(_items(path)) if "[" in path else []
        items.append(inside)
        for item in inside:
            if states.setdefault(item, state) != state:
                states[item] = None
    sizes = Counter((name, state) for (name, _), state in states.items() if state is not None)
    told: set[tuple[str, Hashable]] = set()
    for (_, _, given), inside in zip(steps, items, strict=True):
        for item in inside:
            state = states[item]
            if state is not None and sizes[item[0], state] > FOLDED_BEYOND:
                if (item[0], state) not in told:
                    told.add((item[0], state))
                    yield Fold(item[0], sizes[item[0], state], state)
                break
        else:
            yield given


def _items(path: str) -> Iterator[tuple[str, str]]:
    """``(path of the map, path of the item)`` for each map around a path, outermost first."""
    at = ""
    for segment in segments(path):
        cut = segment.find("[")
        whole = f"{at}{segment}"
        if cut >= 0:
            yield at + segment[:cut], whole
        at = f"{whole}/"
