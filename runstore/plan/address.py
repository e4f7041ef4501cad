"""Naming a node path from outside: what a scheduler can pass on a command line, made exact.

An address is a path, or its percent-encoded text (:func:`runstore.paths.percent_encode`). An item
of a map may stand in it as ``[~<64 hex digits>]``, the SHA-256 of its canonical JSON, or be left
out where its position in the recorded list is given instead. Several items may end it:
``scan[@0-99,105]``, by their positions. Which items those are is read from the list, and never
guessed: a path itself names items by their content alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runstore.canonical import dumps
from runstore.dag import Dag
from runstore.errors import InputError, PathError
from runstore.paths import (
    NodePath,
    Segment,
    escape,
    percent_decode,
    percent_encode,
    segments,
    template,
)

__all__ = ["LONGEST_ITEM", "Address", "item_paths", "to_address", "to_ranges"]

LONGEST_ITEM = 100
"""Bytes of an item's encoded text beyond which :func:`to_address` names it by its digest."""

_MOST_ITEMS = 100_000_000
_SEVERAL = re.compile(r"(.+)\[@([0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)\]", re.DOTALL)
_DIGEST = re.compile(r"(.+)\[~([0-9a-f]{64})(?:#([1-9][0-9]*))?\]", re.DOTALL)


def to_address(path: str) -> str:
    """A path as it is passed through schedulers and shells: letters, digits and
    ``- . _ ~ % / @ : [ ] #``, and no long items. :class:`Address` gives the path back."""
    out: list[str] = []
    for segment in NodePath.parse(path).segments:
        text = percent_encode(str(segment))
        if segment.item is not None and len(text) > LONGEST_ITEM:
            digest = hashlib.sha256(segment.item.encode()).hexdigest()
            again = f"#{segment.k}" if segment.k > 1 else ""
            text = f"{percent_encode(escape(segment.name))}[~{digest}{again}]"
        out.append(text)
    return "/".join(out)


def to_ranges(positions: Iterable[int]) -> str:
    """Ascending positions, as an address has them: ``0-99,105``."""
    ranges: list[list[int]] = []
    for position in positions:
        if ranges and ranges[-1][1] == position - 1:
            ranges[-1][1] = position
        else:
            ranges.append([position, position])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def item_paths(path: str, items: Iterable[Any]) -> list[str]:
    """The paths of the items of the map at a path, in the order of its list."""
    seen: Counter[bytes] = Counter()
    out = []
    for item in items:
        text = dumps(item)
        seen[text] += 1
        again = f"#{seen[text]}" if seen[text] > 1 else ""
        out.append(f"{path}[{text.decode()}{again}]")
    return out


