"""What the planner works out once for a DAG: which results somebody will ask for, and who opens what.

Nothing here depends on records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstore.dag import Dag
from runstore.paths import escape

if TYPE_CHECKING:
    from runstore.dag import AnyNode

__all__ = ["Graph", "Vertex", "prepare"]


class Vertex:
    """A node in its place."""

    __slots__ = (
        "after",
        "at",
        "bodies",
        "cutoff",
        "every",
        "graph",
        "handles",
        "kind",
        "leaf",
        "name",
        "needed",
        "node",
        "opener",
        "order_only",
        "outer",
        "params",
        "previous",
        "reader",
        "returns",
        "sources",
        "template",
        "trigger",
    )

    def __init__(self, node: AnyNode, at: int, graph: Graph) -> None:
        wiring = graph.dag.wiring
        self.node = node
        self.at = at
        self.graph = graph
        self.kind = node.kind
        self.name = escape(node.name)
        self.template = graph.template + self.name
        self.after = wiring.after[at]
        self.trigger = node.trigger
        self.handles = node.handles
        self.sources = wiring.sources[at]
        self.returns = wiring.returns[at]
        self.params: tuple[str, ...] = node.params if node.kind == "task" else ()
        self.cutoff = node.config.get("cutoff") is not False
        # one_failed and all_done consume every direct upstream's result, source or not.
        self.every = node.trigger in ("one_failed", "all_done")
        self.opener = not self.after
        self.reader: tuple[str, ...] = self.params  # what it reads itself
        if node.kind == "map":
            self.reader = (node.over,)
        elif node.kind == "conditional":
            self.reader = (node.on,)
        given = {i for name in self.reader for i in self.sources.get(name, ())}
        self.order_only = tuple(i for i in self.after if self.every or i not in given)
        self.outer: tuple[Vertex, ...] = ()
        self.previous = False
        self.needed = False
        self.bodies: dict[str, Graph] = {}
        self.leaf = False


class Graph:
    """One graph in its place: the DAG itself, or a body."""

    __slots__ = ("bound", "dag", "handlers", "index", "leaf", "order", "owner", "template", "vertices")

    def __init__(self, dag: Dag, template: str, owner: Vertex | None) -> None:
        self.dag = dag
        self.template = template
        self.owner = owner
        self.vertices = [Vertex(node, at, self) for at, node in enumerate(dag.nodes)]
        self.order = [self.vertices[at] for at in dag.wiring.order]
        self.index = dag.wiring.index
        # Names of items and iterations between here and the graph whose nodes openers follow.
        self.bound: frozenset[str] = frozenset()
        self.handlers = [vertex for vertex in self.order if vertex.handles]
        self.leaf = all(vertex.kind == "task" for vertex in self.vertices)


def prepare(dag: Dag) -> Graph:
    """The DAG with every body in its place. Linear, no recursion."""
    root = Graph(dag, "", None)
    graphs = [root]
    for graph in graphs:  # grows while it is walked: outer before inner
        for vertex in graph.vertices:
            for branch, body in vertex.node.bodies.items():
                step = f"{vertex.template}:{escape(branch)}/" if branch else f"{vertex.template}/"
                inner = Graph(body, step, vertex)
                vertex.bodies[branch] = inner
                graphs.append(inner)
            vertex.leaf = all(inner.leaf for inner in vertex.bodies.values())
    asked: list[Vertex] = []
    for graph in graphs:
        _open(graph, asked)
    _mark(asked)
    return root


def _open(graph: Graph, asked: list[Vertex]) -> None:
    """Who opens the graph has its composite's upstream for upstream, less what that one carries."""
    owner = graph.owner
    inherited: tuple[Vertex, ...] = ()
    if owner is not None:
        node = owner.node
        above = tuple(owner.graph.vertices[i] for i in owner.after) if owner.after else owner.outer
        bound = owner.graph.bound if owner.opener else frozenset()
        carries = owner.reader[0] if owner.kind in ("map", "conditional") else None
        if carries is not None and carries not in bound:
            inherited = tuple(up for up in above if carries not in up.returns)
        else:
            inherited = above
        if (node.kind == "map" or node.kind == "loop") and node.as_:
            bound |= {node.as_}
        graph.bound = bound
    for vertex in graph.vertices:
        if vertex.opener:
            if vertex.kind == "task":
                reads = {name for name in vertex.params if name not in graph.bound}
                vertex.outer = tuple(
                    up for up in inherited if vertex.every or reads.isdisjoint(up.returns)
                )
                if owner is not None and owner.kind == "loop":
                    gives = graph.dag.wiring.exports.keys() | graph.dag.wiring.unclear.keys()
                    vertex.previous = vertex.every or reads.isdisjoint(gives)
                    if vertex.previous:
                        asked.append(owner)
                asked.extend(vertex.outer)
            else:
                vertex.outer = inherited
        if vertex.kind == "task":
            asked.extend(graph.vertices[i] for i in vertex.order_only)
        if vertex.handles:
            asked.append(vertex)
            asked.extend(graph.vertices[i] for i in vertex.after)


def _mark(asked: list[Vertex]) -> None:
    """A result that is asked for needs those it is made of, and those it follows: if the node turns
    out to be omitted, its result is over its upstream's."""
    while asked:
        vertex = asked.pop()
        if vertex.needed:
            continue
        vertex.needed = True
        asked.extend(vertex.graph.vertices[i] for i in vertex.after)
        asked.extend(vertex.outer)
        for body in vertex.bodies.values():
            asked.extend(body.vertices)
