"""What the planner works out once for a DAG, before it sees a record: which results its nodes
consume, and what the root nodes of each body follow outside of it.
"""

from __future__ import annotations

from runstore.dag import AnyNode, Dag
from runstore.paths import escape
from runstore.plan.ancestry import Ancestry

__all__ = ["Graph", "Vertex", "prepare"]


LoopCarry = tuple[int, "Vertex"]
"""A loop whose previous iteration the root nodes of a body depend on, and how many scopes outward
it is (0: the body is its own)."""


class Vertex:
    """A node in its place."""

    __slots__ = (
        "after", "always_runs", "at", "bodies", "carried_order_only", "consumes_all_upstream",
        "cutoff", "graph", "handles", "inherited_order_only", "is_root", "kind", "name", "needed",
        "needs_results", "node", "order_only", "outer", "params", "reader", "reads", "returns",
        "sources", "template", "tries", "trigger", "turns",
    )  # fmt: skip

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
        # In one order, so that of two that are missing the same is named however they are declared.
        self.params = tuple(sorted(node.params)) if node.kind == "task" else ()
        self.cutoff = node.config.get("cutoff") is not False
        retries = node.config.get("retries")
        self.tries = 1 + retries if type(retries) is int and retries > 0 else 1
        # one_failed and all_done consume every direct upstream's result, source or not.
        self.consumes_all_upstream = node.trigger in ("one_failed", "all_done")
        self.is_root = not self.after
        self.reader: tuple[str, ...] = self.params  # what it reads itself
        if node.kind == "map":
            self.reader = (node.over,)
        elif node.kind == "conditional":
            self.reader = (node.on,)
        # A name that an item or iteration binds comes from no upstream, whoever returns it.
        self.reads = tuple(name for name in self.reader if name not in graph.bound)
        given = {i for name in self.reads for i in self.sources.get(name, ())}
        self.order_only = tuple(
            i for i in self.after if self.consumes_all_upstream or i not in given
        )
        self.outer: tuple[Vertex, ...] = ()
        """Of a root node of a body: the nodes outside that it follows, except those that only
        give the map's list or the conditional's value."""
        self.inherited_order_only: tuple[Vertex, ...] = ()
        """Those of `outer` that cannot be the source of anything it reads."""
        self.turns: tuple[LoopCarry, ...] = ()
        """Of a root node of a body: the loops whose previous iteration it depends on."""
        self.carried_order_only: tuple[int, ...] = ()
        """Of `turns`, the distances of loops that return nothing it reads."""
        self.needs_results = False
        """Whether it consumes results of nodes, besides parameters."""
        self.needed = False
        self.bodies: dict[str, Graph] = {}
        self.always_runs = self.is_root and self.trigger in ("all_success", "all_done")
        """Whether nothing in its graph can keep it from running."""


class Graph:
    """One graph in its place: the DAG itself, or a body."""

    __slots__ = (
        "_ancestry", "anchor", "asks_ends", "binds", "bound", "by_text", "dag", "handlers", "index",
        "order", "owner", "plain", "template", "turns", "vertices",
    )  # fmt: skip

    def __init__(self, dag: Dag, template: str, owner: Vertex | None) -> None:
        self.dag = dag
        self.template = template
        self.owner = owner
        # The name of its item or iteration, and that with those of the bodies around it.
        self.binds: str | None = None
        self.bound: frozenset[str] = frozenset()
        # The innermost composite around it that follows something: the root nodes of this graph
        # inherit its upstream.
        self.anchor: Vertex | None = None
        self.turns: tuple[LoopCarry, ...] = ()
        if owner is not None:
            self.bound = owner.graph.bound
            if owner.node.kind in ("map", "loop") and owner.node.as_:
                self.binds = owner.node.as_
                self.bound |= {self.binds}
            self.anchor = owner.graph.anchor if owner.is_root else owner
        self.vertices = [Vertex(node, at, self) for at, node in enumerate(dag.nodes)]
        self.order = [self.vertices[at] for at in dag.wiring.order]
        self.index = dag.wiring.index
        self.by_text = {vertex.name: vertex.at for vertex in self.vertices if vertex.node.bodies}
        """Composites, by their names as paths tell them."""
        self._ancestry: Ancestry | None = None
        self.handlers = [vertex for vertex in self.order if vertex.handles]
        self.plain = not self.handlers and all(v.kind == "task" for v in self.vertices)
        """Whether all its nodes are tasks, and none a handler."""
        self.asks_ends = False
        """Of the outermost graph: whether some task in it consumes `ends`."""

    @property
    def ancestry(self) -> Ancestry:
        """Who follows whom; made when somebody asks."""
        if self._ancestry is None:
            wiring = self.dag.wiring
            self._ancestry = Ancestry(wiring.order, wiring.after, wiring.before)
        return self._ancestry


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
    root.asks_ends = any(not vertex.cutoff for graph in graphs for vertex in graph.vertices)
    asked: list[Vertex] = []
    for graph in graphs:
        _open(graph, asked)
    _mark(asked)
    return root


