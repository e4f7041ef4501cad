"""What every part of an evaluation needs: the records, values by name, results, and the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from runstore.paths import escape
from runstore.plan.digests import ends_digest, state_result, value_digest
from runstore.plan.graph import Graph, Vertex
from runstore.plan.history import Attempt, Damaged, History
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
from runstore.plan.steps import Action, Reason, Step, cuts
from runstore.records import Start

__all__ = ["Context", "append_steps", "is_torn_start", "known", "omit_inside"]

_NOBODY: frozenset[int] = frozenset()
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
        to_regenerate: frozenset[str],
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
        self.to_regenerate = to_regenerate
        """Paths whose outputs are missing and wanted."""
        self.missing_outputs: set[str] = set()
        """Paths of missing outputs that something to run may load."""
        self.wanted_in: set[str] = set()
        """Composites and iterations in which all that is missing is wanted."""
        self.several = len(history.invocations) > 1 or bool(history.adopted)
        self.asks_ends = root.asks_ends
        self.overridden = history.overridden
        self.lists: dict[str, Any] | None = None
        """Path of a map -> the value it is over, where somebody asks for it."""
        self.lookahead_depth = 0
        """How many graphs are looked ahead into at the moment: what is found there is no plan."""
        self.seen_ahead: dict[str, tuple[frozenset[int], frozenset[int]]] = {}
        """Prefix of a graph with handlers -> the failures that they settled, and that they are
        at, when somebody looked ahead."""
        self._parameters: dict[str, Valued] = {}

    @abstractmethod
    def leaf(self, frame: Frame) -> int:
        """The same, for a plain body."""

    @abstractmethod
    def graph(self, frame: Frame) -> Generator[Any, Any, int]:
        """Evaluate one graph; its status."""

    @cached_property
    def at_work(self) -> set[str]:
        """Every path at which, or in which, an attempt is in progress."""
        return {
            path[:at]
            for path, attempts in self.history.attempts.items()
            if is_torn_start(attempts[-1]) or any(type(attempt) is Start for attempt in attempts)
            for at in cuts(path)
        }

    def find(self, vertex: Vertex, name: str, frame: Frame) -> Valued | None:
        """What a node gets for a name, with its digest; None if no source has given it."""
        if frame.graph.binds == name:
            return frame.item
        found = _given(vertex, frame, name)
        if found is not None:
            return found
        passed: list[Scope] = []
        while found is None and (scope := frame.scope) is not None:
            found = scope.cache.get(name)
            if found is not None:
                break
            passed.append(scope)
            frame = scope.frame
            found = scope.previous.get(name)
            if found is None:
                bound = frame.graph.binds == name
                found = frame.item if bound else _given(scope.owner, frame, name)
        if found is None:
            found = self._parameter(name)
        if found is not None:
            for scope in passed:  # or what stands deep would look through all that is around it
                scope.cache[name] = found
        return found

    def _parameter(self, name: str) -> Valued | None:
        """A parameter of the run, with its digest."""
        found = self._parameters.get(name)
        if found is None and name in self.history.run.parameters:
            value = self.history.run.parameters[name]
            found = self._parameters[name] = (value, value_digest(value))
        return found

    def results(self, vertex: Vertex, frame: Frame) -> dict[str, str]:
        """The results a node consumes: of what it only follows, and of what it handles. They stand
        in the order of paths, so that no record depends on the order of declaration."""
        states, scope = frame.states, frame.scope
        results: dict[str, str] = {}
        for i in vertex.order_only:
            results[states[i].path] = known(states[i].result)
        if vertex.handles:
            for i in self.targets(vertex, states):
                results[states[i].path] = known(states[i].result)
        if scope is not None and vertex.is_root:
            for up in vertex.inherited_order_only:
                state = frame.upstream(up)
                results[state.path] = known(state.result)
            if vertex.carried_order_only:
                results |= _before(scope, vertex.carried_order_only)
            results.update(scope.handled)
        return dict(sorted(results.items())) if len(results) > 1 else results

    def trace(self, vertex: Vertex, frame: Frame, own: Iterable[str]) -> str:
        """The digest of the end records of a node and of all that it follows. A node's is over
        those of its direct upstream, so that a chain takes no more than its length."""
        after = [frame.states[i].trace for i in vertex.after]
        if not vertex.after and frame.scope is not None:
            after = [frame.scope.trace]
        return ends_digest(own, after)

    def followed(self, vertex: Vertex, frame: Frame) -> str:
        """The same of all that a node follows; "" if it follows nothing."""
        if vertex.after:
            return ends_digest((), [frame.states[i].trace for i in vertex.after])
        return "" if frame.scope is None else frame.scope.trace

    @staticmethod
    def targets(handler: Vertex, states: list[State]) -> frozenset[int]:
        """What a handler handles: failed nodes it lists, and those behind what it lists. Not what
        was lost or cancelled, nor a composite in which something was: a retry runs that."""
        listed = [at for at in handler.after if states[at].code in (FAILED, UPSTREAM_FAILED)]
        return _union([_culprits(at, handler.graph, states) for at in listed])

    def without_attempt(
        self, vertex: Vertex, frame: Frame, code: int, failure_upstream: bool
    ) -> State:
        """The state of a node that was omitted, or failed without an attempt."""
        path = frame.prefix + vertex.name
        state = State(path, code, failure_upstream or code in (FAILED, UPSTREAM_FAILED))
        if self.asks_ends:
            state.trace = self.trace(vertex, frame, ())
        if vertex.needed:
            upstream = {frame.states[i].path: known(frame.states[i].result) for i in vertex.after}
            if frame.scope is not None and vertex.is_root:
                for up in map(frame.upstream, vertex.outer):
                    upstream[up.path] = known(up.result)
                upstream |= _before(frame.scope, [out for out, _ in vertex.turns])
            state.result = state_result(_STATES[code], upstream)
        return state

    def lacking(self, vertex: Vertex, name: str, frame: Frame, failure_upstream: bool) -> State:
        """The state of a node whose turn has come, and to which no source gave a parameter."""
        if failure_upstream:
            self.append_steps(vertex, frame, Action.OMIT, Reason.UPSTREAM_FAILED)
            return self.without_attempt(vertex, frame, UPSTREAM_FAILED, failure_upstream)
        path = frame.prefix + vertex.name
        detail = f"nothing that ran gave {path} its parameter {name!r}"
        frame.out.append(
            Step(path, Action.FAILED, Reason.PARAMETER_MISSING, None, detail, vertex.kind)
        )
        omit_inside(vertex, path, frame.out)
        return self.without_attempt(vertex, frame, FAILED, failure_upstream)

    def request_missing(self, vertex: Vertex, frame: Frame) -> None:
        """Note the outputs that are missing from the store and that this node may load."""
        if self.lookahead_depth or not self.history.missing:
            return
        while True:
            vertices, seen = vertex.graph.vertices, frame.missing_outputs
            if seen is None:
                seen = frame.missing_outputs = set()
            stack = [at for at in vertex.after if at not in seen]
            seen.update(stack)
            while stack:
                at = stack.pop()
                further = [up for up in vertices[at].after if up not in seen]
                seen.update(further)
                stack += further
                state = frame.states[at]
                if state.end is not None:
                    if self.history.lacks(state.end):
                        self.missing_outputs.add(state.path)
                elif vertices[at].bodies and state.code == DONE:
                    self.wanted_in.add(state.path)
            scope = frame.scope
            if scope is None or scope.missing_outputs:
                return
            scope.missing_outputs = True
            self.wanted_in.update(f"{scope.place}@{turn}" for turn in range(scope.turn))
            vertex, frame = scope.owner, scope.frame

    def want_inside(self) -> None:
        """Note the missing outputs inside the composites that were met: in one look at them all."""
        if self.wanted_in:
            for path in self.history.lacking():
                if any(path[:at] in self.wanted_in for at in cuts(path)):
                    self.missing_outputs.add(path)

    def append_steps(
        self, vertex: Vertex, frame: Frame, action: Action, reason: Reason, detail: str = ""
    ) -> None:
        """A step for a node, and for every node in it, under its template path."""
        append_steps(vertex, frame.prefix + vertex.name, action, reason, frame.out, detail)


def append_steps(
    vertex: Vertex, path: str, action: Action, reason: Reason, out: list[Step], detail: str = ""
) -> None:
    """See :meth:`Context.append_steps`."""
    stack = [(vertex, path)]
    while stack:
        node, at = stack.pop()
        out.append(Step(at, action, reason, None, detail, node.kind))
        for branch, body in reversed(node.bodies.items()):
            inner = f"{at}:{escape(branch)}/" if branch else f"{at}/"
            stack.extend((each, inner + each.name) for each in reversed(body.order))
        detail = ""


def omit_inside(vertex: Vertex, path: str, out: list[Step]) -> None:
    """Nothing in a composite that failed by itself can run."""
    for branch, body in vertex.bodies.items():
        prefix = f"{path}:{escape(branch)}/" if branch else f"{path}/"
        for each in body.order:
            append_steps(each, prefix + each.name, Action.OMIT, Reason.UPSTREAM_FAILED, out)


def is_torn_start(attempt: Attempt | None) -> bool:
    """Whether it says that somebody began, and not who or from what."""
    return type(attempt) is Damaged and attempt.kind != "end"


def _culprits(start: int, graph: Graph, states: list[State]) -> frozenset[int]:
    """The failed nodes that are why a node failed, or is upstream failed, or lacks a value."""
    stack = [start]
    while stack:
        at = stack[-1]
        state = states[at]
        if state.culprits is not None:
            stack.pop()
            continue
        ups: tuple[int, ...] = ()
        if state.code == FAILED:
            state.culprits = _NOBODY if state.interrupted else frozenset((at,))
        elif state.code == UPSTREAM_FAILED or state.failure_upstream:
            ups = graph.vertices[at].after
            direct = [up for up in ups if states[up].code in (FAILED, UPSTREAM_FAILED)]
            # By its trigger; else it lacks a value, since something further up has failed.
            ups = tuple(direct) if direct and state.code == UPSTREAM_FAILED else ups
        unknown = [up for up in ups if states[up].culprits is None]
        if unknown:
            stack += unknown
            continue
        if state.culprits is None:
            state.culprits = _union([known for up in ups if (known := states[up].culprits)])
        stack.pop()
    found = states[start].culprits
    assert found is not None
    return found


def _union(sets: Sequence[frozenset[int]]) -> frozenset[int]:
    """Of sets that are mostly one and the same."""
    distinct = set(sets)
    return distinct.pop() if len(distinct) == 1 else _NOBODY.union(*distinct)


def _given(vertex: Vertex, frame: Frame, name: str) -> Valued | None:
    """What the nearest source in a node's own graph gives."""
    for i in vertex.sources.get(name, ()):
        state = frame.states[i]
        if state.code == DONE and name in state.outputs:
            value = state.outputs[name]
            return value, state.digest(name, value)
    return None


def known(result: str | None) -> str:
    """A result that :func:`~runstore.plan.graph.prepare` found somebody will ask for."""
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
