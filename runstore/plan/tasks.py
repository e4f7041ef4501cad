"""What is decided about one task. Reads like the table in docs/planning.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from runstore.plan.artifacts import AMBIGUOUS, Sight, find
from runstore.plan.context import Context
from runstore.plan.digests import end_result, task_result
from runstore.plan.graph import Vertex
from runstore.plan.history import Attempt, Damaged
from runstore.plan.state import DONE, FAILED, PENDING, Frame, State
from runstore.plan.steps import Action, Reason, Step, Values, Work, cuts, not_loaded
from runstore.records import Consumed, End, Start

__all__ = ["Tasks"]

_AGAIN = {"failed": Reason.FAILED, "lost": Reason.LOST, "cancelled": Reason.CANCELLED}
_NOTHING: dict[str, str] = {}


class Tasks(Context):
    """The part of :class:`~runstore.plan.evaluate.Evaluation` that knows tasks."""

    def task(self, vertex: Vertex, frame: Frame, failure_upstream: bool, settle: bool) -> State:
        """Decide about a task whose upstream is settled and whose trigger is met.

        :param settle: a failure of an earlier invocation is settled, if it consumed what its
            upstream has now. What was lost or cancelled never is: it did not fail.
        """
        params: dict[str, str] = {}
        values: dict[str, Any] = {}
        for name in vertex.params:
            found = self.find(vertex, name, frame)
            if found is None:
                return self.lacking(vertex, name, frame, failure_upstream)
            values[name], params[name] = found
        needs_results = vertex.needs_results or (frame.scope is not None and frame.scope.handled)
        results = self.results(vertex, frame) if needs_results else _NOTHING
        ends = _NOTHING if vertex.cutoff else self._ends(vertex, frame)
        path = frame.prefix + vertex.name
        attempts = self.attempts.get(path)
        latest: Attempt | None = attempts[-1] if attempts else self.adopted.get(path)
        detail = ""
        tried = 0
        if self.overridden and (worse := self.history.overriding(path)):
            latest = worse
        if latest is None:
            reason = Reason.NEVER_RAN
        elif type(latest) is End:
            number = latest.attempt if attempts else 0
            if number > 1 and attempts and any(map(_is_open, attempts)):
                reason = Reason.IN_PROGRESS
            elif self.forces and self.forces.get(path, -1) >= number:
                reason = Reason.FORCED
            elif latest.outcome == "succeeded":
                detail = self._differs(vertex, latest, params, results, ends, frame)
                if not detail and path not in self.to_regenerate:
                    return self._done(path, vertex, latest, frame, failure_upstream)
                reason = Reason.STALE if detail else Reason.OUTPUT_MISSING
            elif attempts and self._has_tries_left(latest):
                assert latest.try_ is not None
                reason, tried = Reason.RETRY, latest.try_
                why = f": {_first_line(latest.error)}" if latest.error else ""
                detail = f"{tried + 1} of {latest.of}{why}"
            elif (attempts and latest.invocation == self.invocation) or (
                settle
                and latest.outcome == "failed"
                and not self._differs(vertex, latest, params, results, ends, frame)
            ):
                return self._failed(path, vertex, latest, frame)
            else:
                reason = _AGAIN[latest.outcome]
                detail = _first_line(latest.error) if latest.error else ""
        elif type(latest) is Damaged and latest.kind == "end":
            # A damaged end is an end; a damaged start says that somebody began.
            reason, detail = Reason.OUTPUT_MISSING, latest.problem
        else:
            reason = Reason.IN_PROGRESS
        state = State(path, PENDING, failure_upstream)
        if reason is Reason.IN_PROGRESS:
            if self.overridden:  # by its key alone it is not among the attempts
                self.at_work.update(path[:at] for at in cuts(path))
            shown = next(filter(_is_open, attempts), latest) if attempts else latest
            frame.out.append(Step(path, Action.WAIT, reason, shown, _who(shown)))
            return state
        work = Work(
            vertex.node,  # type: ignore[arg-type]
            self.history.last_number(path) + 1,
            Values(values),
            Consumed(params, {}, results, ends),
            partial(Sight, vertex, frame),
            (tried + 1, max(vertex.tries, tried + 1)) if vertex.tries > 1 or tried else None,
        )
        frame.out.append(Step(path, Action.RUN, reason, latest, detail, "task", work))
        self.request_missing(vertex, frame)
        return state

    def _has_tries_left(self, end: End) -> bool:
        """Whether an attempt failed in this very invocation, which meant to try it more often."""
        if end.outcome != "failed" or end.invocation != self.invocation:
            return False
        return end.try_ is not None and end.of is not None and end.try_ < end.of

    def _done(
        self, path: str, vertex: Vertex, end: End, frame: Frame, failure_upstream: bool
    ) -> State:
        state = State(path, DONE, failure_upstream, end, end.outputs)
        if end.artifacts:
            state.artifacts = {name: (blob, path) for name, blob in end.artifacts.items()}
        if vertex.needed:
            state.result = task_result(end.outputs, end.artifacts, end.digest)
        if self.asks_ends:
            state.trace = self.trace(vertex, frame, [end.digest])
        reason = Reason.SUCCEEDED
        if self.several:
            state.newest = end.invocation
            ups = [frame.states[i] for i in vertex.after]
            if vertex.is_root and frame.scope is not None:
                ups = [frame.upstream(up) for up in vertex.outer]
            if any(up.newest > end.invocation for up in ups):
                reason = Reason.UNCHANGED
        frame.out.append(Step(path, Action.SKIP, reason, end))
        return state

    def _failed(self, path: str, vertex: Vertex, end: End, frame: Frame) -> State:
        state = State(path, FAILED, True, end)
        state.interrupted = end.outcome != "failed"
        state.reopens = end.invocation != self.invocation
        state.newest = end.invocation
        state.result = end_result(end.digest)
        if self.asks_ends:
            state.trace = self.trace(vertex, frame, [end.digest])
        detail = _first_line(end.error) if end.error else end.outcome
        frame.out.append(Step(path, Action.FAILED, Reason.FAILED_NOW, end, detail))
        return state

    def _ends(self, vertex: Vertex, frame: Frame) -> dict[str, str]:
        """The latest end records of everything a node transitively follows."""
        if vertex.after:
            return {frame.states[i].path: frame.states[i].trace for i in vertex.after}
        scope = frame.scope
        if scope is None or not scope.trace:
            return {}
        return {scope.frame.prefix + scope.owner.name: scope.trace}

    def _differs(
        self,
        vertex: Vertex,
        end: End,
        params: dict[str, str],
        results: Mapping[str, str],
        ends: dict[str, str],
        frame: Frame,
    ) -> str:
        """What an attempt consumed that its upstream has otherwise now; empty if nothing."""
        had = end.consumed
        if had.params != params:
            for name, digest in params.items():
                if had.params.get(name) != digest:
                    return f"parameter {name!r} has another value now"
            return "it read other parameters"
        if had.artifacts:
            for address, one in had.artifacts.items():
                found = find(vertex, frame, address)
                if found is None or found[1] == AMBIGUOUS or found[0].sha256 != one.sha256:
                    return f"artifact {address!r} has another content now"
            if results and not vertex.consumes_all_upstream:
                results = not_loaded(results, had.artifacts)
        if had.results != results:
            for path, result in results.items():
                if had.results.get(path) != result:
                    return f"{path} ran again since, or gives another result now"
            return "it followed other nodes"
        if not vertex.cutoff and had.ends != ends:
            return "something it follows ran again, and it asks for that (cutoff: false)"
        if self.stale_structure:
            # An attempt whose invocation is not known (a fork took it over) is as the run itself.
            made_by = end.invocation if end.invocation in self.history.invocations else ""
            changed = self.stale_structure.get(made_by)
            if changed is not None and vertex.template in changed:
                return "its structure has changed"
        return ""


def _is_open(attempt: Attempt) -> bool:
    return type(attempt) is Start


def _who(record: Attempt | None) -> str:
    if type(record) is Start:
        return f"attempt {record.attempt}, {record.by}, since {record.time}"
    return record.problem if type(record) is Damaged else ""


def _first_line(error: Mapping[str, str]) -> str:
    message = error.get("message", "").strip()
    first = message.splitlines()[0] if message else ""
    return f"{error.get('type', 'error')}: {first}" if first else error.get("type", "error")