def _open(graph: Graph, asked: list[Vertex]) -> None:
    """A root node of a body inherits the composite's upstream, except what the map's list or the
    conditional's value already covers."""
    owner = graph.owner
    inherited: tuple[Vertex, ...] = ()
    if owner is not None:
        above = tuple(owner.graph.vertices[i] for i in owner.after) if owner.after else owner.outer
        turns = tuple((out + 1, loop) for out, loop in owner.turns)
        carries = owner.reads[0] if owner.kind in ("map", "conditional") and owner.reads else None
        if carries is not None:
            above = tuple(up for up in above if not _may_give(graph, up, carries))
            turns = tuple(turn for turn in turns if carries not in _given(turn[1]))
        inherited = above
        graph.turns = ((0, owner), *turns) if owner.kind == "loop" else turns
    for vertex in graph.vertices:
        if vertex.is_root:
            reads = () if vertex.consumes_all_upstream else vertex.reads
            vertex.outer = inherited
            vertex.inherited_order_only = tuple(
                up for up in inherited if not any(_may_give(graph, up, name) for name in reads)
            )
            vertex.turns = graph.turns
            vertex.carried_order_only = tuple(
                out for out, loop in graph.turns if _given(loop).isdisjoint(reads)
            )
        vertex.needs_results = bool(
            vertex.order_only
            or vertex.handles
            or vertex.inherited_order_only
            or vertex.carried_order_only
        )
        if vertex.kind == "task":
            asked.extend(graph.vertices[i] for i in vertex.order_only)
            asked.extend(vertex.inherited_order_only)
            asked.extend(loop for out, loop in vertex.turns if out in vertex.carried_order_only)
        if vertex.handles:
            asked.append(vertex)
            asked.extend(graph.vertices[i] for i in vertex.after)


def _may_give(graph: Graph, up: Vertex, name: str) -> bool:
    """Whether a node outside, which the root nodes of ``graph`` follow, may be the source of a
    name that is read in it."""
    assert graph.anchor is not None, "what is outside is followed by a composite around the graph"
    return up.at in graph.anchor.sources.get(name, ())


def _given(loop: Vertex) -> frozenset[str]:
    """The names that an iteration may hand to the next one."""
    wiring = loop.bodies[""].dag.wiring
    return frozenset((*wiring.exports, *wiring.unclear))


def _mark(asked: list[Vertex]) -> None:
    """Mark the nodes whose result is needed: those asked for, and all that they follow, since the
    result of a node that is omitted is made of the results of its upstream."""
    while asked:
        vertex = asked.pop()
        if vertex.needed:
            continue
        vertex.needed = True
        asked.extend(vertex.graph.vertices[i] for i in vertex.after)
        asked.extend(vertex.outer)
        asked.extend(loop for _, loop in vertex.turns)
        for body in vertex.bodies.values():
            asked.extend(body.vertices)
