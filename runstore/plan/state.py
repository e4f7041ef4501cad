"""The state of a node in one evaluation, and the scope a body is evaluated in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runstore.plan.values import value_digest
from runstore.records import Blob, End

if TYPE_CHECKING:
    from runstore.plan.prepare import Vertex

__all__ = [
    "AMBIGUOUS",
    "DONE",
    "FAILED",
    "NOT_TAKEN",
    "PENDING",
    "UPSTREAM_FAILED",
    "Scope",
    "State",
]

DONE, FAILED, UPSTREAM_FAILED, NOT_TAKEN, PENDING = range(5)

Valued = tuple[Any, str]
"""A value and its digest."""

_EMPTY: dict[str, Any] = {}


class State:
    """What became of one node."""

    __slots__ = (
        "artifacts",
        "behind",
        "busy",
        "code",
        "digests",
        "end",
        "ends",
        "newest",
        "outputs",
        "path",
        "result",
    )

    def __init__(self, path: str, code: int, behind: bool = False) -> None:
        self.path = path
        self.code = code
        self.behind = behind
        """Whether this node, or anything it transitively follows, failed."""
        self.outputs: Mapping[str, Any] = _EMPTY
        self.result: str | None = None
        self.end: End | None = None
        self.newest = ""
        """The latest invocation that made something of it."""
        self.busy = False
        """An attempt of it is in progress."""
        self.artifacts: Mapping[str, tuple[Blob, str]] = _EMPTY
        """What it saved: address -> (blob, path of the node that saved it)."""
        self.ends: list[str] | None = None
        """Digests of the end records in it, where some task asks for them."""
        self.digests: dict[str, str] | None = None

    def digest(self, name: str, value: Any) -> str:
        """The digest of one of its outputs, worked out once."""
        known = self.digests
        if known is None:
            known = self.digests = {}
        digest = known.get(name)
        if digest is None:
            digest = known[name] = value_digest(value)
        return digest


class Scope:
    """Where a body stands: its composite, and the names that are bound inside it."""

    __slots__ = (
        "behind",
        "bound",
        "cache",
        "earlier",
        "handled",
        "owner",
        "parent",
        "place",
        "previous",
        "previous_ends",
        "previous_result",
        "states",
        "turn",
    )

    def __init__(self, owner: Vertex, states: list[State], parent: Scope | None) -> None:
        self.owner = owner
        self.states = states
        self.parent = parent
        self.behind = False
        self.bound: Mapping[str, Valued] = parent.bound if parent else _EMPTY
        """`as` names -> item or iteration, those of enclosing bodies included."""
        self.cache: dict[str, Valued] = {}
        self.previous: Mapping[str, Valued] = _EMPTY
        """In a loop: the latest value of each name from earlier iterations."""
        self.earlier: Mapping[str, tuple[Blob, str]] = _EMPTY
        """In a loop: the latest artifact of each name from earlier iterations."""
        self.previous_result: tuple[str, str] | None = None
        self.previous_ends: tuple[str, list[str]] | None = None
        self.handled: Mapping[str, str] = _EMPTY
        """For the body of a handler: path -> result of each failed node it handles."""
        self.place = ""
        """In a loop: its path."""
        self.turn = 0
        """In a loop: the iteration."""

    def inside(self, bound: Mapping[str, Valued]) -> Scope:
        """The same scope with names bound: one item, one iteration. What is outside is shared."""
        scope = Scope.__new__(Scope)
        scope.owner = self.owner
        scope.states = self.states
        scope.parent = self.parent
        scope.behind = self.behind
        scope.bound = bound
        scope.cache = self.cache
        scope.previous = self.previous
        scope.earlier = self.earlier
        scope.previous_result = self.previous_result
        scope.previous_ends = self.previous_ends
        scope.handled = self.handled
        scope.place = self.place
        scope.turn = self.turn
        return scope

    def upstream(self, vertex: Vertex) -> State:
        """The state of a node outside that an opener of this body follows."""
        scope: Scope | None = self
        while scope is not None:
            if scope.owner.graph is vertex.graph:
                return scope.states[vertex.at]
            scope = scope.parent
        raise AssertionError("an opener follows nodes of an enclosing graph only")


AMBIGUOUS = "?"
"""As the source of an artifact: two nodes saved the name, and neither follows the other."""

Seen = dict[str, tuple[Blob, str, frozenset[str]]]


def visible(
    vertex: Vertex, states: list[State], scope: Scope | None
) -> dict[str, tuple[Blob, str]]:
    """The artifacts in sight of a node: the nearest upstream's, then the enclosing scopes'."""
    out: dict[str, tuple[Blob, str]] = {}
    for seen in _levels(vertex, states, scope):
        for address, (blob, source, _) in seen.items():
            out.setdefault(address, (blob, source))
    return out


def _levels(vertex: Vertex, states: list[State], scope: Scope | None) -> Iterator[Seen]:
    yield _seen(vertex, states)
    while scope is not None:
        if scope.earlier:
            yield {a: (blob, source, frozenset()) for a, (blob, source) in scope.earlier.items()}
        vertex, states, scope = scope.owner, scope.states, scope.parent
        yield _seen(vertex, states)


def _seen(vertex: Vertex, states: list[State]) -> Seen:
    """What a node sees in its own graph."""
    graph = vertex.graph
    wanted = {vertex.at}
    stack = [vertex]
    while stack:
        for up in stack.pop().after:
            if up not in wanted:
                wanted.add(up)
                stack.append(graph.vertices[up])
    views: dict[int, Seen] = {}
    for node in graph.order:
        if node.at not in wanted:
            continue
        view: Seen = {}
        for up in node.after:
            _merge(view, views[up])
        if node.at == vertex.at:
            return view
        state = states[node.at]
        if state.code == DONE:
            for address, (blob, source) in state.artifacts.items():
                old = view.get(address)
                view[address] = (blob, source, _sources(old) if old else frozenset())
        views[node.at] = view
    return {}


def _merge(into: Seen, other: Seen) -> None:
    for address, entry in other.items():
        mine = into.get(address)
        if mine is None or _hides(entry, mine):
            into[address] = entry
        elif not _hides(mine, entry):
            into[address] = (mine[0], AMBIGUOUS, _sources(mine) | _sources(entry))


def _sources(entry: tuple[Blob, str, frozenset[str]]) -> frozenset[str]:
    """Who saved it, and who saved what that hides; of one that is ambiguous, all of them."""
    return entry[2] if entry[1] == AMBIGUOUS else entry[2] | {entry[1]}


def _hides(
    entry: tuple[Blob, str, frozenset[str]], other: tuple[Blob, str, frozenset[str]]
) -> bool:
    """Whether ``entry`` is the other one, or was saved after all that the other one may be."""
    return _sources(other) <= _sources(entry)


def final(graph_order: list[Vertex], states: list[State]) -> dict[str, tuple[Blob, str]]:
    """The artifacts in sight at the end of a graph."""
    out: Seen = {}
    views: dict[int, Seen] = {}
    for node in graph_order:
        view: Seen = {}
        for up in node.after:
            _merge(view, views[up])
        state = states[node.at]
        if state.code == DONE:
            for address, (blob, source) in state.artifacts.items():
                old = view.get(address)
                view[address] = (blob, source, _sources(old) if old else frozenset())
        views[node.at] = view
        if view:
            _merge(out, view)
    return {address: (blob, source) for address, (blob, source, _) in out.items()}
