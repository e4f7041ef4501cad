"""How the oracle judges composites: from values, body by body, in the most obvious way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from runstore.canonical import dumps
from runstore.dag import AnyNode, Dag
from runstore.paths import escape
from tests.planning.world import (
    DONE,
    FAILED,
    NOT_TAKEN,
    PENDING,
    UNCLEAR,
    UPSTREAM_FAILED,
    Graph,
    Said,
    Scope,
    State,
    Up,
    mark,
    targets,
)

OMITTED = {UPSTREAM_FAILED: ("OMIT", "upstream failed"), NOT_TAKEN: ("OMIT", "trigger not met")}


class Composites(ABC):
    """The part of the oracle that knows the composite kinds."""

    @abstractmethod
    def graph(self, dag: Dag, prefix: str, scope: Scope | None, *, settle: bool) -> Graph:
        """Evaluate a graph."""

    def composite(
        self, node: AnyNode, path: str, graph: Graph, scope: Scope | None, values: dict[str, Any],
        marks: dict[str, str], results: dict[str, str], behind: bool, settle: bool,
    ) -> State:  # fmt: skip
        handled = dict(scope.handled) if scope and not node.after else {}
        if node.handles:
            handled |= {graph.path(n): graph.states[n].result for n in targets(node, graph)}
        inner = Scope(node, graph, scope, handled=handled, behind=behind)
        bodies, outputs, refused = self.bodies(node, path, inner, values, settle)
        for _, body in bodies:
            graph.said |= body.said
            graph.sees |= body.sees
        codes = {DONE, FAILED if refused else DONE, *(body.code for _, body in bodies)}
        code = PENDING if PENDING in codes else FAILED if FAILED in codes else DONE
        states = [state for _, body in bodies for state in body.states.values()]
        artifacts: dict[str, tuple[str, str]] = {}
        for _, body in bodies:
            for address, found in body.sight(body.names()).items():
                # What a map in an item saved has the item's path already.
                new = node.kind == "map" and not address.startswith(body.prefix)
                place = body.prefix + address if new else address
                twice = node.kind == "parallel" and place in artifacts
                artifacts[place] = UNCLEAR if twice else found
        graph.said[path] = {
            DONE: ("SKIP", "succeeded"),
            FAILED: ("FAILED", refused),
            PENDING: ("PENDING", ""),
        }[code]
        if refused:
            for branch, body in node.bodies.items():
                inside = f"{path}:{escape(branch)}/" if branch else f"{path}/"
                if node.kind != "loop":
                    tell_all(body, inside, OMITTED[UPSTREAM_FAILED], graph.said)
        return State(
            code,
            outputs if code == DONE else {},
            artifacts if code == DONE else {},
            mark([node.kind, marks, results, {key: body.results() for key, body in bodies}]),
            frozenset[str]().union(*(state.ends for state in states)),
            behind or code == FAILED or any(state.behind for state in states),
            code == FAILED and any(body.lost for _, body in bodies),
        )

    def bodies(
        self, node: AnyNode, path: str, scope: Scope, values: dict[str, Any], settle: bool
    ) -> tuple[list[tuple[str, Graph]], dict[str, Any], str]:
        """The bodies by key, what the composite gives, and why it fails by itself, if it does."""
        bodies: list[tuple[str, Graph]] = []
        outputs: dict[str, Any] = {}
        match node.kind:
            case "map":
                items = values[node.over]
                if type(items) is not list:
                    return [], {}, "not a list"
                keys: list[str] = []
                for item in items:
                    text = dumps(item).decode()
                    keys.append(text)
                    key = f"{text}#{keys.count(text)}" if keys.count(text) > 1 else text
                    scope.bound = {node.as_: item}
                    body = self.graph(node.body, f"{path}[{key}]/", scope, settle=settle)
                    bodies.append((key, body))
                for name in node.body.wiring.exports:
                    outputs[name] = [body.exports().get(name) for _, body in bodies]
            case "conditional":
                value = values[node.on]
                text = value if isinstance(value, str) else dumps(value).decode()
                taken = text if text in node.branches else node.default
                if taken is None:
                    return [], {}, "no branch matches"
                prefix = f"{path}:{escape(taken)}/"
                body = self.graph(node.branches[taken], prefix, scope, settle=settle)
                bodies, outputs = [(taken, body)], body.exports()
                for other, dag in node.branches.items():
                    if other != taken:
                        inside = f"{path}:{escape(other)}/"
                        tell_all(dag, inside, ("OMIT", "branch not taken"), body.said)
            case "parallel":
                for branch, dag in node.branches.items():
                    body = self.graph(dag, f"{path}:{escape(branch)}/", scope, settle=settle)
                    bodies.append((branch, body))
                    outputs |= body.exports()
            case "loop":
                gives = {*node.body.wiring.exports, *node.body.wiring.unclear}
                behind, ends = scope.behind, scope.ends
                for i in range(node.max_iterations):
                    # Each body keeps the scope it stands in.
                    scope = Scope(
                        scope.owner, scope.graph, scope.parent, {node.as_: i} if node.as_ else {},
                        scope.handled, behind, dict(outputs), dict(scope.earlier), scope.turn, ends,
                    )  # fmt: skip
                    body = self.graph(node.body, f"{path}@{i}/", scope, settle=settle)
                    bodies.append((str(i), body))
                    outputs |= body.exports()
                    if body.code != DONE or outputs.get(node.until) is True:
                        return bodies, outputs, ""
                    before = State(DONE, result=mark(["iteration", body.results()]))
                    scope.turn = Up(f"{path}@{i}", before, gives.__contains__)
                    scope.earlier |= body.sight(body.names())
                    for state in body.states.values():
                        ends |= state.ends
                        behind = behind or state.behind
                return bodies, outputs, "loop limit"
        return bodies, outputs, ""


def tell(node: AnyNode, path: str, what: tuple[str, str], said: Said) -> None:
    """Say the same of a node and of all in it, under their template paths."""
    said[path] = what
    for branch, body in node.bodies.items():
        tell_all(body, f"{path}:{escape(branch)}/" if branch else f"{path}/", what, said)


def tell_all(dag: Dag, prefix: str, what: tuple[str, str], said: Said) -> None:
    for node in dag.nodes:
        tell(node, prefix + escape(node.name), what, said)
