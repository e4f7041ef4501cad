"""The evaluation of a DAG against a history: one walk, outer before inner, upstream first.

Bodies are evaluated by generators on an explicit stack (:meth:`Evaluation.run`), so nesting meets no
recursion limit. What is decided about a task is in :meth:`Evaluation._task`, and reads like the
table in docs/planning.md.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from operator import is_
from typing import Any, NamedTuple

from runstore.history import Attempt, Damaged, History
from runstore.paths import escape
from runstore.plan.composite import Composites
from runstore.plan.prepare import Graph, Vertex
from runstore.plan.state import (
    AMBIGUOUS,
    DONE,
    FAILED,
    NOT_TAKEN,
    PENDING,
    UPSTREAM_FAILED,
    Scope,
    State,
    visible,
)
from runstore.plan.steps import Action, Reason, Step, Work, within
from runstore.plan.values import (
    end_result,
    ends_digest,
    state_result,
    task_result,
    value_digest,
)
from runstore.records import Consumed, End, Start

__all__ = ["Evaluation"]

_STATES = {NOT_TAKEN: "not_taken", UPSTREAM_FAILED: "upstream_failed", FAILED: "failed"}
_AGAIN = {"failed": Reason.FAILED, "lost": Reason.LOST, "cancelled": Reason.CANCELLED}
_NOTHING: dict[str, str] = {}

Out = list[Step]


class _Kept(NamedTuple):
    """A node that was done, or waited for what it follows: what that rested on, what came of it."""

    touched: int
    ups: list[State]
    state: State
    steps: Out


class Evaluation(Composites):
    """One evaluation. ``steps`` and the states of the outermost graph are what comes of it."""

    def __init__(
        self,
        root: Graph,
        history: History,
        invocation: str | None,
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
        self.focus = focus
        self.remake = remake
        self.wanted: set[str] = set()
        """Paths of missing outputs that something to run may load."""
        self.several = len(history.invocations) > 1 or bool(history.adopted)
        self.asks_ends = root.asks_ends
        self.ahead = 0
        """How many graphs are looked ahead into at the moment: what is found there is no plan."""
        self.parameters: dict[str, tuple[Any, str]] = {}
        self.steps: Out = []
        self.states: list[State] = []

    def run(self) -> int:
        """Evaluate. The status of the whole: DONE, FAILED or PENDING."""
        stack: list[Generator[Any, Any, Any]] = [self.graph(self.root, None, "", False, self.steps)]
        value: Any = None
        while stack:
            try:
                child = stack[-1].send(value)
            except StopIteration as done:
                stack.pop()
                value = done.value
            else:
                stack.append(child)
                value = None
        status: int
        status, self.states = value
        return status

    # -- values ----------------------------------------------------------------------------------

    def find(
        self, vertex: Vertex, name: str, states: list[State], scope: Scope | None
    ) -> tuple[Any, str] | None:
        """What a node gets for a name, with its digest; None if no source has given it."""
        if scope is not None:
            bound = scope.bound.get(name)
            if bound is not None:
                return bound
        for i in vertex.sources.get(name, ()):
            state = states[i]
            if state.code == DONE and name in state.outputs:
                value = state.outputs[name]
                return value, state.digest(name, value)
        while scope is not None:
            known = scope.cache.get(name)
            if known is None:
                known = scope.previous.get(name)
            if known is None:
                for i in scope.owner.sources.get(name, ()):
                    state = scope.states[i]
                    if state.code == DONE and name in state.outputs:
                        value = state.outputs[name]
                        known = scope.cache[name] = (value, state.digest(name, value))
                        break
            if known is not None:
                return known
            scope = scope.parent
        return self.parameter(name)

    def parameter(self, name: str) -> tuple[Any, str] | None:
        """A parameter of the run, with its digest."""
        known = self.parameters.get(name)
        if known is None and name in self.history.run.parameters:
            value = self.history.run.parameters[name]
            known = self.parameters[name] = (value, value_digest(value))
        return known

    # -- a graph ---------------------------------------------------------------------------------

    def graph(
        self, graph: Graph, scope: Scope | None, prefix: str, tentative: bool, out: Out
    ) -> Generator[Any, Any, tuple[int, list[State]]]:
        """Evaluate one graph. ``tentative``: take failures of earlier invocations as settled."""
        settled: set[int] = set()
        waiting: set[int] = set()
        if graph.handlers and not tentative:
            # Whether a failure is handled shows further down: look ahead with every failure taken
            # as settled, and see which of them a handler has consumed.
            self.ahead += 1
            _, ahead = yield self.graph(graph, scope, prefix, True, [])
            self.ahead -= 1
            settled, waiting = self._handled(graph, ahead)
        states: list[State] = [None] * len(graph.vertices)  # type: ignore[list-item]
        wanted = self.focus.get(graph.template) if self.focus is not None else None
        behind_scope = scope is not None and scope.behind
        spans: dict[int, tuple[int, int]] = {}
        kept = self._kept() if graph is self.root else None
        for vertex in graph.order:
            path = prefix + vertex.name
            begin = len(out)
            if kept is not None:
                touched = self.history.touched.get(vertex.name, 0)
                known = kept.get(vertex.at)
                if (
                    known is not None
                    and known.state.code == DONE
                    and known.touched == touched
                    and all(map(is_, known.ups, map(states.__getitem__, vertex.after)))
                ):
                    states[vertex.at] = known.state
                    out += known.steps
                    continue
            if wanted is not None and vertex.node.name not in wanted:
                states[vertex.at] = State(path, PENDING)
                continue
            pending = failed = omitted = succeeded = False
            behind = behind_scope
            for i in vertex.after:
                up = states[i]
                if up.code == DONE:
                    succeeded = True
                elif up.code == PENDING:
                    pending = True
                elif up.code == NOT_TAKEN:
                    omitted = True
                else:
                    failed = True
                if up.behind:
                    behind = True
            if pending:
                # What waited waits in the same words: not said anew each time (1.3 us a node).
                known = kept.get(vertex.at) if kept is not None else None
                before = known.state if known is not None else None
                if known and before and before.code == PENDING and before.behind == behind:
                    states[vertex.at] = before
                    out += known.steps
                    continue
                state = State(path, PENDING, behind)
                self.emit(vertex, path, Action.WAIT, Reason.UPSTREAM_PENDING, out)
            else:
                code = _trigger(vertex.trigger, succeeded, failed, omitted)
                if code is not None:
                    state = self._omitted(vertex, path, code, behind, states, scope, out)
                elif vertex.at in waiting:
                    state = State(path, PENDING, True)
                    state.busy = True
                    self.emit(
                        vertex, path, Action.WAIT, Reason.IN_PROGRESS, out, "its handler is at it"
                    )
                elif vertex.kind == "task":
                    mode = tentative or vertex.at in settled
                    state = self._task(vertex, path, states, scope, behind, mode, out)
                else:
                    mode = tentative or vertex.at in settled
                    state = yield self.composite(vertex, path, states, scope, behind, mode, out)
            states[vertex.at] = state
            if kept is not None and (pending or state.code == DONE):
                ups = [states[i] for i in vertex.after]
                kept[vertex.at] = _Kept(touched, ups, state, out[begin:])
            if graph.handlers:
                spans[vertex.at] = (begin, len(out))
        if tentative and graph.handlers:
            settled, _ = self._handled(graph, states)
        for at in settled:
            if states[at].code == FAILED:
                _settle(out, *spans[at])
        status = DONE
        for vertex in graph.order:
            code = states[vertex.at].code
            if code == PENDING and (wanted is None or vertex.node.name in wanted):
                return PENDING, states
            if code == FAILED and vertex.at not in settled:
                status = FAILED
        return status, states

    def _kept(self) -> dict[int, _Kept] | None:
        """What earlier evaluations of this history found done, or waiting, of the outermost nodes.

        A run of 1,000 steps in a row is planned 1,000 times, each time with one step more that is
        done: to pass one by costs 0.6 us so, not 5, and a map that is done is not looked into
        again. A node is as it was if no record of it came, and what it follows is as it was.
        ``None`` where that is not all: a failure may become handled, an output may be missing.
        """
        history = self.history
        if self.root.handlers or self.focus is not None or history.missing or history.overridden:
            return None
        key = (self.root, self.invocation)
        known = history.kept.get(key)
        if known is None or known[0] is not self.forces:  # another invocation makes other forces
            known = history.kept[key] = (self.forces, {})
        found: dict[int, _Kept] = known[1]
        return found

    def _handled(self, graph: Graph, states: list[State]) -> tuple[set[int], set[int]]:
        """The failed nodes that a handler has consumed, and those it is at this moment."""
        settled: set[int] = set()
        waiting: set[int] = set()
        for handler in graph.handlers:
            state = states[handler.at]
            targets = self.targets(handler, states)
            if not targets:
                continue
            if handler.kind != "task":
                if state.code == DONE:
                    settled |= targets
                elif state.busy:
                    waiting |= targets
                continue
            latest = self.history.latest(state.path)
            if type(latest) is not End and type(latest) is not Start:
                continue
            for at in targets:
                failed = states[at]
                if latest.consumed.results.get(failed.path) == failed.result:
                    if type(latest) is Start:
                        waiting.add(at)
                    elif type(latest) is End and latest.outcome == "succeeded":
                        settled.add(at)
        return settled - waiting, waiting

    @staticmethod
    def targets(handler: Vertex, states: list[State]) -> set[int]:
        """What a handler handles: failed nodes it lists, and those behind what it lists."""
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
                found.add(at)
            elif code == UPSTREAM_FAILED:
                # By its trigger; else it lacks a value, since something further up has failed.
                direct = any(states[up].code in (FAILED, UPSTREAM_FAILED) for up in ups)
                stack.extend((up, not direct) for up in ups)
            elif through and states[at].behind:
                stack.extend((up, True) for up in ups)
        return found

    def _omitted(
        self,
        vertex: Vertex,
        path: str,
        code: int,
        behind: bool,
        states: list[State],
        scope: Scope | None,
        out: Out,
    ) -> State:
        reason = Reason.UPSTREAM_FAILED if code == UPSTREAM_FAILED else Reason.TRIGGER_NOT_MET
        self.emit(vertex, path, Action.OMIT, reason, out)
        return self.without_attempt(vertex, path, code, behind, states, scope)

    def without_attempt(
        self,
        vertex: Vertex,
        path: str,
        code: int,
        behind: bool,
        states: list[State],
        scope: Scope | None,
    ) -> State:
        """The state of a node that was omitted, or failed without an attempt."""
        state = State(path, code, behind or code in (FAILED, UPSTREAM_FAILED))
        if vertex.needed:
            upstream = {states[i].path: _known(states[i].result) for i in vertex.after}
            if scope is not None and vertex.opener:
                for up in map(scope.upstream, vertex.outer):
                    upstream[up.path] = _known(up.result)
                upstream |= _before(scope, [out for out, _ in vertex.turns])
            state.result = state_result(_STATES[code], upstream)
        return state

    # -- a task ----------------------------------------------------------------------------------

    def _task(
        self,
        vertex: Vertex,
        path: str,
        states: list[State],
        scope: Scope | None,
        behind: bool,
        settle: bool,
        out: Out,
    ) -> State:
        """Decide about one task whose upstream is settled and whose trigger is met."""
        params: dict[str, str] = {}
        values: dict[str, Any] = {}
        for name in vertex.params:
            found = self.find(vertex, name, states, scope)
            if found is None:
                return self._missing(vertex, path, name, behind, states, scope, out)
            values[name], params[name] = found
        results = self.results(vertex, states, scope)
        ends = self._ends(vertex, states, scope) if not vertex.cutoff else _NOTHING
        known = self.attempts.get(path)
        latest: Attempt | None = known[-1] if known else self.adopted.get(path)
        detail = ""
        if latest is None:
            latest, reason = self._unseen(path)
        elif self.history.overridden and (worse := self.history.overriding(path)):
            latest, reason = worse, _damage(worse)
        elif type(latest) is End:
            number = latest.attempt if known else 0
            if known is not None and len(known) > 1 and _still_open(known):
                reason = Reason.IN_PROGRESS
            elif self.forces.get(path, -1) >= number:
                reason = Reason.FORCED
            elif latest.outcome == "succeeded" or settle or latest.invocation == self.invocation:
                detail = self._differs(vertex, latest, params, results, ends, states, scope)
                if latest.outcome == "succeeded":
                    if not detail and path not in self.remake:
                        return self._done(vertex, path, latest, behind, states, scope, out)
                    reason = Reason.STALE if detail else Reason.OUTPUT_MISSING
                elif (latest.invocation == self.invocation and known) or not detail:
                    return self._failed(vertex, path, latest, out)
                else:
                    reason = _AGAIN[latest.outcome]
            else:
                reason = _AGAIN[latest.outcome]
        elif type(latest) is Start:
            reason = Reason.IN_PROGRESS
        else:
            assert isinstance(latest, Damaged)
            reason = _damage(latest)
        state = State(path, PENDING, behind)
        if reason is Reason.IN_PROGRESS:
            state.busy = True
            shown = next(filter(_is_open, known), latest) if known else latest
            out.append(Step(path, Action.WAIT, reason, shown, _who(shown)))
            return state
        if not detail and type(latest) is End and latest.error and latest.outcome != "succeeded":
            detail = _first_line(latest.error)
        elif type(latest) is Damaged:
            detail = latest.problem
        work = Work(
            vertex.node,  # type: ignore[arg-type]
            self.number(path) + 1,
            values,
            Consumed(params, {}, results, ends),
            partial(visible, vertex, states, scope),
        )
        out.append(Step(path, Action.RUN, reason, latest, detail, "task", work))
        if self.history.missing:
            self.want(vertex, states, scope)
        return state

    def number(self, path: str) -> int:
        """The highest attempt number seen at a path, damaged records of unknown paths included."""
        return self.history.last_number(path)

    def _unseen(self, path: str) -> tuple[Attempt | None, Reason]:
        damaged = self.history.nameless(path)
        if damaged is None:
            return None, Reason.NEVER_RAN
        return damaged, _damage(damaged)

    def _missing(
        self,
        vertex: Vertex,
        path: str,
        name: str,
        behind: bool,
        states: list[State],
        scope: Scope | None,
        out: Out,
    ) -> State:
        """No source has given a parameter, and the node's turn has come."""
        if behind:
            self.emit(vertex, path, Action.OMIT, Reason.UPSTREAM_FAILED, out)
            return self.without_attempt(vertex, path, UPSTREAM_FAILED, behind, states, scope)
        self.emit(
            vertex,
            path,
            Action.FAILED,
            Reason.PARAMETER_MISSING,
            out,
            f"nothing that ran gave {path} its parameter {name!r}",
        )
        return self.without_attempt(vertex, path, FAILED, behind, states, scope)

    def _done(
        self,
        vertex: Vertex,
        path: str,
        end: End,
        behind: bool,
        states: list[State],
        scope: Scope | None,
        out: Out,
    ) -> State:
        state = State(path, DONE, behind)
        state.end = end
        state.outputs = end.outputs
        if end.artifacts:
            state.artifacts = {name: (blob, path) for name, blob in end.artifacts.items()}
        if vertex.needed:
            state.result = task_result(end.outputs, end.artifacts, end.digest)
        if self.asks_ends:
            state.ends = [end.digest]
        reason = Reason.SUCCEEDED
        if self.several:
            state.newest = end.invocation
            ups = [states[i] for i in vertex.after]
            if scope is not None and vertex.opener:
                ups = [scope.upstream(up) for up in vertex.outer]
            if any(up.newest > end.invocation for up in ups):
                reason = Reason.UNCHANGED
        out.append(Step(path, Action.SKIP, reason, end))
        return state

    def _failed(self, vertex: Vertex, path: str, end: End, out: Out) -> State:
        state = State(path, FAILED, True)
        state.end = end
        state.newest = end.invocation
        state.result = end_result(end.digest)
        if self.asks_ends:
            state.ends = [end.digest]
        detail = _first_line(end.error) if end.error else end.outcome
        out.append(Step(path, Action.FAILED, Reason.FAILED_NOW, end, detail))
        return state

    def results(self, vertex: Vertex, states: list[State], scope: Scope | None) -> dict[str, str]:
        """The results a node consumes: of what it only follows, and of what it handles."""
        results: dict[str, str] = {}
        for i in vertex.order_only:
            results[states[i].path] = _known(states[i].result)
        if vertex.handles:
            for i in self.targets(vertex, states):
                results[states[i].path] = _known(states[i].result)
        if scope is not None and vertex.opener:
            for up in vertex.outer_only:
                state = scope.upstream(up)
                results[state.path] = _known(state.result)
            if vertex.turns_only:
                results |= _before(scope, vertex.turns_only)
            results.update(scope.handled)
        return results

    def _ends(self, vertex: Vertex, states: list[State], scope: Scope | None) -> dict[str, str]:
        """The latest end records of everything a node transitively follows."""
        found: dict[str, str] = {}
        here: Vertex | None = vertex
        while here is not None:
            seen: set[int] = set()
            stack = list(here.after)
            while stack:
                at = stack.pop()
                if at in seen:
                    continue
                seen.add(at)
                stack.extend(here.graph.vertices[at].after)
                if states[at].ends:
                    found[states[at].path] = ends_digest(states[at].ends or ())
            if scope is None:
                break
            if scope.previous_ends is not None and scope.previous_ends[1]:
                found[scope.previous_ends[0]] = ends_digest(scope.previous_ends[1])
            here, states, scope = scope.owner, scope.states, scope.parent
        return found

    def _differs(
        self,
        vertex: Vertex,
        end: End,
        params: dict[str, str],
        results: dict[str, str],
        ends: dict[str, str],
        states: list[State],
        scope: Scope | None,
    ) -> str:
        """What an attempt consumed that its upstream has otherwise now; empty if nothing."""
        had = end.consumed
        if had.params != params:
            for name in params:
                if had.params.get(name) != params[name]:
                    return f"parameter {name!r} has another value now"
            return "it read other parameters"
        if had.artifacts:
            seen = visible(vertex, states, scope)
            for address, (digest, _) in had.artifacts.items():
                now = seen.get(address)
                if now is None or now[1] == AMBIGUOUS or now[0].sha256 != digest:
                    return f"artifact {address!r} has another content now"
            if not vertex.every:
                sources = [source for _, source in had.artifacts.values() if source]
                results = {
                    path: result
                    for path, result in results.items()
                    if not any(within(source, path) for source in sources)
                }
        if had.results != results:
            for path in results:
                if had.results.get(path) != results[path]:
                    return f"{path} ran again since, or gives another result now"
            return "it followed other nodes"
        if not vertex.cutoff and had.ends != ends:
            return "something it follows ran again, and it asks for that (cutoff: false)"
        changed = self.stale_structure.get(end.invocation)
        if changed is not None and vertex.template in changed:
            return "its structure has changed"
        return ""

    # -- missing outputs -------------------------------------------------------------------------

    def want(self, vertex: Vertex, states: list[State], scope: Scope | None) -> None:
        """Note the outputs that are missing from the store and that this node may load."""
        if self.ahead:
            return
        here: Vertex = vertex
        while True:
            seen: set[int] = set()
            stack = list(here.after)
            while stack:
                at = stack.pop()
                if at in seen:
                    continue
                seen.add(at)
                stack.extend(here.graph.vertices[at].after)
                state = states[at]
                if state.end is not None:
                    if self._lacks(state.end):
                        self.wanted.add(state.path)
                elif here.graph.vertices[at].bodies and state.code == DONE:
                    self._want_all(state.path)
            if scope is None:
                return
            for turn in range(scope.turn):
                self._want_all(f"{scope.place}@{turn}")
            here, states, scope = scope.owner, scope.states, scope.parent

    def _want_all(self, inside: str) -> None:
        self.wanted.update(path for path in self.history.lacking() if within(path, inside))

    def _lacks(self, end: End) -> bool:
        return any(blob in self.history.missing for blob in self.history.blobs_of(end))

    # -- what is said of nodes that are not looked into --------------------------------------------

    def emit(
        self, vertex: Vertex, path: str, action: Action, reason: Reason, out: Out, detail: str = ""
    ) -> None:
        """A step for a node, and for every node in it, under its template path."""
        stack = [(vertex, path)]
        while stack:
            node, at = stack.pop()
            out.append(Step(at, action, reason, None, detail, node.kind))
            for branch, body in reversed(node.bodies.items()):
                inner = f"{at}:{escape(branch)}/" if branch else f"{at}/"
                stack.extend((each, inner + each.name) for each in reversed(body.order))
            detail = ""


