"""Which artifacts a node sees: the nearest upstream's of each name, then the enclosing scopes'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runstore.plan.state import DONE, Frame, State
from runstore.records import Blob

if TYPE_CHECKING:
    from runstore.plan.prepare import Vertex

__all__ = ["AMBIGUOUS", "final", "visible"]

AMBIGUOUS = "?"
"""As the source of an artifact: two nodes saved the name, and neither follows the other."""

Seen = dict[str, tuple[Blob, str, frozenset[str]]]


def visible(vertex: Vertex, frame: Frame) -> dict[str, tuple[Blob, str]]:
    """The artifacts in sight of a node: the nearest upstream's, then the enclosing scopes'."""
    out: dict[str, tuple[Blob, str]] = {}
    for seen in _levels(vertex, frame):
        for address, (blob, source, _) in seen.items():
            out.setdefault(address, (blob, source))
    return out


def _levels(vertex: Vertex, frame: Frame) -> Iterator[Seen]:
    yield _seen(vertex, frame.states)
    while (scope := frame.scope) is not None:
        if scope.earlier:
            yield {a: (blob, source, frozenset()) for a, (blob, source) in scope.earlier.items()}
        vertex, frame = scope.owner, scope.frame
        yield _seen(vertex, frame.states)


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
