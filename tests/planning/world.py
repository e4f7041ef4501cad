"""What the oracle sees: the graphs of a run in one state, and the scopes of their bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from runstore.dag import AnyNode, Dag
from runstore.paths import escape

DONE, FAILED, UPSTREAM_FAILED, NOT_TAKEN, PENDING = "done", "failed", "up", "omitted", "pending"


@dataclass
class State:
    code: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    ends: frozenset[str] = frozenset()
    behind: bool = False


@dataclass
class Graph:
    dag: Dag
    prefix: str
    states: dict[str, State] = field(default_factory=dict)

    def node(self, name: str) -> AnyNode:
        return next(node for node in self.dag.nodes if node.name == name)

    def followed(self, node: AnyNode) -> set[str]:
        found: set[str] = set()
        for up in node.after:
            found |= {up} | self.followed(self.node(up))
        return found

    def gives(self, up: str, reader: AnyNode, name: str) -> bool:
        wiring = self.dag.wiring
        return wiring.index[up] in wiring.sources[wiring.index[reader.name]].get(name, ())

    def nearest(self, name: str, among: set[str]) -> list[Any]:
        """The value of the one that follows all others that gave the name."""
        gave = {n for n in among if self.states[n].code == DONE and name in self.states[n].outputs}
        last = [n for n in gave if gave - {n} <= self.followed(self.node(n))]
        return [self.states[n].outputs[name] for n in last]

    def exports(self) -> dict[str, Any]:
        every = {node.name for node in self.dag.nodes}
        out = {}
        for name in self.dag.wiring.exports:
            if found := self.nearest(name, every):
                out[name] = found[0]
        return out


@dataclass
class Up:
    """Something outside that an opener follows."""

    path: str
    state: State
    gives: Callable[[str], bool]


@dataclass
class Scope:
    owner: AnyNode
    graph: Graph
    parent: Scope | None
    bound: dict[str, Any] = field(default_factory=dict)
    previous: dict[str, Any] = field(default_factory=dict)
    turn: Up | None = None
    earlier: frozenset[str] = frozenset()
    handled: dict[str, Any] = field(default_factory=dict)
    behind: bool = False

    def binds(self, name: str) -> bool:
        return name in self.bound or (self.parent is not None and self.parent.binds(name))

    def ups(self) -> list[Up]:
        """What a node follows that opens this body."""
        owner, graph = self.owner, self.graph
        found = [
            Up(graph.prefix + escape(up), graph.states[up], partial(graph.gives, up, owner))
            for up in owner.after
        ]
        if not owner.after and self.parent:
            found = self.parent.ups()
        carried = own_reads(owner) if owner.kind in ("map", "conditional") else ()
        for name in carried:
            if self.parent is None or not self.parent.binds(name):
                found = [up for up in found if not up.gives(name)]
        return [*found, self.turn] if self.turn else found


def own_reads(node: AnyNode) -> tuple[str, ...]:
    if node.kind == "task":
        return node.params
    return (node.over,) if node.kind == "map" else (node.on,) if node.kind == "conditional" else ()


def targets(handler: AnyNode, graph: Graph) -> set[str]:
    """The failed nodes that a handler lists, and those whose failure made what it lists fail."""

    def causes(name: str, lacking: bool) -> set[str]:
        state, node = graph.states[name], graph.node(name)
        bad = {up for up in node.after if graph.states[up].code in (FAILED, UPSTREAM_FAILED)}
        if state.code == FAILED:
            return {name}
        if state.code == UPSTREAM_FAILED and bad:
            return set().union(*(causes(up, False) for up in bad))
        if state.code == UPSTREAM_FAILED or (lacking and state.behind):
            return set().union(*(causes(up, True) for up in node.after))
        return set()

    return set().union(*(causes(name, False) for name in handler.after))
