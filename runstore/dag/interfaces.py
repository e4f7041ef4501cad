"""What a node binds, reads and returns in the graph that it stands in.

For a composite, that follows from the graphs inside it, which were resolved when they were built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from runstore.dag.wiring import Node
from runstore.errors import DagError

__all__ = ["bound", "reads", "refuse", "returns", "unclear"]


def bound(nodes: Sequence[Node]) -> frozenset[str]:
    """The names of items and iterations. Inside, nothing else may give the name: whoever reads it
    there gets the item."""
    found: set[frozenset[str]] = set()
    for node in nodes:
        inside = [body.wiring.bound for body in node.bodies.values()]
        found.update(inside)
        for own in node.names.get("as", ()):
            body = node.bodies[""].wiring
            if own in body.exports or own in body.unclear:
                path = _find(node, own)
                raise DagError(
                    f"task {path!r} returns {own!r}, which inside {node.kind} {node.name!r} is the "
                    f"name of its {_BINDS[node.kind]} (as)",
                    advice="rename one of them",
                    nodes=(path, node.name),
                    parameter=own,
                )
            if own in inside[0]:
                path = _find(node, own)
                raise DagError(
                    f"{path!r} calls its items or iterations {own!r}, as {node.kind} {node.name!r} "
                    f"around it does, whose {_BINDS[node.kind]} nothing in it could read",
                    advice="give one of them another `as`",
                    nodes=(node.name, path),
                    parameter=own,
                )
            found.add(frozenset((own,)))
    return next(iter(found)) if len(found) == 1 else frozenset().union(*found)


_BINDS = {"map": "item", "loop": "iteration"}


def _find(around: Node, name: str) -> str:
    """The path of a node inside another one that returns or binds a name, for a message."""
    stack = [(around.name, around)]
    while True:
        path, node = stack.pop()
        given = (*node.names.get("returns", ()), *node.names.get("as", ()))
        if node is not around and name in given:
            return path
        for branch, body in node.bodies.items():
            inside = f"{path}:{branch}/" if branch else f"{path}/"
            stack += [(inside + each.name, each) for each in reversed(body.nodes)]


def returns(node: Node) -> dict[str, bool]:
    if node.kind == "task":
        return dict.fromkeys(node.names["returns"], True)
    given: dict[str, bool] = {}
    bodies = [body.wiring for body in node.bodies.values()]
    for body in bodies:
        for name in [*body.exports, *body.unclear]:
            if node.kind == "parallel" and name in given:
                raise DagError(
                    f"two branches of parallel {node.name!r} return {name!r}",
                    advice="rename one",
                    nodes=(node.name,),
                    parameter=name,
                )
            given[name] = name in body.sure and given.get(name, True)
    if node.kind == "map":
        return dict.fromkeys(given, True)
    if node.kind == "conditional":
        return {n: sure and all(n in body.sure for body in bodies) for n, sure in given.items()}
    return given


def unclear(node: Node, name: str) -> tuple[str, str] | None:
    """Two nodes inside a composite that both give a name, neither following the other."""
    for branch, body in node.bodies.items():
        pair = body.wiring.unclear.get(name)
        if pair:
            inside = f"{node.name}:{branch}/" if branch else f"{node.name}/"
            return inside + pair[0], inside + pair[1]
    return None


def reads(node: Node) -> Iterator[tuple[str, str, bool]]:
    """``(name, reader, nothing inside gives it)`` for all that a node reads from its graph."""
    names = node.names
    for field in ("params", "over", "on"):
        for name in names.get(field, ()):
            yield name, node.name, True
    bound = names.get("as", ())
    for branch, body in node.bodies.items():
        inside = f"{node.name}:{branch}/" if branch else f"{node.name}/"
        for name, reader in body.wiring.reads.items():
            if name not in bound:
                yield name, inside + reader, name in body.wiring.needs
    for until in names.get("until", ()):
        wiring = node.bodies[""].wiring
        for name in (until, *wiring.reads):
            if name in wiring.unclear and name not in bound:
                refuse(name, *wiring.unclear[name], reader=node.name)
        if until not in wiring.exports:
            raise DagError(
                f"loop {node.name!r} runs until {until!r}, which nothing in its body returns",
                nodes=(node.name,),
                parameter=until,
            )


def refuse(name: str, one: str, other: str, *, reader: str) -> NoReturn:
    raise DagError(
        f"parameter {name!r} of {reader!r} may come from {one!r} or from {other!r}, and "
        "neither follows the other",
        advice="order them with `after`, or rename one",
        nodes=(one, other, reader),
        parameter=name,
    )
