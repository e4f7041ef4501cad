"""The semantics of the design, sections 3 and 8, in the most obvious recursive way: an independent
judge of the planner. It takes the latest record of each path at its word, and says what every node
would see now. Nothing here is quick, and nothing comes from ``runstore.plan``.

``runstore.resolution`` is asked for one thing: which nodes are *possible* sources of a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runstore.canonical import dumps
from runstore.dag import AnyNode, Dag
from runstore.paths import escape
from runstore.records import End
from tests.planning.world import (
    DONE,
    FAILED,
    NOT_TAKEN,
    PENDING,
    UPSTREAM_FAILED,
    Graph,
    Scope,
    State,
    Up,
    own_reads,
    targets,
)


class Oracle:
    """``latest``: path -> the end that decides. Afterwards: ``tasks``, ``consumed``, ``values``."""

    def __init__(
        self, dag: Dag, parameters: Mapping[str, Any], latest: Callable[[str], End | None]
    ) -> None:
        self.parameters = parameters
        self.latest = latest
        self.tasks: dict[str, str] = {}
        self.consumed: dict[str, Any] = {}
        self.status, graph = self.graph(dag, "", None)
        self.values = {**parameters, **graph.exports()}

    def value(self, name: str, node: AnyNode, graph: Graph, scope: Scope | None) -> list[Any]:
        at = scope
        while at:
            if name in at.bound:
                return [at.bound[name]]
            at = at.parent
        while True:
            if found := graph.nearest(name, graph.followed(node)):
                return found
            if scope is None:
                return [self.parameters[name]] if name in self.parameters else []
            if name in scope.previous:
                return [scope.previous[name]]
            node, graph, scope = scope.owner, scope.graph, scope.parent

    def graph(self, dag: Dag, prefix: str, scope: Scope | None) -> tuple[str, Graph]:
        graph = Graph(dag, prefix)
        left = list(dag.nodes)
        while left:
            node = next(n for n in left if all(up in graph.states for up in n.after))
            left.remove(node)
            graph.states[node.name] = self.node(node, graph, scope)
        handled: set[str] = set()
        for node in dag.nodes:
            if node.handles and graph.states[node.name].code == DONE:
                handled |= targets(node, graph)
        codes = {n: s.code for n, s in graph.states.items()}
        if PENDING in codes.values():
            return PENDING, graph
        bad = any(code == FAILED and name not in handled for name, code in codes.items())
        return FAILED if bad else DONE, graph

    def node(self, node: AnyNode, graph: Graph, scope: Scope | None) -> State:
        path = graph.prefix + escape(node.name)
        ups = [graph.states[up] for up in node.after]
        codes = {up.code for up in ups}
        behind = any(up.behind for up in ups) or (scope is not None and scope.behind)
        followed = [Up(graph.prefix + escape(up), graph.states[up], bool) for up in node.after]
        if not node.after and scope:
            followed = scope.ups()
        if PENDING in codes:
            return State(PENDING, behind=behind)
        failed = bool(codes & {FAILED, UPSTREAM_FAILED})
        fate = {
            "all_success": UPSTREAM_FAILED if failed else NOT_TAKEN if NOT_TAKEN in codes else "",
            "one_success": "" if DONE in codes else UPSTREAM_FAILED if failed else NOT_TAKEN,
            "one_failed": "" if failed else NOT_TAKEN,
            "all_done": "",
        }[node.trigger]
        params = {name: self.value(name, node, graph, scope) for name in own_reads(node)}
        if not fate and not all(params.values()):
            fate = UPSTREAM_FAILED if behind else FAILED
        if fate:
            if node.kind == "task":
                self.tasks[path] = fate
            upstream = {up.path: up.state.result for up in followed}
            behind = behind or fate in (FAILED, UPSTREAM_FAILED)
            return State(fate, {}, (fate, upstream), behind=behind)
        consumed = self.consumption(node, graph, scope)
        values = {name: found[0] for name, found in params.items()}
        if node.kind == "task":
            if node.config.get("cutoff") is False:
                consumed["ends"] = self.ends(node, graph, scope)
            consumed["params"] = values
            return self.task(path, consumed, behind)
        return self.composite(node, path, graph, scope, values, consumed, behind)

    def task(self, path: str, consumed: Any, behind: bool) -> State:
        end = self.latest(path)
        self.consumed[path] = consumed
        self.tasks[path] = (
            PENDING if end is None else DONE if end.outcome == "succeeded" else FAILED
        )
        if end is None:
            return State(PENDING, behind=behind)
        ends = frozenset((end.digest,))
        if end.outcome == "succeeded":
            return State(DONE, end.outputs, end.outputs or end.digest, ends, behind)
        return State(FAILED, {}, end.digest, ends, True)

    def consumption(self, node: AnyNode, graph: Graph, scope: Scope | None) -> dict[str, Any]:
        every = node.trigger in ("one_failed", "all_done")
        reads = [n for n in own_reads(node) if scope is None or not scope.binds(n)]
        results = {}
        for up in node.after:
            if every or not any(graph.gives(up, node, name) for name in reads):
                results[graph.prefix + escape(up)] = graph.states[up].result
        if node.handles:
            for name in targets(node, graph):
                results[graph.prefix + escape(name)] = graph.states[name].result
        if scope and not node.after:
            for each in scope.ups():
                if every or not any(each.gives(name) for name in reads):
                    results[each.path] = each.state.result
            results |= scope.handled
        return {"results": results}

    def ends(self, node: AnyNode, graph: Graph, scope: Scope | None) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        while True:
            for name in graph.followed(node):
                found |= graph.states[name].ends
            if scope is None:
                return found
            found |= scope.earlier
            node, graph, scope = scope.owner, scope.graph, scope.parent

    def composite(
        self, node: AnyNode, path: str, graph: Graph, scope: Scope | None,
        params: dict[str, Any], consumed: dict[str, Any], behind: bool,
    ) -> State:  # fmt: skip
        handled = dict(scope.handled) if scope and not node.after else {}
        if node.handles:
            handled |= {
                graph.prefix + escape(n): graph.states[n].result for n in targets(node, graph)
            }
        inner = Scope(node, graph, scope, handled=handled, behind=behind)
        bodies: list[tuple[str, str, Graph]] = []
        outputs: dict[str, Any] = {}
        codes = {DONE}
        match node.kind:
            case "map":
                outputs = {name: [] for name in node.body.wiring.exports}
                items = params[node.over]
                if type(items) is not list:
                    codes, items = {FAILED}, []
                keys: list[str] = []
                for item in items:
                    text = dumps(item).decode()
                    same = sum(key.partition("#")[0] == text for key in keys)
                    keys.append(f"{text}#{same + 1}" if same else text)
                    inner.bound = {node.as_: item}
                    code, body = self.graph(node.body, f"{path}[{keys[-1]}]/", inner)
                    bodies.append((keys[-1], code, body))
                    for name in outputs:
                        outputs[name].append(body.exports().get(name))
            case "conditional":
                value = params[node.on]
                text = value if isinstance(value, str) else dumps(value).decode()
                branch = text if text in node.branches else node.default
                if branch is None:
                    codes = {FAILED}
                else:
                    prefix = f"{path}:{escape(branch)}/"
                    code, body = self.graph(node.branches[branch], prefix, inner)
                    bodies.append((branch, code, body))
                    outputs = body.exports()
            case "parallel":
                for branch, dag in node.branches.items():
                    code, body = self.graph(dag, f"{path}:{escape(branch)}/", inner)
                    bodies.append((branch, code, body))
                    outputs |= body.exports()
            case "loop":
                gives = {*node.body.wiring.exports, *node.body.wiring.unclear}
                for i in range(node.max_iterations):
                    inner.bound = {node.as_: i} if node.as_ else {}
                    code, body = self.graph(node.body, f"{path}@{i}/", inner)
                    bodies.append((str(i), code, body))
                    codes.add(code)
                    outputs |= body.exports()
                    if code != DONE or outputs.get(node.until) is True:
                        break
                    inner.previous = dict(outputs)
                    made = {n: s.result for n, s in body.states.items()}
                    inner.turn = Up(f"{path}@{i}", State(DONE, result=made), gives.__contains__)
                    for state in body.states.values():
                        inner.earlier |= state.ends
                        inner.behind = inner.behind or state.behind
                else:
                    codes.add(FAILED)
        codes |= {code for _, code, _ in bodies}
        code = PENDING if PENDING in codes else FAILED if FAILED in codes else DONE
        states = [state for _, _, body in bodies for state in body.states.values()]
        inside = {key: {n: s.result for n, s in b.states.items()} for key, _, b in bodies}
        ends = frozenset[str]().union(*(state.ends for state in states))
        behind = behind or code == FAILED or any(state.behind for state in states)
        result = (node.kind, params, consumed, inside)
        return State(code, outputs if code == DONE else {}, result, ends, behind)
