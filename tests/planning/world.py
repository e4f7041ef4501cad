"""What the oracle sees: the graphs of a run in one state, and the scopes of their bodies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from runstore.canonical import dumps
from runstore.dag import AnyNode, Dag
from runstore.paths import escape
from runstore.records import Blob

DONE, FAILED, UPSTREAM_FAILED, NOT_TAKEN, PENDING = "done", "failed", "up", "omitted", "pending"

Sight = Mapping[str, tuple[str, str]]
"""Artifacts: address -> (digest of the content, path of the node that saved it)."""

UNCLEAR = ("", "?")
"""In a sight: two nodes saved the name, and neither follows the other."""


def mark(what: Any) -> str:
    """The same for what is equal as JSON, and for nothing else: `1` is no `true`."""
    return hashlib.sha256(dumps(_plain(what))).hexdigest()


def _plain(what: Any) -> Any:
    if isinstance(what, Blob):
        return {"blob": what.value or what.sha256}
    if isinstance(what, Mapping):
        return {key: _plain(value) for key, value in what.items()}
    if isinstance(what, list | tuple):
        return [_plain(value) for value in what]
    return sorted(what) if isinstance(what, frozenset) else what


@dataclass
class Sees:
    """What an attempt at a task is made from, if it begins now."""

    values: Mapping[str, Any]
    params: Mapping[str, str]
    results: Mapping[str, str]
    ends: frozenset[str] | None
    sight: Sight
    loaded: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of one that ran: what it loaded of the sight."""


@dataclass
class State:
    """What became of one node."""

    code: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Sight = field(default_factory=dict)
    result: str = ""
    ends: frozenset[str] = frozenset()
    """The latest end records in it."""
    behind: bool = False
    """It, or something it transitively follows, failed."""
    lost: bool = False
    """It failed, and not only by attempts that failed."""


Said = dict[str, tuple[str, str]]


@dataclass
class Graph:
    """One graph at work: the DAG itself, or a body for one item, branch or iteration."""

    dag: Dag
    prefix: str
    states: dict[str, State] = field(default_factory=dict)
    said: Said = field(default_factory=dict)
    """Path of each task, and of each composite, in it -> action and reason."""
    sees: dict[str, Sees] = field(default_factory=dict)
    code: str = ""
    lost: bool = False

    def node(self, name: str) -> AnyNode:
        return next(node for node in self.dag.nodes if node.name == name)

    def path(self, name: str) -> str:
        return self.prefix + escape(name)

    def followed(self, node: AnyNode) -> set[str]:
        """Names of all that a node transitively follows."""
        found: set[str] = set()
        for up in node.after:
            found |= {up} | self.followed(self.node(up))
        return found

    def gives(self, up: str, reader: AnyNode, name: str) -> bool:
        """Whether a node is a possible source of a name for one that follows it."""
        wiring = self.dag.wiring
        return wiring.index[up] in wiring.sources[wiring.index[reader.name]].get(name, ())

    def last(self, among: Iterable[str]) -> list[str]:
        """The one that follows all the others, if there is one."""
        names = set(among)
        return [n for n in names if names - {n} <= self.followed(self.node(n))]

    def nearest(self, name: str, among: Iterable[str]) -> list[Any]:
        """The value of the nearest that succeeded and gave the name."""
        gave = [n for n in among if self.states[n].code == DONE and name in self.states[n].outputs]
        return [self.states[n].outputs[name] for n in self.last(gave)]

    def sight(self, among: Iterable[str]) -> dict[str, tuple[str, str]]:
        """The nearest artifact of each name."""
        done = [n for n in among if self.states[n].code == DONE]
        found = {}
        for address in {a for n in done for a in self.states[n].artifacts}:
            last = self.last(n for n in done if address in self.states[n].artifacts)
            found[address] = self.states[last[0]].artifacts[address] if last else UNCLEAR
        return found

    def names(self) -> list[str]:
        return [node.name for node in self.dag.nodes]

    def exports(self) -> dict[str, Any]:
        """The values at its end."""
        out = {}
        for name in self.dag.wiring.exports:
            if found := self.nearest(name, self.names()):
                out[name] = found[0]
        return out

    def results(self) -> dict[str, str]:
        return {name: state.result for name, state in self.states.items()}


@dataclass
class Up:
    """Something that a node directly follows, in its graph or around it."""

    path: str
    state: State
    gives: Callable[[str], bool]


@dataclass
class Scope:
    """What stands around a body."""

    owner: AnyNode
    graph: Graph
    parent: Scope | None
    bound: dict[str, Any] = field(default_factory=dict)
    handled: Mapping[str, str] = field(default_factory=dict)
    """Path -> result of each failure that the composite, as a handler, handles."""
    behind: bool = False
    # Of a loop: what the iterations before gave.
    previous: dict[str, Any] = field(default_factory=dict)
    earlier: dict[str, tuple[str, str]] = field(default_factory=dict)
    turn: Up | None = None
    ends: frozenset[str] = frozenset()

    def binds(self, name: str) -> bool:
        return name in self.bound or (self.parent is not None and self.parent.binds(name))

    def ups(self) -> list[Up]:
        """What a node follows that opens this body: what the composite follows, less what the
        item or the choice already carries, and the iteration before."""
        found = follows(self.owner, self.graph, self.parent)
        for name in own_reads(self.owner) if self.owner.kind in ("map", "conditional") else ():
            if self.parent is None or not self.parent.binds(name):
                found = [up for up in found if not up.gives(name)]
        return [*found, self.turn] if self.turn else found


def follows(node: AnyNode, graph: Graph, scope: Scope | None) -> list[Up]:
    """The direct upstream of a node. What has no ``after`` in a body opens it."""
    if not node.after:
        return scope.ups() if scope else []
    return [Up(graph.path(u), graph.states[u], partial(graph.gives, u, node)) for u in node.after]


def own_reads(node: AnyNode) -> tuple[str, ...]:
    """The parameters that a node reads itself."""
    if node.kind == "task":
        return node.params
    return (node.over,) if node.kind == "map" else (node.on,) if node.kind == "conditional" else ()


def targets(handler: AnyNode, graph: Graph) -> set[str]:
    """The failed nodes that a handler lists, and those whose failure made what it lists upstream
    failed; without those that did not only fail."""

    def causes(name: str, lacking: bool) -> set[str]:
        state, node = graph.states[name], graph.node(name)
        bad = {up for up in node.after if graph.states[up].code in (FAILED, UPSTREAM_FAILED)}
        if state.code == FAILED:
            return set() if state.lost else {name}
        if state.code == UPSTREAM_FAILED and bad:
            return set().union(*(causes(up, False) for up in bad))
        if state.code == UPSTREAM_FAILED or (lacking and state.behind):
            return set().union(*(causes(up, True) for up in node.after))
        return set()

    return set().union(*(causes(name, False) for name in handler.after))


def within(path: str, node: str) -> bool:
    """Whether a path is a node's, or stands inside it."""
    return path == node or path.startswith(tuple(node + sign for sign in "/[:@"))
