"""What some node paths need: the nodes of each graph that matter, and the records to be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runstore.dag import Dag
from runstore.paths import NodePath, Segment, template
from runstore.plan.graph import Graph, Vertex, prepare
from runstore.plan.steps import within

__all__ = ["focus", "needed"]


def focus(root: Graph, paths: Iterable[str]) -> dict[str, frozenset[str]]:
    """For each graph on the way to the paths, the nodes of it that matter; for each map or parallel
    on the way, the items or branches. What is not in it counts as a whole: what is only followed,
    what a handler follows, and loops, whose iterations follow one another."""
    missing_outputs: dict[str, set[str]] = {}
    whole: set[str] = set()
    for text in paths:
        for place in _way(root, text):
            graph, vertex, segment = place.graph, place.vertex, place.segment
            missing_outputs.setdefault(graph.template, set()).update(
                graph.vertices[i].node.name for i in place.before
            )
            if place.whole:
                whole.add(vertex.template)
            whole.update(graph.vertices[i].template for i in place.before if i != vertex.at)
            at = place.prefix + vertex.name
            if segment.item is not None:
                key = segment.item if segment.k == 1 else f"{segment.item}#{segment.k}"
                missing_outputs.setdefault(at, set()).add(key)
            elif segment.branch is not None and vertex.kind == "parallel":
                missing_outputs.setdefault(at, set()).add(segment.branch)
    return {
        key: frozenset(names)
        for key, names in missing_outputs.items()
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
        # Whether a failure is handled shows in its handler, wherever that one stands.
        self.before, handlers = _with_upstream(graph, vertex)
        """The node, and those it needs."""
        unqualified = segment.item is None and segment.branch is None
        self.whole = last or handlers or vertex.kind == "loop" or unqualified
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


def _with_upstream(graph: Graph, vertex: Vertex) -> tuple[set[int], bool]:
    """A node and all that it follows, with the handlers behind any of that, what those follow, and
    so on; and whether there are such handlers."""
    followers = graph.dag.wiring.before
    found: set[int] = set()
    failure_upstream: set[int] = set()
    handlers = False
    stack = [vertex.at]
    while stack:
        at = stack.pop()
        if at in found:
            continue
        found.add(at)
        stack += graph.vertices[at].after
        further = [at] if graph.handlers else []
        while further:
            for follower in followers[further.pop()]:
                if follower not in failure_upstream:
                    failure_upstream.add(follower)
                    further.append(follower)
                    if graph.vertices[follower].handles:
                        handlers = True
                        stack.append(follower)
    return found, handlers
