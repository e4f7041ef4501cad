"""What some node paths need: the nodes of each graph that matter, and the records to be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runstore.dag import Dag, walk
from runstore.paths import NodePath, Segment, template
from runstore.plan.graph import Graph, Vertex, prepare
from runstore.plan.steps import within
from runstore.records import keys

__all__ = ["deciding_names", "fewest_prefixes", "focus", "needed", "needed_prefixes"]


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


def needed(dag: Dag, paths: Iterable[str], *, own: bool = True) -> Iterator[tuple[str, str]]:
    """The paths whose records :func:`focus` looks at, and their kinds.

    Of a composite all inside counts, so how many they are depends on the DAG alone.

    :param own: ``False`` leaves out those of the paths themselves: what decides whether their turn
        has come, and with what.
    """
    root = prepare(dag)
    for text in paths:
        for place in _way(root, text):
            for i in place.before:
                vertex = place.graph.vertices[i]
                if i != place.vertex.at or (
                    (place.whole or vertex.kind == "task") and (own or not place.last)
                ):
                    yield place.prefix + vertex.name, vertex.kind


class _Place:
    """One node on the way to a path."""

    __slots__ = ("before", "graph", "last", "prefix", "segment", "vertex", "whole")

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
        self.last = last
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


_MARK = {"map": "[", "conditional": ":", "parallel": ":", "loop": "@"}


def deciding_names(dag: Dag) -> frozenset[str]:
    """Names whose values the planner itself must see: map lists, branch choices, loop ends."""
    names: set[str] = set()
    for _, node in walk(dag):
        match node.kind:
            case "map":
                names.add(node.over)
            case "conditional":
                names.add(node.on)
            case "loop":
                names.add(node.until)
    return frozenset(names)


def needed_prefixes(dag: Dag, paths: Iterable[str], *, own: bool = True) -> list[str]:
    """Prefixes of attempt names that the planner needs for some paths: theirs, and all that they
    follow, in their own graph and in those around it. Their number depends on the DAG alone.

    :param own: see :func:`needed`.
    """
    found: set[str] = set()
    for path, kind in needed(dag, paths, own=own):
        if kind == "task":
            found.add(keys.encode(path) + ".")
        else:
            found.add(keys.prefix(path + _MARK[kind]))
    return fewest_prefixes(found)


def fewest_prefixes(prefixes: set[str]) -> list[str]:
    """Sorted, without those that begin with another one."""
    out: list[str] = []
    for prefix in sorted(prefixes):
        if not out or not prefix.startswith(out[-1]):
            out.append(prefix)
    return out
