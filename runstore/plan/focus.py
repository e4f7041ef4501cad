"""What some node paths need: the nodes of each graph that matter, and the records to be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runstore.dag import Dag
from runstore.paths import NodePath, Segment, template
from runstore.plan.prepare import Graph, Vertex, prepare
from runstore.plan.steps import within

__all__ = ["focus", "needed"]


def focus(root: Graph, paths: Iterable[str]) -> dict[str, frozenset[str]]:
    """For each graph on the way to the paths, the nodes of it that matter; for each map or parallel
    on the way, the items or branches. What is not in it counts as a whole: what is only followed,
    what a handler follows, and loops, whose iterations follow one another."""
    wanted: dict[str, set[str]] = {}
    whole: set[str] = set()
    for text in paths:
        for place in _way(root, text):
            graph, vertex, segment = place.graph, place.vertex, place.segment
            wanted.setdefault(graph.template, set()).update(
                graph.vertices[i].node.name for i in place.before
            )
            if place.whole:
                whole.add(vertex.template)
            whole.update(graph.vertices[i].template for i in place.before if i != vertex.at)
            at = place.prefix + vertex.name
            if segment.item is not None:
                key = segment.item if segment.k == 1 else f"{segment.item}#{segment.k}"
                wanted.setdefault(at, set()).add(key)
            elif segment.branch is not None and vertex.kind == "parallel":
                wanted.setdefault(at, set()).add(segment.branch)
    return {
        key: frozenset(names)
        for key, names in wanted.items()
        if not any(within(template(key.rstrip("/")), path) for path in whole)
    }


def needed(dag: Dag, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The paths whose records :func:`focus` looks at, and their kinds.

    Of a composite all inside counts, so how many they are depends on the DAG alone."""
    root = prepare(dag)
    for text in paths:
        for place in _way(root, text):
            for i in place.before:
                vertex = place.graph.vertices[i]
                if i != place.vertex.at or place.whole or vertex.kind == "task":
                    yield place.prefix + vertex.name, vertex.kind


class _Place:
    """One node on the way to a path."""

    __slots__ = ("before", "graph", "prefix", "segment", "vertex", "whole")

    def __init__(
        self, graph: Graph, vertex: Vertex, segment: Segment, prefix: str, last: bool
    ) -> None:
        self.graph = graph
        self.vertex = vertex
        self.segment = segment
        self.prefix = prefix
        """Text of the path of the graph, up to and with the slash."""
        self.before = _with_upstream(graph, [vertex])
        # Whether a failure is handled shows in its handler, wherever that one stands.
        behind = _with_followers(graph, self.before) if graph.handlers else ()
        handlers = [handler for handler in graph.handlers if handler.at in behind]
        self.before |= _with_upstream(graph, handlers)
        """The node, and those it needs."""
        unqualified = segment.item is None and segment.branch is None
        self.whole = last or bool(handlers) or vertex.kind == "loop" or unqualified
        """Whether all inside the node counts, not only what stands on the way."""


def _way(root: Graph, text: str) -> Iterator[_Place]:
    graph: Graph | None = root
    segments = NodePath.parse(text).segments
    prefix = ""
    for depth, segment in enumerate(segments):
        if graph is None or segment.name not in graph.index:
            return
        vertex = graph.vertices[graph.index[segment.name]]
        yield _Place(graph, vertex, segment, prefix, depth == len(segments) - 1)
        prefix = f"{NodePath(segments[: depth + 1])}/"
        graph = vertex.bodies.get(segment.branch or "")


def _with_upstream(graph: Graph, vertices: list[Vertex]) -> set[int]:
    found = {vertex.at for vertex in vertices}
    stack = list(found)
    while stack:
        for up in graph.vertices[stack.pop()].after:
            if up not in found:
                found.add(up)
                stack.append(up)
    return found


def _with_followers(graph: Graph, nodes: set[int]) -> set[int]:
    found = set(nodes)
    stack = list(nodes)
    followers = graph.dag.wiring.before
    while stack:
        for follower in followers[stack.pop()]:
            if follower not in found:
                found.add(follower)
                stack.append(follower)
    return found
