"""Whether the nodes of a graph are well formed, each by itself: names, lists, branches."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from runstore.dag.wiring import Node
from runstore.errors import DagError

__all__ = ["check_node", "index_names"]


def _distinct(names: Iterable[str], what: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not name:
            raise DagError(f"a {what} has an empty name", advice="give it one", nodes=("",))
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DagError(
                f"the {what} {name!r} holds half a surrogate pair", nodes=(name,)
            ) from None
        plain = name.isascii() and name.islower()
        folded = name if plain else unicodedata.normalize("NFKC", name).casefold()
        other = seen.setdefault(folded, name)
        if other is not name:
            how = "twice" if other == name else f"and {other!r}, which look alike (NFKC, case)"
            raise DagError(
                f"{what} {name!r} is there {how}", advice="rename one", nodes=(other, name)
            )


def index_names(nodes: Sequence[Node]) -> dict[str, int]:
    index = {node.name: i for i, node in enumerate(nodes)}
    # `_distinct` tells twins by identity, and interned constants are one object: count first.
    if len(index) != len(nodes):
        seen: set[str] = set()
        for node in nodes:
            if node.name in seen:
                raise DagError(
                    f"two nodes of one graph are named {node.name!r}",
                    advice="rename one",
                    nodes=(node.name,),
                )
            seen.add(node.name)
    _distinct(index, "node")
    return index


def check_node(node: Node) -> None:
    if node.handles and node.trigger != "one_failed":
        raise DagError(
            f"node {node.name!r} handles failures, so its trigger must be one_failed, "
            f"not {node.trigger}",
            nodes=(node.name,),
        )
    if node.trigger in ("one_success", "one_failed") and not node.after:
        raise DagError(
            f"node {node.name!r} has the trigger {node.trigger} and follows nothing, so it "
            "would never run",
            advice="name in its `after` what it waits for, or leave the trigger out",
            nodes=(node.name,),
        )
    for field, names in {"after": node.after, **node.names}.items():
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DagError(
                f"{field} of node {node.name!r} lists {twice!r} twice", nodes=(node.name,)
            )
        for name in names:
            _check_text(name, field, node)
    if node.kind == "conditional":
        if not node.bodies:
            raise DagError(f"conditional {node.name!r} has no branches", nodes=(node.name,))
        for default in node.names["default"]:
            if default not in node.bodies:
                raise DagError(
                    f"the default of conditional {node.name!r} is {default!r}, which names none "
                    f"of its branches: {', '.join(map(repr, node.bodies))}",
                    nodes=(node.name,),
                )
    if node.kind == "conditional" or node.kind == "parallel":
        _distinct(node.bodies, f"branch of {node.name!r},")


def _check_text(name: str, what: str, node: Node) -> None:
    if not name:
        raise DagError(
            f"{what} of node {node.name!r} has an empty name", advice="give one", nodes=(node.name,)
        )
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DagError(
                f"{what} of node {node.name!r} holds half a surrogate pair: {name!r}",
                nodes=(node.name,),
            ) from None
