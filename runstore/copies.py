"""Copies of values: whoever hands one on keeps no hold of what is recorded, nor of what others get.

Between steps a value is its bytes. Reading them again for each reader would give each its own; a
copy gives the same, sooner.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

__all__ = ["copied", "snapshot"]

_SCALARS = frozenset({str, int, float, bool, type(None)})
_OPTIONS = (
    orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS
)


def snapshot(value: object) -> object:
    """A copy of the lists and dicts in a value, to be checked and written while its owner may go on
    changing it.

    Calls nothing of the value's own: what is no plain list or dict stays as it is, for
    :func:`runstore.canonical.dumps` to refuse. What stands in it twice does so in the copy.
    """
    return _copy(value, {})


def copied(value: object) -> Any:
    """A value that ``dumps`` took, once more, as ``loads`` would give it: nothing in it is shared
    with anybody, nor with another part of it.

    Three microseconds for what is small, 30 to 200 ns for an element of something long.
    """
    whole: Any = value
    if type(value) is list:
        items: Iterable[Any] = value
    elif type(value) is dict:
        items = value.values()
    else:
        return value
    if _SCALARS.issuperset(map(type, items)):
        return whole.copy()
    try:
        # Exact for all that orjson writes: what it would not read back, it refuses.
        return orjson.loads(orjson.dumps(value, option=_OPTIONS))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError, RecursionError):
        return _copy(value, None)


def _copy(value: Any, known: dict[int, tuple[Any, Any]] | None) -> Any:
    """A copy of the lists and dicts of a value, each at one go, as it was at one moment.

    :param known: by its id, each that was copied and its copy, for a value that may hold itself;
        else what stands in it twice is copied twice. The originals are kept: an id is theirs as
        long as they live.
    """
    if type(value) is not list and type(value) is not dict:
        return value
    top: Any = value.copy()
    if known is not None:
        known[id(value)] = (value, top)
    stack = [top]
    while stack:
        made = stack.pop()
        pairs: Iterable[tuple[Any, Any]] = enumerate(made) if type(made) is list else made.items()
        for at, item in pairs:
            if type(item) is not list and type(item) is not dict:
                continue
            if known is not None and id(item) in known:
                made[at] = known[id(item)][1]
                continue
            made[at] = item.copy()
            if known is not None:
                known[id(item)] = (item, made[at])
            stack.append(made[at])
    return top