class Address:
    """What names a node path, or some items of a map, and fits a DAG."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._segments: list[Segment] = []
        self._digests: dict[int, tuple[str, int]] = {}
        """Segment -> digest of its item, and the how manieth of equal ones."""
        self._open: list[int] = []
        """Segments of maps that name no item."""
        self._positions: dict[int, int] = {}
        """Segment -> position of its item."""
        self._ranges: list[tuple[int, int]] = []
        """Of several items: their positions, from and to."""

    @classmethod
    def parse(cls, text: str, dag: Dag, indices: Sequence[int] = ()) -> Address:
        """
        :param indices: positions from 0, for the maps of the address that name no item, outermost
            first.
        :raises InputError: for what names nothing in this pipeline, or two things.
        """
        ways = (_fitting(each, dag) for each in (text, percent_decode(text)) if each is not None)
        found = {each.text: each for each in ways if each is not None}
        if not found:
            raise _unknown(text, dag)
        if len(found) > 1:
            raise InputError(
                f"{text!r:.200} is two paths of this pipeline, as it stands and percent-encoded",
                advice=f"write the first as {percent_encode(text)!r}",
                path=text,
            )
        (address,) = found.values()
        address._place(indices)
        return address

    @property
    def template(self) -> str:
        """The template path: the address without items and iterations."""
        return template(str(NodePath(tuple(self._segments))))

    def resolve(self, items_of: Callable[[str], Sequence[Any]]) -> list[str]:
        """The node paths: one, unless several items are named.

        :param items_of: the recorded list of the map at a path; called only for maps whose item is
            named by its digest or its position. What it raises goes through.
        :raises InputError: for an item that is not in its list.
        """
        done: list[Segment] = []
        for at, segment in enumerate(self._segments):
            found = segment
            if at in self._digests or at in self._positions:
                path = str(NodePath((*done, Segment(segment.name))))
                items = items_of(path)
                if at in self._digests:
                    found = _by_digest(segment.name, path, items, *self._digests[at])
                else:
                    found = _by_position(segment.name, path, items, self._positions[at])
            done.append(found)
        path = str(NodePath(tuple(done)))
        if not self._ranges:
            return [path]
        items = items_of(path)
        wanted = dict.fromkeys(at for a, b in self._ranges for at in range(a, b + 1))
        last = max(wanted)
        if last >= len(items):
            raise _no_such_position(path, items, last)
        paths = item_paths(path, items[: last + 1])
        return [paths[at] for at in wanted]

    def _place(self, indices: Sequence[int]) -> None:
        passed = [at for at in self._open if at != len(self._segments) - 1]
        if len(indices) not in (len(passed), len(self._open)):
            maps = "1 map" if len(passed) == 1 else f"{len(passed)} maps"
            raise InputError(
                f"{self.text!r:.200} passes {maps} without naming an item, and {len(indices)} "
                "positions are given",
                advice='name the item, as in scan["eu"]/score, or give --item-index for each map',
                path=self.text,
            )
        self._positions = dict(zip(self._open, indices, strict=False))


def _fitting(text: str, dag: Dag) -> Address | None:
    """``None`` for what names no node, branch or body of the DAG."""
    address = Address(text)
    graph: Dag | None = dag
    try:
        for at, piece in enumerate(segments(text)):
            if graph is None:
                return None
            if several := _SEVERAL.fullmatch(piece):
                address._ranges = _ranges(several[2])
                piece = several[1]  # noqa: PLW2901
            elif address._ranges:
                return None  # they end an address
            if named := _DIGEST.fullmatch(piece):
                address._digests[at] = (named[2], int(named[3] or 1))
                piece = f"{named[1]}[null]"  # noqa: PLW2901 - parsed as any other item
            (segment,) = NodePath.parse(piece).segments
            node = next((each for each in graph.nodes if each.name == segment.name), None)
            if node is None:
                return None
            address._segments.append(segment)
            if node.kind != "map" and segment.item is not None:
                return None
            if node.kind != "loop" and segment.iteration is not None:
                return None
            if segment.branch is not None and segment.branch not in node.bodies:
                return None
            if node.kind != "map" and address._ranges:
                return None
            if node.kind == "map" and segment.item is None and not address._ranges:
                address._open.append(at)
            within = node.kind != "loop" or segment.iteration is not None
            graph = node.bodies.get(segment.branch or "") if within else None
    except PathError:
        return None
    return address


def _by_position(name: str, path: str, items: Sequence[Any], position: int) -> Segment:
    if not 0 <= position < len(items):
        raise _no_such_position(path, items, position)
    text = dumps(items[position])
    k = 1 + sum(dumps(item) == text for item in items[:position])
    return Segment.for_item(name, items[position], k)


def _no_such_position(path: str, items: Sequence[Any], position: int) -> InputError:
    last = f", the last of which is {len(items) - 1}" if items else ""
    return InputError(
        f"{path} has no item at position {position}: it has {len(items):,} items{last}",
        advice="count from 0",
        path=path,
    )


def _ranges(text: str) -> list[tuple[int, int]]:
    """:raises PathError: for a range that ends before it begins, or that no list can have."""
    found = []
    for each in text.split(","):
        first, _, last = each.partition("-")
        begin, end = int(first), int(last or first)
        if end < begin or end > _MOST_ITEMS:
            raise PathError(f"{each!r:.60} is no range of positions")
        found.append((begin, end))
    return found


def _by_digest(name: str, path: str, items: Sequence[Any], digest: str, k: int) -> Segment:
    for item in items:
        if hashlib.sha256(dumps(item)).hexdigest() == digest:
            return Segment.for_item(name, item, k)
    raise InputError(
        f"{path} has no item of the digest {digest}",
        advice="it was another list when the address was made: plan again",
        path=path,
    )


def _unknown(address: str, dag: Dag) -> InputError:
    import difflib

    names = [escape(node.name) for node in dag.nodes]
    near = difflib.get_close_matches(address, names, 1)
    return InputError(
        f"{address!r:.200} is no path of a node of this pipeline",
        advice=f"did you mean {near[0]!r}?" if near else "`runstore plan` lists those it has",
        path=address,
    )
