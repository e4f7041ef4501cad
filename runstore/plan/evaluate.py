"""The evaluation of a DAG against a history: one walk, outer before inner, upstream first.

Graphs are evaluated by generators on an explicit stack (:meth:`Evaluation.run`), so nesting meets
no recursion limit. What is decided about a task is in :mod:`runstore.plan.tasks`, about a composite
in :mod:`runstore.plan.composite`.
"""

from __future__ import annotations

from collections.abc import Generator
from operator import is_
from typing import Any, NamedTuple

from msgspec.structs import replace

from runstore.plan.composite import Composites
from runstore.plan.graph import Vertex
from runstore.plan.handlers import Handlers
from runstore.plan.state import DONE, FAILED, NOT_TAKEN, PENDING, UPSTREAM_FAILED, Frame, State
from runstore.plan.steps import Action, Reason, Step
from runstore.plan.tasks import Tasks

__all__ = ["Evaluation", "Kept"]


class _Settled(NamedTuple):
    """A node that was done, or waited for what it follows: what that rested on, what came of it."""

    touched: int
    ups: list[State]
    state: State
    steps: list[Step]


Kept = dict[int, _Settled]
"""What earlier evaluations of the same history found of the outermost nodes. A node is as it was if
no record of it came, and what it follows is as it was."""

_NONE: frozenset[int] = frozenset()


class Evaluation(Tasks, Composites, Handlers):
    """One evaluation. ``steps`` and the outermost ``states`` are what comes of it."""

    steps: list[Step]
    states: list[State]

    def run(self, kept: Kept | None = None) -> int:
        """Evaluate. The status of the whole: DONE, FAILED or PENDING.

        :param kept: to be used and added to.
        """
        self.steps = []
        self._kept = kept
        outermost = Frame(self.root, None, "", "", None, False, self.steps)
        stack: list[Generator[Any, Any, Any]] = [self.graph(outermost)]
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
        self.states = outermost.states
        status: int = value
        return status

    def graph(self, frame: Frame) -> Generator[Any, Any, int]:
        """Evaluate one graph; its status. The states are left in the frame."""
        graph, states, out, tentative = frame.graph, frame.states, frame.out, frame.tentative
        settled = waiting = _NONE
        if graph.handlers and not tentative:
            # Whether a failure is handled shows further down: look ahead with every failure taken
            # as settled, and see which of them a handler has consumed. A look-ahead around this
            # graph has seen it as it is: its turn comes when nothing that it follows is to run.
            if frame.prefix not in self.seen_ahead:
                ahead = Frame(graph, frame.scope, frame.prefix, frame.key, frame.item, True, [])
                self.lookahead_depth += 1
                yield self.graph(ahead)
                self.lookahead_depth -= 1
            settled, waiting = self.seen_ahead[frame.prefix]
        missing_outputs = self.focus.get(graph.template) if self.focus is not None else None
        behind_scope = frame.scope is not None and frame.scope.failure_upstream
        begins: dict[int, int] = {}
        kept = self._kept if frame.scope is None else None
        for vertex in graph.order:
            begin = len(out)
            if kept is not None:
                touched = self.history.touched.get(vertex.name, 0)
                before = kept.get(vertex.at)
                if (
                    before is not None
                    and before.state.code == DONE
                    and before.touched == touched
                    and all(map(is_, before.ups, map(states.__getitem__, vertex.after)))
                ):
                    states[vertex.at] = before.state
                    out += before.steps
                    continue
            if missing_outputs is not None and vertex.node.name not in missing_outputs:
                states[vertex.at] = State(frame.prefix + vertex.name, PENDING)
                continue
            code, failure_upstream = _upstream(vertex, states, behind_scope)
            settle = tentative or vertex.at in settled
            if code == PENDING:
                before = kept.get(vertex.at) if kept is not None else None
                if (
                    before is not None
                    and before.state.code == PENDING
                    and before.state.failure_upstream == failure_upstream
                ):
                    # It waits as before: its steps are the same.
                    states[vertex.at] = before.state
                    begins[vertex.at] = begin
                    out += before.steps
                    continue
                state = State(frame.prefix + vertex.name, PENDING, failure_upstream)
                self.append_steps(vertex, frame, Action.WAIT, Reason.UPSTREAM_PENDING)
            elif code is not None:
                state = self._omitted(vertex, frame, code, failure_upstream)
            elif vertex.at in waiting:
                state = State(frame.prefix + vertex.name, PENDING, True)
                self.append_steps(
                    vertex, frame, Action.WAIT, Reason.IN_PROGRESS, "its handler is at it"
                )
            elif vertex.kind == "task":
                state = self.task(vertex, frame, failure_upstream, settle)
            else:
                state = yield self.composite(vertex, frame, failure_upstream, settle)
            states[vertex.at] = state
            if kept is not None and (code == PENDING or state.code == DONE):
                ups = [states[i] for i in vertex.after]
                kept[vertex.at] = _Settled(touched, ups, state, out[begin:])
            if state.code == PENDING or state.code == FAILED:
                begins[vertex.at] = begin
                if state.code == FAILED and vertex.at in settled:
                    out[begin:] = map(_handled, out[begin:])
        if graph.handlers and tentative:
            found = settled, _ = self.handled(graph, states)
            if self.lookahead_depth:
                self.seen_ahead[frame.prefix] = found
        open_ = [at for at in begins if states[at].code == PENDING or at not in settled]
        for at in open_:
            frame.say(out[begins[at]])
        codes = {states[at].code for at in open_}
        return PENDING if PENDING in codes else FAILED if codes else DONE

    def leaf(self, frame: Frame) -> int:
        """:meth:`graph`, for a plain body, without a generator: a map has one for each item."""
        behind_scope = frame.scope is not None and frame.scope.failure_upstream
        states, status, out = frame.states, DONE, frame.out
        for vertex in frame.graph.order:
            begin = len(out)
            code, failure_upstream = None, behind_scope
            if not vertex.always_runs:
                code, failure_upstream = _upstream(vertex, states, behind_scope)
            if code is None:
                state = self.task(vertex, frame, failure_upstream, frame.tentative)
            elif code == PENDING:
                state = State(frame.prefix + vertex.name, PENDING, failure_upstream)
                self.append_steps(vertex, frame, Action.WAIT, Reason.UPSTREAM_PENDING)
            else:
                state = self._omitted(vertex, frame, code, failure_upstream)
            states[vertex.at] = state
            if state.code == PENDING or state.code == FAILED:
                if status != PENDING:
                    status = state.code
                frame.say(out[begin])
        return status

    def _omitted(self, vertex: Vertex, frame: Frame, code: int, failure_upstream: bool) -> State:
        missed = code == NOT_TAKEN
        reason = Reason.TRIGGER_NOT_MET if missed else Reason.UPSTREAM_FAILED
        self.append_steps(vertex, frame, Action.OMIT, reason)
        return self.without_attempt(vertex, frame, code, failure_upstream)


def _upstream(
    vertex: Vertex, states: list[State], failure_upstream: bool
) -> tuple[int | None, bool]:
    """What becomes of a node by what it follows, ``None`` if its turn has come; and whether
    anything it follows failed."""
    pending = failed = omitted = succeeded = False
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
        if up.failure_upstream:
            failure_upstream = True
    if pending:
        return PENDING, failure_upstream
    return _trigger(vertex.trigger, succeeded, failed, omitted), failure_upstream


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


def _handled(step: Step) -> Step:
    """What is said of a failure, and of those inside it, once it is handled."""
    if step.action is not Action.FAILED:
        return step
    return replace(step, action=Action.SKIP, reason=Reason.HANDLED)
