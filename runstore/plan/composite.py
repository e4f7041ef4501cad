"""How maps, conditionals, parallels and loops are evaluated: from recorded values, body by body."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from hashlib import sha256
from typing import Any

from runstore.canonical import digest, dumps
from runstore.paths import escape
from runstore.plan.artifacts import hand_on
from runstore.plan.context import Context, append_steps, omit_inside
from runstore.plan.digests import composite_result, ends_digest, shown
from runstore.plan.graph import Graph, Vertex
from runstore.plan.state import DONE, FAILED, PENDING, Frame, Saved, Scope, State, Valued, order
from runstore.plan.steps import Action, Reason, Step
from runstore.records import Blob, Secret

__all__ = ["Composites", "exports"]

Made = tuple[int, list[Frame], dict[str, Any], Step | None]
"""Status, bodies, outputs; and, of a composite that failed by itself, why."""


class Composites(Context):
    """The part of :class:`~runstore.plan.evaluate.Evaluation` that knows the composite kinds."""

    def composite(
        self, vertex: Vertex, frame: Frame, failure_upstream: bool, settle: bool
    ) -> Generator[Any, Any, State]:
        """Evaluate a composite whose upstream is settled and whose trigger is met."""
        path, out = frame.prefix + vertex.name, frame.out
        scope = Scope(vertex, frame, failure_upstream)
        if self.asks_ends:
            scope.trace = self.followed(vertex, frame)
        if frame.scope is not None and vertex.is_root:
            scope.handled = frame.scope.handled
        if vertex.handles:
            handled = {
                frame.states[i].path: frame.states[i].result or ""
                for i in self.targets(vertex, frame.states)
            }
            scope.handled = {**scope.handled, **handled}
        value: Any = None
        params: dict[str, str] = {}
        for name in vertex.reader:
            found = self.find(vertex, name, frame)
            if found is None:
                return self.lacking(vertex, name, frame, failure_upstream)
            value, params[name] = found
            value = self._content(value)
            if value is _UNREAD:
                self.append_steps(vertex, frame, Action.WAIT, _UNKNOWN[vertex.kind])
                self.request_missing(vertex, frame)
                return State(path, PENDING, failure_upstream)
        at = len(out)
        out.append(Step(path, Action.SKIP, Reason.SUCCEEDED, None, "", vertex.kind))
        inside = Inside(vertex, path, scope, frame, settle)
        made: Made
        match vertex.kind:
            case "map":
                made = yield self._map(inside, value)
            case "conditional":
                made = yield self._conditional(inside, value)
            case "parallel":
                made = yield self._parallel(inside)
            case _:
                made = yield self._loop(inside)
        status, bodies, outputs, refusal = made
        if refusal is not None:
            out[at] = refusal
        elif status != DONE:
            out[at] = _summary(out[at], status, bodies)
        return self._state(inside, status, bodies, outputs, params)

    def _state(
        self,
        inside: Inside,
        status: int,
        bodies: list[Frame],
        outputs: dict[str, Any],
        params: dict[str, str],
    ) -> State:
        vertex = inside.vertex
        state = State(inside.path, status, inside.scope.failure_upstream or status == FAILED)
        saved: dict[str, Frame] = {}
        for body in bodies:
            for each in body.states:
                if each.failure_upstream:
                    state.failure_upstream = True
                if each.interrupted:
                    state.interrupted = True
                if each.reopens:
                    state.reopens = True
                if each.newest > state.newest:  # noqa: PLR1730 - max() costs 0.1 us an item
                    state.newest = each.newest
                if each.artifacts or each.bodies:
                    saved[body.prefix] = body
        if status == DONE:
            state.outputs = outputs
            if saved:
                state.bodies = saved
                if vertex.kind == "loop":
                    state.artifacts = inside.scope.earlier
                else:
                    state.artifacts = hand_on(vertex.kind, saved.values())
        if self.asks_ends:
            inner = [each.trace for body in bodies for each in body.states if each.trace]
            state.trace = self.trace(vertex, inside.frame, inner)
        if vertex.needed and status != PENDING:
            results = {
                body.key: {v.node.name: body.states[v.at].result for v in body.graph.vertices}
                for body in bodies
            }
            own = self.results(vertex, inside.frame)
            state.result = composite_result(vertex.kind, params, own, results)
        return state

    def _content(self, value: Any) -> Any:
        """A deciding value itself, where it stands in a blob. One in a codec, which is no JSON and
        is not read, stays that blob; so does a list that has one in it."""
        if type(value) is Blob:
            if value.codec is not None:
                return value
            return self.history.values.get(value.sha256, _UNREAD)
        if type(value) is list:
            if set(map(type, value)).isdisjoint((Blob, list)):
                return value
            items = [self._content(item) for item in value]
            for item in items:
                if type(item) is Blob:
                    return item
            return _UNREAD if any(item is _UNREAD for item in items) else items
        return value

    def _map(self, inside: Inside, value: Any) -> Generator[Any, Any, Made]:
        vertex, path = inside.vertex, inside.path
        body = vertex.bodies[""]
        if type(value) is not list:
            return inside.refuse(
                Reason.NOT_A_LIST,
                f"{path} maps over {vertex.reader[0]!r}, which is {shown(value)}: not a list",
            )
        if self.lists is not None:
            self.lists[path] = value
        only = self.focus.get(path) if self.focus is not None else None
        seen: dict[str, int] = {}
        bodies: list[Frame] = []
        status = DONE
        out, scope, settle = inside.frame.out, inside.scope, inside.settle
        plain = body.plain and (self.focus is None or body.template not in self.focus)
        for item in value:
            canonical = dumps(item)
            text = canonical.decode()
            count = seen[text] = seen.get(text, 0) + 1
            key = text if count == 1 else f"{text}#{count}"
            if only is not None and key not in only:
                continue
            valued = (item, sha256(canonical).hexdigest())
            at = Frame(body, scope, f"{path}[{key}]/", key, valued, settle, out)
            code = self.leaf(at) if plain else (yield self.graph(at))
            if code != DONE:
                status = _worse(status, code)
            bodies.append(at)
        outputs: dict[str, Any] = {}
        if status == DONE:
            for given, givers in body.dag.wiring.exports.items():
                outputs[given] = [_export(givers, at.states, given) for at in bodies]
        return status, bodies, outputs, None

    def _conditional(self, inside: Inside, value: Any) -> Generator[Any, Any, Made]:
        vertex, path, out = inside.vertex, inside.path, inside.frame.out
        text = value if type(value) is str else None
        if text is None and type(value) not in (Secret, Blob):
            text = dumps(value).decode()
        if type(value) is Blob:
            return inside.refuse(
                Reason.NO_BRANCH, f"{vertex.reader[0]!r} of {path} is {shown(value)}"
            )
        branch = text if text in vertex.bodies else vertex.node.default  # type: ignore[union-attr]
        if branch is None:
            names = ", ".join(map(repr, sorted(vertex.bodies)))
            return inside.refuse(
                Reason.NO_BRANCH,
                f"{vertex.reader[0]!r} of {path} is {shown(value)}, which names no branch: "
                f"there are {names}, and no default",
            )
        taken = vertex.bodies[branch]
        at = inside.body(taken, f"{path}:{escape(branch)}/", branch)
        status = yield self.graph(at)
        for other, graph in vertex.bodies.items():
            if other != branch:
                prefix = f"{path}:{escape(other)}/"
                for each in graph.order:
                    append_steps(each, prefix + each.name, Action.OMIT, Reason.NOT_TAKEN, out)
        outputs = exports(taken, at.states) if status == DONE else {}
        return status, [at], outputs, None

    def _parallel(self, inside: Inside) -> Generator[Any, Any, Made]:
        status = DONE
        bodies: list[Frame] = []
        outputs: dict[str, Any] = {}
        only = self.focus.get(inside.path) if self.focus is not None else None
        for branch, graph in inside.vertex.bodies.items():
            if only is not None and branch not in only:
                continue
            at = inside.body(graph, f"{inside.path}:{escape(branch)}/", branch)
            status = _worse(status, (yield self.graph(at)))
            bodies.append(at)
            outputs |= exports(graph, at.states)
        return status, bodies, outputs, None

    def _loop(self, inside: Inside) -> Generator[Any, Any, Made]:
        vertex, path = inside.vertex, inside.path
        body = vertex.bodies[""]
        node = vertex.node
        limit: int = node.max_iterations  # type: ignore[union-attr]
        until: str = node.until  # type: ignore[union-attr]
        bodies: list[Frame] = []
        latest: dict[str, Any] = {}
        valued: dict[str, tuple[Any, str]] = {}
        earlier: dict[str, Saved] = {}
        turns: dict[str, Frame] = {}
        first = inside.scope
        for i in range(limit):
            scope = inside.scope = Scope(vertex, inside.frame, first.failure_upstream)
            scope.handled = first.handled
            scope.previous, scope.earlier, scope.turns = dict(valued), earlier, turns
            scope.place, scope.turn, scope.trace = path, i, first.trace
            if bodies:
                before = bodies[-1].states
                scope.failure_upstream = first.failure_upstream or any(
                    state.failure_upstream for state in before
                )
                previous = f"{path}@{i - 1}"
                if vertex.needed:
                    results = {v.node.name: before[v.at].result for v in body.vertices}
                    result = composite_result("iteration", {}, {}, results)
                    scope.previous_result = (previous, result)
                if self.asks_ends:
                    # What opened the iteration before follows the others.
                    made = [state.trace for state in before if state.trace]
                    scope.trace = ends_digest(made, [first.trace])
            at = inside.body(body, f"{path}@{i}/", str(i), (i, digest(i)))
            status = yield self.graph(at)
            bodies.append(at)
            if status != DONE:
                inside.scope = first
                return status, bodies, {}, None
            for given, value in exports(body, at.states).items():
                latest[given] = value
                state = at.states[_giver(body, at.states, given)]
                valued[given] = (value, state.digest(given, value))
            if any(state.artifacts or state.bodies for state in at.states):
                saved = hand_on("loop", [at])
                if earlier:
                    earlier.update(saved)
                else:
                    earlier = saved
                turns[at.prefix] = at
            ended = self._content(latest.get(until))
            if type(ended) is Blob:
                inside.scope = first
                return inside.failed(bodies, f"{until!r} of {path} is {shown(ended)}")
            if ended is True:
                first.earlier = earlier
                inside.scope = first
                return DONE, bodies, latest, None
        inside.scope = first
        detail = f"{path} reached max_iterations ({limit}) and {until!r} was never true"
        return inside.failed(bodies, detail)


class Inside:
    """A composite at work: what its bodies are evaluated with."""

    __slots__ = ("frame", "path", "scope", "settle", "vertex")

    def __init__(self, vertex: Vertex, path: str, scope: Scope, frame: Frame, settle: bool) -> None:
        self.vertex = vertex
        self.path = path
        self.scope = scope
        self.frame = frame
        """Where the composite itself stands."""
        self.settle = settle

    def body(self, graph: Graph, prefix: str, key: str, item: Valued | None = None) -> Frame:
        """Where one body is evaluated."""
        return Frame(graph, self.scope, prefix, key, item, self.settle, self.frame.out)

    def failed(self, bodies: list[Frame], detail: str) -> Made:
        """A loop that comes to no end."""
        step = Step(self.path, Action.FAILED, Reason.LOOP_LIMIT, None, detail, self.vertex.kind)
        return FAILED, bodies, {}, step

    def refuse(self, reason: Reason, detail: str) -> Made:
        """A composite that fails by its deciding value, without an attempt."""
        omit_inside(self.vertex, self.path, self.frame.out)
        step = Step(self.path, Action.FAILED, reason, None, detail, self.vertex.kind)
        return FAILED, [], {}, step


_UNREAD = object()
_UNKNOWN = {"map": Reason.ITEMS_UNKNOWN, "conditional": Reason.BRANCH_UNDECIDED}


def _worse(one: int, other: int) -> int:
    if PENDING in (one, other):
        return PENDING
    return FAILED if FAILED in (one, other) else DONE


def _giver(graph: Graph, states: list[State], name: str) -> int:
    for i in graph.dag.wiring.exports[name]:
        if states[i].code == DONE and name in states[i].outputs:
            return i
    return -1


def _export(givers: Iterable[int], states: list[State], name: str) -> Any:
    for i in givers:
        state = states[i]
        if state.code == DONE and name in state.outputs:
            return state.outputs[name]
    return None


def exports(graph: Graph, states: list[State]) -> dict[str, Any]:
    """The values visible at the end of a graph, as far as they are there."""
    out: dict[str, Any] = {}
    for name in graph.dag.wiring.exports:
        i = _giver(graph, states, name)
        if i >= 0:
            out[name] = states[i].outputs[name]
    return out


def _summary(step: Step, status: int, bodies: list[Frame]) -> Step:
    """What is to be said of a composite that is not done: what is said of the first inside it."""
    said = [body.said for body in bodies if body.said is not None]
    said = [step for step in said if (step.action is Action.FAILED) == (status == FAILED)]
    inner = min(said, key=order, default=None)
    if inner is None:
        return step
    detail = ""
    if status == FAILED:
        detail = f"{inner.path}: {inner.detail}" if inner.detail else inner.path
    return Step(step.path, inner.action, inner.reason, inner._known, detail, step.kind)
