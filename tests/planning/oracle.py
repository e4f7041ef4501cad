"""The semantics of the design, sections 3, 7 and 8, in the most obvious recursive way: an
independent judge of the planner. Nothing here is quick, and nothing comes from ``runstore.plan``.

``runstore.dag.wiring`` is asked for one thing: which nodes are *possible* sources of a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runstore.dag import AnyNode, Dag
from runstore.paths import template
from runstore.plan.history import Attempt, Damaged
from runstore.records import End, Start
from tests.planning.composites import OMITTED, Composites, tell
from tests.planning.world import (
    DONE,
    FAILED,
    NOT_TAKEN,
    PENDING,
    UNCLEAR,
    UPSTREAM_FAILED,
    Graph,
    Scope,
    Sees,
    Sight,
    State,
    follows,
    mark,
    own_reads,
    targets,
    within,
)

IN_PROGRESS = ("WAIT", "in progress elsewhere")


class Oracle(Composites):
    """Judges a whole run.

    :param attempts: path -> the attempts of this run, by number.
    :param adopted: path -> the end that a fork took over; it counts as attempt 0.
    :param forces: path -> the number up to which a force holds.
    :param saw: digest of a start -> what its attempt was made from.
    :param unlike: invocation -> template paths of the tasks whose own structure was another there.
    """

    def __init__(
        self,
        dag: Dag,
        parameters: Mapping[str, Any],
        attempts: Mapping[str, Sequence[Attempt]],
        *,
        saw: Mapping[str, Sees],
        adopted: Mapping[str, End],
        forces: Mapping[str, int],
        invocation: str | None,
        unlike: Mapping[str, frozenset[str]],
    ) -> None:
        self.parameters, self.attempts, self.adopted = parameters, attempts, adopted
        self.forces, self.saw, self.invocation, self.unlike = forces, saw, invocation, unlike
        whole = self.graph(dag, "", None, settle=False)
        self.said, self.sees, self.status = whole.said, whole.sees, whole.code
        self.values = {**parameters, **whole.exports()}

    # -- graphs, and what is handled in them -----------------------------------------------------

    def graph(self, dag: Dag, prefix: str, scope: Scope | None, *, settle: bool) -> Graph:
        """Evaluate a graph. ``settle``: failures of earlier invocations in it are settled.

        Whether a failure is handled shows at what follows it. So take every failure for settled,
        look which of them a handler has handled then, take only those for settled, and look again.
        """
        every = {node.name for node in dag.nodes}
        kept = every if settle or any(node.handles for node in dag.nodes) else set()
        held: set[str] = set()
        while True:
            graph = self.walk(dag, prefix, scope, kept, held)
            handled, at_it = self.handled(graph)
            fewer = kept if settle else kept & (handled | at_it | held)
            if fewer == kept and at_it <= held:
                break
            kept, held = fewer, held | at_it
        codes = {name: state.code for name, state in graph.states.items()}
        bad = {name for name, code in codes.items() if code == FAILED} - handled
        graph.code = PENDING if PENDING in codes.values() else FAILED if bad else DONE
        graph.lost = any(graph.states[name].lost for name in bad)
        for name in handled:
            for path, (action, _) in graph.said.items():
                if action == "FAILED" and within(path, graph.path(name)):
                    graph.said[path] = ("SKIP", "failure handled")
        return graph

    def walk(
        self, dag: Dag, prefix: str, scope: Scope | None, kept: set[str], held: set[str]
    ) -> Graph:
        graph = Graph(dag, prefix)
        left = list(dag.nodes)
        while left:
            node = next(n for n in left if all(up in graph.states for up in n.after))
            left.remove(node)
            state = self.node(node, graph, scope, node.name in kept, node.name in held)
            graph.states[node.name] = state
        return graph

    def handled(self, graph: Graph) -> tuple[set[str], set[str]]:
        """The failed nodes of a graph that are handled, and those that a handler is at."""
        handled: set[str] = set()
        at_it: set[str] = set()
        for handler in graph.dag.nodes:
            if not handler.handles:
                continue
            path = graph.path(handler.name)
            if handler.kind != "task":
                if any(within(each, path) and self.open(each) for each in self.attempts):
                    at_it |= targets(handler, graph)
                elif graph.states[handler.name].code == DONE:
                    handled |= targets(handler, graph)
                continue
            latest = self.latest(path)
            if not isinstance(latest, End | Start):
                if self.open(path):  # by whom, and from what, is torn
                    at_it |= targets(handler, graph)
                continue
            had = self.seen(latest).results
            for name in graph.followed(handler):
                failed = graph.states[name]
                if failed.code == FAILED and not failed.lost:
                    if had.get(graph.path(name)) != failed.result:
                        continue
                    if isinstance(latest, Start):
                        at_it.add(name)
                    elif latest.outcome == "succeeded":
                        handled.add(name)
        return handled - at_it, at_it

    def latest(self, path: str) -> Attempt | None:
        own = self.attempts.get(path)
        return own[-1] if own else self.adopted.get(path)

    def open(self, path: str) -> bool:
        """Whether an attempt at a path is in progress."""
        latest = self.latest(path)
        begun = isinstance(latest, Damaged) and latest.kind != "end"
        return begun or any(isinstance(each, Start) for each in self.attempts.get(path, ()))

    def seen(self, attempt: End | Start) -> Sees:
        digest = attempt.digest if isinstance(attempt, Start) else attempt.start
        return self.saw[digest or ""]

    # -- one node --------------------------------------------------------------------------------

    def node(
        self, node: AnyNode, graph: Graph, scope: Scope | None, settle: bool, held: bool
    ) -> State:
        path = graph.path(node.name)
        ups = [graph.states[up] for up in node.after]
        codes = {up.code for up in ups}
        behind = any(up.behind for up in ups) or (scope is not None and scope.behind)
        if PENDING in codes:
            tell(node, path, ("WAIT", "upstream pending"), graph.said)
            return State(PENDING, behind=behind)
        failed = bool(codes & {FAILED, UPSTREAM_FAILED})
        fate = {
            "all_success": UPSTREAM_FAILED if failed else NOT_TAKEN if NOT_TAKEN in codes else "",
            "one_success": "" if DONE in codes else UPSTREAM_FAILED if failed else NOT_TAKEN,
            "one_failed": "" if failed else NOT_TAKEN,
            "all_done": "",
        }[node.trigger]
        params = {name: self.value(name, node, graph, scope) for name in own_reads(node)}
        if fate:
            tell(node, path, OMITTED[fate], graph.said)
        elif held:
            tell(node, path, IN_PROGRESS, graph.said)
            return State(PENDING, behind=True)
        elif not all(params.values()):
            fate = UPSTREAM_FAILED if behind else FAILED
            tell(node, path, OMITTED[UPSTREAM_FAILED], graph.said)
            if fate == FAILED:
                graph.said[path] = ("FAILED", "parameter missing")
        if fate:
            upstream = {up.path: up.state.result for up in follows(node, graph, scope)}
            behind = behind or fate in (FAILED, UPSTREAM_FAILED)
            return State(fate, result=mark(["state", fate, upstream]), behind=behind)
        results = self.consumed(node, graph, scope)
        values = {name: found[0] for name, found in params.items()}
        marks = {name: mark(value) for name, value in values.items()}
        if node.kind == "task":
            eager = node.config.get("cutoff") is False
            ends = self.ends(node, graph, scope) if eager else None
            sees = Sees(values, marks, results, ends, self.sight(node, graph, scope))
            return self.task(node, path, graph, sees, behind, settle)
        return self.composite(node, path, graph, scope, values, marks, results, behind, settle)

    def value(self, name: str, node: AnyNode, graph: Graph, scope: Scope | None) -> list[Any]:
        """The value of a name for a node, in a list that is empty if nobody gave it."""
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

    def sight(self, node: AnyNode, graph: Graph, scope: Scope | None) -> Sight:
        """The artifacts that a node may load: the nearest, then those around."""
        found = graph.sight(graph.followed(node))
        while scope is not None:
            found = {**scope.earlier, **found}
            found = {**scope.graph.sight(scope.graph.followed(scope.owner)), **found}
            scope = scope.parent
        return found

    def consumed(self, node: AnyNode, graph: Graph, scope: Scope | None) -> dict[str, str]:
        """The results that a node consumes, so far as nothing is loaded."""
        every = node.trigger in ("one_failed", "all_done")
        reads = [n for n in own_reads(node) if scope is None or not scope.binds(n)]
        results = {
            up.path: up.state.result
            for up in follows(node, graph, scope)
            if every or not any(up.gives(name) for name in reads)
        }
        if scope and not node.after:
            results |= scope.handled
        if node.handles:
            results |= {graph.path(n): graph.states[n].result for n in targets(node, graph)}
        return results

    def ends(self, node: AnyNode, graph: Graph, scope: Scope | None) -> frozenset[str]:
        """The latest end records of all that a node transitively follows."""
        found: frozenset[str] = frozenset()
        while True:
            for name in graph.followed(node):
                found |= graph.states[name].ends
            if scope is None:
                return found
            found |= scope.ends
            node, graph, scope = scope.owner, scope.graph, scope.parent

    # -- tasks -----------------------------------------------------------------------------------

    def task(
        self, node: AnyNode, path: str, graph: Graph, sees: Sees, behind: bool, settle: bool
    ) -> State:
        graph.sees[path] = sees
        latest = self.latest(path)
        if self.open(path):
            graph.said[path] = IN_PROGRESS
            return State(PENDING, behind=behind)
        if again := self.again(node, path, latest, sees, settle):
            graph.said[path] = ("RUN", again)
            return State(PENDING, behind=behind)
        assert isinstance(latest, End)
        ends = frozenset((latest.digest,))
        if latest.outcome != "succeeded":
            graph.said[path] = ("FAILED", "failed in this invocation")
            lost = latest.outcome != "failed"
            return State(
                FAILED, result=mark(["end", latest.digest]), ends=ends, behind=True, lost=lost
            )
        graph.said[path] = ("SKIP", "succeeded")
        artifacts = {name: (blob.sha256, path) for name, blob in latest.artifacts.items()}
        saved = {name: content for name, (content, _) in artifacts.items()}
        made = [latest.outputs, saved] if latest.outputs or saved else ["end", latest.digest]
        return State(DONE, latest.outputs, artifacts, mark(made), ends, behind)

    def again(
        self, node: AnyNode, path: str, latest: Attempt | None, sees: Sees, settle: bool
    ) -> str:
        """Why a task is to run, ``""`` if it is not. Nobody is at it."""
        if latest is None:
            return "never ran"
        if not isinstance(latest, End):
            return "output missing or damaged"
        number = latest.attempt if self.attempts.get(path) else 0
        if self.forces.get(path, -1) >= number:
            return "forced"
        if latest.outcome == "succeeded":
            return "" if self.same(node, latest, sees) else "stale"
        if number and latest.invocation == self.invocation:
            return ""
        if settle and latest.outcome == "failed" and self.same(node, latest, sees):
            return ""
        return latest.outcome

    def same(self, node: AnyNode, end: End, now: Sees) -> bool:
        """Whether an attempt consumed what its upstream has now."""
        had = self.seen(end)
        if had.params != now.params:
            return False
        for address, (content, _) in had.loaded.items():
            if now.sight.get(address, UNCLEAR)[0] != content:
                return False
        sources = [source for _, source in had.loaded.values()]
        if node.trigger in ("one_failed", "all_done"):
            sources = []

        def order_only(results: Mapping[str, str]) -> dict[str, str]:
            loaded_from = [p for p in results if any(within(source, p) for source in sources)]
            return {p: result for p, result in results.items() if p not in loaded_from}

        if order_only(had.results) != order_only(now.results):
            return False
        if now.ends is not None and had.ends != now.ends:
            return False
        return template(end.path) not in self.unlike.get(end.invocation, frozenset())
