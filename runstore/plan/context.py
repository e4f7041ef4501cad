"""What every part of an evaluation needs: the records, values by name, results, and the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from runstore.history import History
from runstore.paths import escape
from runstore.plan.prepare import Graph, Vertex
from runstore.plan.state import (
    DONE,
    FAILED,
    NOT_TAKEN,
    UPSTREAM_FAILED,
    Frame,
    Scope,
    State,
    Valued,
)
from runstore.plan.steps import Action, Reason, Step, within
from runstore.plan.values import state_result, value_digest

__all__ = ["Context", "known"]

_STATES = {NOT_TAKEN: "not_taken", UPSTREAM_FAILED: "upstream_failed", FAILED: "failed"}


class Context(ABC):
    """One evaluation's inputs, and how they are looked up."""

    def __init__(
        self,
        root: Graph,
        history: History,
        invocation: str | None,
        *,
        stale_structure: Mapping[str, frozenset[str]],
        focus: Mapping[str, frozenset[str]] | None,
        remake: frozenset[str],
    ) -> None:
        self.root = root
        self.history = history
        self.attempts = history.attempts
        self.adopted = history.adopted
        self.forces = history.forces
        self.invocation = invocation
        self.stale_structure = stale_structure
        """Invocation -> template paths whose own structure was another one there."""
        self.focus = focus
        """See :func:`runstore.plan.focus.focus`; ``None``: everything matters."""
        self.remake = remake
        """Paths whose outputs are missing and wanted."""
        self.wanted: set[str] = set()
        """Paths of missing outputs that something to run may load."""
        self.several = len(history.invocations) > 1 or bool(history.adopted)
        self.asks_ends = root.asks_ends
        self.overridden = history.overridden
        self.ahead = 0
        """How many graphs are looked ahead into at the moment: what is found there is no plan."""
        self._parameters: dict[str, Valued] = {}

    @abstractmethod
    def leaf(self, frame: Frame) -> int:
        """The same, for a plain body."""

    @abstractmethod
    def graph(self, frame: Frame) -> Generator[Any, Any, int]:
        """Evaluate one graph; its status."""

    # -- values ----------------------------------------------------------------------------------

    def find(self, vertex: Vertex, name: str, frame: Frame) -> Valued | None:
        """What a node gets for a name, with its digest; None if no source has given it."""
        if name in frame.graph.bound:
            while frame.graph.binds != name:
                assert frame.scope is not None, "what is bound is bound by a graph around this one"
                frame = frame.scope.frame
            return frame.item
        for i in vertex.sources.get(name, ()):
            state = frame.states[i]
            if state.code == DONE and name in state.outputs:
                value = state.outputs[name]
                return value, state.digest(name, value)
        while (scope := frame.scope) is not None:
            found = scope.cache.get(name)
            if found is None:
                found = scope.previous.get(name)
            if found is None:
                for i in scope.owner.sources.get(name, ()):
                    state = scope.frame.states[i]
                    if state.code == DONE and name in state.outputs:
                        value = state.outputs[name]
                        found = scope.cache[name] = (value, state.digest(name, value))
                        break
            if found is not None:
                return found
            frame = scope.frame
        return self._parameter(name)

    def _parameter(self, name: str) -> Valued | None:
        """A parameter of the run, with its digest."""
        found = self._parameters.get(name)
        if found is None and name in self.history.run.parameters:
            value = self.history.run.parameters[name]
            found = self._parameters[name] = (value, value_digest(value))
        return found

    # -- results ---------------------------------------------------------------------------------

    def results(self, vertex: Vertex, frame: Frame) -> dict[str, str]:
        """The results a node consumes: of what it only follows, and of what it handles."""
        states, scope = frame.states, frame.scope
        results: dict[str, str] = {}
        for i in vertex.order_only:
            results[states[i].path] = known(states[i].result)
        if vertex.handles:
            for i in self.targets(vertex, states):
                results[states[i].path] = known(states[i].result)
        if scope is not None and vertex.opener:
            for up in vertex.outer_only:
                state = frame.upstream(up)
                results[state.path] = known(state.result)
            if vertex.turns_only:
                results |= _before(scope, vertex.turns_only)
            results.update(scope.handled)
        return results

    @staticmethod
    def targets(handler: Vertex, states: list[State]) -> set[int]:
        """What a handler handles: failed nodes it lists, and those behind what it lists. Not what
        was lost or cancelled, nor a composite in which something was: a retry runs that."""
        vertices = handler.graph.vertices
        found: set[int] = set()
        seen: set[tuple[int, bool]] = set()
        stack = [(at, False) for at in handler.after]
        while stack:
            at, through = stack.pop()
            if (at, through) in seen:
                continue
            seen.add((at, through))
            code = states[at].code
            ups = vertices[at].after
            if code == FAILED:
                if not states[at].interrupted:
                    found.add(at)
            elif code == UPSTREAM_FAILED:
                # By its trigger; else it lacks a value, since something further up has failed.
                direct = any(states[up].code in (FAILED, UPSTREAM_FAILED) for up in ups)
                stack.extend((up, not direct) for up in ups)
            elif through and states[at].behind:
                stack.extend((up, True) for up in ups)
        return found

    def without_attempt(self, vertex: Vertex, frame: Frame, code: int, behind: bool) -> State:
        """The state of a node that was omitted, or failed without an attempt."""
        path = frame.prefix + vertex.name
        state = State(path, code, behind or code in (FAILED, UPSTREAM_FAILED))
        if vertex.needed:
            upstream = {frame.states[i].path: known(frame.states[i].result) for i in vertex.after}
            if frame.scope is not None and vertex.opener:
                for up in map(frame.upstream, vertex.outer):
                    upstream[up.path] = known(up.result)
                upstream |= _before(frame.scope, [out for out, _ in vertex.turns])
            state.result = state_result(_STATES[code], upstream)
        return state

    # -- missing outputs -------------------------------------------------------------------------

    def want(self, vertex: Vertex, frame: Frame) -> None:
        """Note the outputs that are missing from the store and that this node may load."""
        if self.ahead or not self.history.missing:
            return
        while True:
            vertices = vertex.graph.vertices
            seen: set[int] = set()
            stack = list(vertex.after)
            while stack:
                at = stack.pop()
                if at in seen:
                    continue
                seen.add(at)
                stack.extend(vertices[at].after)
                state = frame.states[at]
                if state.end is not None:
                    if not self.history.missing.isdisjoint(self.history.blobs_of(state.end)):
                        self.wanted.add(state.path)
                elif vertices[at].bodies and state.code == DONE:
                    self._want_all(state.path)
            scope = frame.scope
            if scope is None:
                return
            for turn in range(scope.turn):
                self._want_all(f"{scope.place}@{turn}")
            vertex, frame = scope.owner, scope.frame

    def _want_all(self, inside: str) -> None:
        self.wanted.update(path for path in self.history.lacking() if within(path, inside))

    # -- what is said of nodes that are not looked into ------------------------------------------

    def emit(
        self, vertex: Vertex, frame: Frame, action: Action, reason: Reason, detail: str = ""
    ) -> None:
        """A step for a node, and for every node in it, under its template path."""
        emit(vertex, frame.prefix + vertex.name, action, reason, frame.out, detail)


def emit(
    vertex: Vertex,
    path: str,
    action: Action,
    reason: Reason,
    out: list[Step],
    detail: str = "",
) -> None:
    """See :meth:`Context.emit`."""
    stack = [(vertex, path)]
    while stack:
        node, at = stack.pop()
        out.append(Step(at, action, reason, None, detail, node.kind))
        for branch, body in reversed(node.bodies.items()):
            inner = f"{at}:{escape(branch)}/" if branch else f"{at}/"
            stack.extend((each, inner + each.name) for each in reversed(body.order))
        detail = ""


def known(result: str | None) -> str:
    """A result that :func:`~runstore.plan.prepare.prepare` found somebody will ask for."""
    assert result is not None
    return result


def _before(scope: Scope, turns: Sequence[int]) -> dict[str, str]:
    """The results of the iterations before, of the loops that stand so far out."""
    results: dict[str, str] = {}
    here: Scope | None = scope
    for out in range(max(turns, default=-1) + 1):
        assert here is not None
        if out in turns and here.previous_result is not None:
            results[here.previous_result[0]] = here.previous_result[1]
        here = here.frame.scope
    return results
