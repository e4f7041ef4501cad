"""How maps, conditionals, parallels and loops are evaluated: from recorded values, body by body."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any

from runstore.canonical import digest, dumps
from runstore.paths import escape
from runstore.plan.state import (
    AMBIGUOUS,
    DONE,
    FAILED,
    PENDING,
    UPSTREAM_FAILED,
    Scope,
    State,
    final,
)
from runstore.plan.steps import Action, Reason, Step
from runstore.plan.values import composite_result, ends_digest, shown
from runstore.records import Blob, Secret

if TYPE_CHECKING:
    from runstore.history import History
    from runstore.plan.prepare import Graph, Vertex

__all__ = ["Composites", "exports"]

Out = list[Step]
Body = tuple[str, "Graph", str, list[State]]
"""A body that was evaluated: its key (item, branch, iteration), graph, prefix and states."""


class Composites:
    """The part of :class:`~runstore.plan.evaluate.Evaluation` that knows the composite kinds."""

    if TYPE_CHECKING:
        history: History
        focus: Mapping[str, frozenset[str]] | None
        asks_ends: bool
        find: Any
        results: Any
        emit: Any
        graph: Any
        targets: Any
        without_attempt: Any
        want: Any

    def composite(
        self,
        vertex: Vertex,
        path: str,
        states: list[State],
        scope: Scope | None,
        behind: bool,
        tentative: bool,
        out: Out,
    ) -> Generator[Any, Any, State]:
        """Evaluate a composite whose upstream is settled and whose trigger is met."""
        inner = Scope(vertex, states, scope)
        inner.behind = behind
        if scope is not None and vertex.opener:
            inner.handled = scope.handled
        if vertex.handles:
            inner.handled = {
                **inner.handled,
                **{states[i].path: states[i].result or "" for i in self.targets(vertex, states)},
            }
        value: Any = None
        params: dict[str, str] = {}
        for name in vertex.reader:
            found = self.find(vertex, name, states, scope)
            if found is None:
                return self._undecided(vertex, path, name, behind, states, scope, out)
            value, params[name] = found
            value = self._content(value)
            if value is _UNREAD:
                self.emit(vertex, path, Action.WAIT, _UNKNOWN[vertex.kind], out)
                if self.history.missing:
                    self.want(vertex, states, scope)
                return State(path, PENDING, behind)
        at = len(out)
        step = Step(path, Action.SKIP, Reason.SUCCEEDED, None, "", vertex.kind)
        out.append(step)
        kind: Any = {
            "map": self._map,
            "conditional": self._conditional,
            "parallel": self._parallel,
            "loop": self._loop,
        }[vertex.kind]
        refusal: Step | None = None
        status, bodies, outputs, refusal = yield kind(vertex, path, inner, value, tentative, out)
        if refusal is not None:
            step.action, step.reason, step.detail = refusal.action, refusal.reason, refusal.detail
        elif status != DONE:
            _summarise(step, status, out, at)
        state = State(path, status, behind or status == FAILED)
        saved = False
        for _, _, _, inside in bodies:
            for each in inside:
                if each.behind:
                    state.behind = True
                if each.busy:
                    state.busy = True
                state.newest = max(state.newest, each.newest)
                if each.artifacts:
                    saved = True
        if status == DONE:
            state.outputs = outputs
            if saved:
                state.artifacts = self._artifacts(vertex, bodies)
        if self.asks_ends:
            state.ends = [e for _, _, _, inside in bodies for s in inside for e in s.ends or ()]
        if vertex.needed and status != PENDING:
            inside_results = {
                key: {v.node.name: got[v.at].result for v in graph.vertices}
                for key, graph, _, got in bodies
            }
            results = self.results(vertex, states, scope)
            state.result = composite_result(vertex.kind, params, results, inside_results)
        return state

    def _undecided(
        self,
        vertex: Vertex,
        path: str,
        name: str,
        behind: bool,
        states: list[State],
        scope: Scope | None,
        out: Out,
    ) -> State:
        if behind:
            self.emit(vertex, path, Action.OMIT, Reason.UPSTREAM_FAILED, out)
            state: State = self.without_attempt(
                vertex, path, UPSTREAM_FAILED, behind, states, scope
            )
            return state
        detail = f"nothing that ran gave {path} its parameter {name!r}"
        out.append(Step(path, Action.FAILED, Reason.PARAMETER_MISSING, None, detail, vertex.kind))
        self._inside(vertex, path, out)
        failed: State = self.without_attempt(vertex, path, FAILED, behind, states, scope)
        return failed

    def _content(self, value: Any) -> Any:
        """A deciding value itself, where it stands in a blob."""
        if type(value) is Blob:
            return self.history.values.get(value.sha256, _UNREAD)
        if type(value) is list:
            if set(map(type, value)).isdisjoint((Blob, list)):
                return value
            items = [self._content(item) for item in value]
            return _UNREAD if any(item is _UNREAD for item in items) else items
        return value

    # -- the kinds -------------------------------------------------------------------------------

    def _map(
        self, vertex: Vertex, path: str, scope: Scope, value: Any, tentative: bool, out: Out
    ) -> Generator[Any, Any, Any]:
        body = vertex.bodies[""]
        if type(value) is not list:
            return self._refuse(
                vertex, path, Reason.NOT_A_LIST, out,
                f"{path} maps over {vertex.reader[0]!r}, which is {shown(value)}: not a list",
            )  # fmt: skip
        name: str = vertex.node.as_  # type: ignore
        only = self.focus.get(path) if self.focus is not None else None
        seen: dict[str, int] = {}
        bodies: list[Body] = []
        status = DONE
        bound = dict(scope.bound)
        for item in value:
            canonical = dumps(item)
            text = canonical.decode()
            count = seen[text] = seen.get(text, 0) + 1
            key = text if count == 1 else f"{text}#{count}"
            if only is not None and key not in only:
                continue
            item_scope = scope.inside({**bound, name: (item, sha256(canonical).hexdigest())})
            prefix = f"{path}[{key}]/"
            # A body of tasks asks for nothing deeper, and needs no turn of the stack; that costs
            # 0.8 us an item less, and no more than one level of recursion.
            inner = self.graph(body, item_scope, prefix, tentative, out)
            code, states = (yield from inner) if body.leaf else (yield inner)
            if code != DONE:
                status = _worse(status, code)
            bodies.append((key, body, prefix, states))
        outputs: dict[str, Any] = {}
        if status == DONE:
            for given, givers in body.dag.wiring.exports.items():
                outputs[given] = [_export(givers, states, given) for _, _, _, states in bodies]
        return status, bodies, outputs, None

    def _conditional(
        self, vertex: Vertex, path: str, scope: Scope, value: Any, tentative: bool, out: Out
    ) -> Generator[Any, Any, Any]:
        node = vertex.node
        text = value if type(value) is str else None
        if text is None and type(value) is not Secret:
            text = dumps(value).decode()
        branch = text if text in vertex.bodies else node.default  # type: ignore[union-attr]
        if branch is None:
            names = ", ".join(map(repr, vertex.bodies))
            return self._refuse(
                vertex, path, Reason.NO_BRANCH, out,
                f"{vertex.reader[0]!r} of {path} is {shown(value)}, which names no branch: "
                f"there are {names}, and no default",
            )  # fmt: skip
        taken = vertex.bodies[branch]
        prefix = f"{path}:{escape(branch)}/"
        status, states = yield self.graph(taken, scope, prefix, tentative, out)
        for other, graph in vertex.bodies.items():
            if other != branch:
                inside = f"{path}:{escape(other)}/"
                for each in graph.order:
                    self.emit(each, inside + each.name, Action.OMIT, Reason.NOT_TAKEN, out)
        outputs = exports(taken, states) if status == DONE else {}
        return status, [(branch, taken, prefix, states)], outputs, None

    def _parallel(
        self, vertex: Vertex, path: str, scope: Scope, _: Any, tentative: bool, out: Out
    ) -> Generator[Any, Any, Any]:
        status = DONE
        bodies: list[Body] = []
        outputs: dict[str, Any] = {}
        only = self.focus.get(path) if self.focus is not None else None
        for branch, graph in vertex.bodies.items():
            if only is not None and branch not in only:
                continue
            prefix = f"{path}:{escape(branch)}/"
            code, states = yield self.graph(graph, scope, prefix, tentative, out)
            status = _worse(status, code)
            bodies.append((branch, graph, prefix, states))
            outputs |= exports(graph, states)
        return status, bodies, outputs, None

    def _loop(
        self, vertex: Vertex, path: str, scope: Scope, _: Any, tentative: bool, out: Out
    ) -> Generator[Any, Any, Any]:
        body = vertex.bodies[""]
        node = vertex.node
        limit: int = node.max_iterations  # type: ignore[union-attr]
        until: str = node.until  # type: ignore[union-attr]
        name: str | None = node.as_  # type: ignore[union-attr]
        bodies: list[Body] = []
        latest: dict[str, Any] = {}
        valued: dict[str, tuple[Any, str]] = {}
        earlier: dict[str, tuple[Blob, str]] = {}
        ends: list[str] = []
        outer = scope.bound
        for i in range(limit):
            here = scope.inside({**outer, name: (i, digest(i))} if name else outer)
            here.previous = dict(valued)
            here.earlier = dict(earlier)
            here.cache = {}
            here.place, here.turn = path, i
            prefix = f"{path}@{i}/"
            if bodies:
                before = bodies[-1][3]
                here.behind = scope.behind or any(state.behind for state in before)
                at = f"{path}@{i - 1}"
                if vertex.needed:
                    inside = {v.node.name: before[v.at].result for v in body.vertices}
                    here.previous_result = (at, composite_result("iteration", {}, {}, inside))
                if self.asks_ends:
                    # Those of all iterations so far: the one before follows the others.
                    made = [e for s in before for e in s.ends or ()]
                    ends = [*made, ends_digest(ends)] if ends else made
                    here.previous_ends = (at, ends)
            status, states = yield self.graph(body, here, prefix, tentative, out)
            bodies.append((str(i), body, prefix, states))
            if status != DONE:
                return status, bodies, {}, None
            for given, value in exports(body, states).items():
                latest[given] = value
                state = states[_giver(body, states, given)]
                valued[given] = (value, state.digest(given, value))
            earlier |= final(body.order, states)
            if self._content(latest.get(until)) is True:
                return DONE, bodies, latest, None
        detail = f"{path} reached max_iterations ({limit}) and {until!r} was never true"
        step = Step(path, Action.FAILED, Reason.LOOP_LIMIT, None, detail, "loop")
        return FAILED, bodies, {}, step

    def _refuse(
        self, vertex: Vertex, path: str, reason: Reason, out: Out, detail: str
    ) -> tuple[int, list[Body], dict[str, Any], Step]:
        """A composite that fails by its deciding value, without an attempt."""
        self._inside(vertex, path, out)
        return FAILED, [], {}, Step(path, Action.FAILED, reason, None, detail, vertex.kind)

    def _inside(self, vertex: Vertex, path: str, out: Out) -> None:
        """Nothing in a composite that failed by itself can run."""
        for branch, body in vertex.bodies.items():
            inside = f"{path}:{escape(branch)}/" if branch else f"{path}/"
            for each in body.order:
                self.emit(each, inside + each.name, Action.OMIT, Reason.UPSTREAM_FAILED, out)

    # -- what a composite hands on ---------------------------------------------------------------

    def _artifacts(self, vertex: Vertex, bodies: list[Body]) -> dict[str, tuple[Blob, str]]:
        found: dict[str, tuple[Blob, str]] = {}
        for _, graph, prefix, states in bodies:
            if not any(state.artifacts for state in states):
                continue
            made = final(graph.order, states)
            if vertex.kind == "map":
                made = {prefix + address: entry for address, entry in made.items()}
            for address, entry in made.items():
                twice = vertex.kind == "parallel" and address in found
                found[address] = (entry[0], AMBIGUOUS) if twice else entry
        return found


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


def _summarise(step: Step, status: int, out: Out, at: int) -> None:
    """What is to be said of a composite that is not done: what is said of the first inside it."""
    order = (Action.FAILED,) if status == FAILED else (Action.RUN, Action.WAIT)
    for action in order:
        # By path, since the order of declaration means nothing.
        said = [inner for inner in islice(out, at + 1, None) if inner.action is action]
        inner = min(said, key=_path, default=None)
        if inner is not None:
            step.action, step.reason, step.record = action, inner.reason, inner.record
            if status == FAILED:
                step.detail = f"{inner.path}: {inner.detail}" if inner.detail else inner.path
            return


def _path(step: Step) -> str:
    return step.path
