"""What gave a node the value that it fails by: that is to be made again, else nothing changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from runstore.dag import Task
from runstore.paths import NodePath, escape
from runstore.plan import Action, Reason

if TYPE_CHECKING:
    from runstore.dag import AnyNode, Dag
    from runstore.plan import Plan, Step

__all__ = ["Origin", "origin_of_value"]


class Origin(NamedTuple):
    """Either a node path, to be forced, or the name of a parameter of the run."""

    path: str = ""
    parameter: str = ""


def origin_of_value(dag: Dag, plan: Plan, step: Step, parameters: Collection[str]) -> Origin | None:
    """
    :param step: one whose reason is in :data:`runstore.plan.steps.BY_VALUE`.
    :param parameters: names of the run's.
    :returns: ``None`` if there is nothing that could be given again.
    """
    if step.reason is Reason.LOOP_LIMIT:
        return Origin(path=step.path)
    around = _around(dag, NodePath.parse(step.path))
    node = around[-1].node
    names: Sequence[str] = ()
    if isinstance(node, Task):
        names = node.params
    elif node.kind == "map":
        names = [node.over]
    elif node.kind == "conditional":
        names = [node.on]
    done = {each.path: each.kind for each in plan.steps if each.action is Action.SKIP}
    if step.reason is not Reason.PARAMETER_MISSING:
        return _source(around, names[0], done) if names else None
    # Nobody gave it: in a new run it can be. A task that succeeded gave what it returns; of a
    # composite nobody knows.
    tasks = {path for path, kind in done.items() if kind == "task"}
    lacking = (n for n in names if n not in parameters and not _source(around, n, tasks).path)
    name = next(lacking, None)
    return Origin(parameter=name) if name is not None else None


class _Place(NamedTuple):
    """A node in its graph, and the path of what that graph stands in, with its slash."""

    graph: Dag
    node: AnyNode
    prefix: str


def _around(dag: Dag, path: NodePath) -> list[_Place]:
    """The node, last, and the composites it stands in."""
    places = []
    graph, prefix = dag, ""
    for segment in path.segments:
        node = graph.nodes[graph.wiring.index[segment.name]]
        places.append(_Place(graph, node, prefix))
        prefix += f"{segment}/"
        if len(places) < len(path.segments):
            graph = node.bodies[segment.branch or ""]
    return places


def _source(around: Sequence[_Place], name: str, done: Collection[str]) -> Origin:
    """The nearest node that may have given a name, and succeeded; else a parameter of the run."""
    for place in reversed(around):
        if place.node is not around[-1].node and getattr(place.node, "as_", None) == name:
            if place.node.kind != "map":
                return Origin(path=f"{place.prefix}{escape(place.node.name)}")
            name = place.node.over
        at = place.graph.wiring.index[place.node.name]
        for source in place.graph.wiring.sources[at].get(name, ()):
            path = f"{place.prefix}{escape(place.graph.nodes[source].name)}"
            if path in done:
                return Origin(path=path)
    return Origin(parameter=name)