def _trigger(trigger: str, succeeded: bool, failed: bool, omitted: bool) -> int | None:
    """None if the trigger is met, else what becomes of the node."""
    if trigger == "all_success":
        if failed:
            return UPSTREAM_FAILED
        return NOT_TAKEN if omitted else None
    if trigger == "one_success":
        if succeeded:
            return None
        return UPSTREAM_FAILED if failed else NOT_TAKEN
    if trigger == "one_failed":
        return None if failed else NOT_TAKEN
    return None


def _settle(out: Out, begin: int, end: int) -> None:
    """Say of a failure, and of those inside it, that it is handled."""
    for step in out[begin:end]:
        if step.action is Action.FAILED:
            step.action, step.reason = Action.SKIP, Reason.HANDLED


def _before(scope: Scope, turns: Sequence[int]) -> dict[str, str]:
    """The results of the iterations before, of the loops that stand so far out."""
    results: dict[str, str] = {}
    here: Scope | None = scope
    for out in range(max(turns, default=-1) + 1):
        assert here is not None
        if out in turns and here.previous_result is not None:
            results[here.previous_result[0]] = here.previous_result[1]
        here = here.parent
    return results


def _damage(record: Damaged) -> Reason:
    """A damaged end is an end; a damaged start says that somebody began."""
    return Reason.OUTPUT_MISSING if record.kind == "end" else Reason.IN_PROGRESS


def _known(result: str | None) -> str:
    assert result is not None, "prepare() marks every result that is asked for"
    return result


def _is_open(attempt: Attempt) -> bool:
    return type(attempt) is Start


def _still_open(known: list[Attempt]) -> bool:
    return any(type(attempt) is Start for attempt in known)


def _who(record: Attempt | None) -> str:
    if type(record) is Start:
        return f"attempt {record.attempt}, {record.by}, since {record.time}"
    return record.problem if type(record) is Damaged else ""


def _first_line(error: Mapping[str, str]) -> str:
    message = error.get("message", "").strip()
    first = message.splitlines()[0] if message else ""
    return f"{error.get('type', 'error')}: {first}" if first else error.get("type", "error")
