"""The nodes of a workflow as a tree: what stands in which DAG or list of steps, under which name.

A node's name is that of its boundary (the DAG or the steps that it stands in), a separator, its
task, the item of a loop, the number of a retry: ``wf.map(0:a)[0].run(1)``. Names are never split
at dots: an item may have some. What a node stands in, its ``boundaryID`` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runstore.errors import InputError
from runstore.integrations.argo.status import Node, WorkflowStatus

__all__ = ["Tree", "Unit"]

_GROUPS = ("TaskGroup", "StepGroup")
_COMPOSITES = ("DAG", "Steps")
_LABEL = re.compile(r"(?:\[[0-9]+\])?\.?([^(]+)(?:\(([0-9]+):(.*)\))?", re.DOTALL)
_TRY = re.compile(r".*\(([0-9]+)\)", re.DOTALL)
_DEEPEST = 1_000


@dataclass(frozen=True, slots=True)
class Unit:
    """A task of a DAG, or a step: of a loop, for one of its items."""

    task: str
    index: int | None
    """Position of its item, in the list that the loop was over."""
    text: str
    """The item, as the node's name has it."""
    node: Node

    @property
    def is_composite(self) -> bool:
        return self.node.type in _COMPOSITES


class Tree:
    """:raises InputError: for nodes that cannot stand as they say."""

    def __init__(self, status: WorkflowStatus) -> None:
        self._nodes = status.nodes
        roots = [each for each in status.nodes.values() if each.name == status.name]
        self.root = roots[0] if len(roots) == 1 else None
        tries = {
            child
            for node in status.nodes.values()
            if node.type == "Retry"
            for child in node.children
        }
        self._units: dict[str, list[Unit]] = {}
        for node in status.nodes.values():
            if node is self.root or node.hooked or node.type in _GROUPS or node.id in tries:
                continue
            around = status.nodes.get(node.boundary)
            if around is not None:
                self._units.setdefault(around.id, []).append(_unit(node, around))
        for units in self._units.values():
            units.sort(key=lambda each: (each.index or 0, each.node.name))

    def units(self, node: Node) -> Sequence[Unit]:
        """What stands in a DAG, or in a list of steps."""
        return self._units.get(node.id, ())

    def tasks(self) -> set[str]:
        """The names of all tasks."""
        return {unit.task for units in self._units.values() for unit in units}

    def tries(self, node: Node) -> list[Node]:
        """The attempts at a leaf, in order: of one without a retry strategy, itself."""
        if node.type != "Retry":
            return [node]
        found = [self._nodes[child] for child in node.children if child in self._nodes]
        return sorted((each for each in found if not each.hooked), key=_number)

    def leaf(self, unit: Unit) -> Node | None:
        """The one leaf of a unit: itself, or what alone stands in it; ``None`` if that are
        several. A composite whose result was taken from an earlier workflow has none of its own."""
        for _ in range(_DEEPEST):
            if not unit.is_composite:
                return unit.node
            inside = self.units(unit.node)
            if not inside and unit.node.reused:
                return unit.node
            if len(inside) != 1 or inside[0].index is not None:
                return None
            unit = inside[0]
        return None

    def within(self, node: Node, beside: frozenset[str], template: str = "") -> Iterator[Unit]:
        """The units of a scope, and, after them, those in DAGs that only group them.

        :param beside: tasks that stand for something of their own: what is in them is not listed.
        :param template: of a loop: where it calls itself, the next iteration begins.
        """
        scopes, seen = [node], {node.id}
        while scopes:
            scope = scopes.pop(0)
            for unit in self.units(scope):
                if template and unit.is_composite and unit.node.template == template:
                    continue
                yield unit
                groups = unit.is_composite and unit.index is None and unit.task not in beside
                if groups and unit.node.id not in seen:
                    seen.add(unit.node.id)
                    scopes.append(unit.node)

    def next_turn(self, node: Node, template: str) -> Node | None:
        """Where a loop calls itself in an iteration."""
        scopes, seen = [node], {node.id}
        while scopes:
            for unit in self.units(scopes.pop(0)):
                if unit.is_composite and unit.node.template == template:
                    return unit.node
                if unit.is_composite and unit.index is None and unit.node.id not in seen:
                    seen.add(unit.node.id)
                    scopes.append(unit.node)
        return None


def _number(attempt: Node) -> int:
    match = _TRY.fullmatch(attempt.name)
    return int(match[1][:18]) if match else 0


def _unit(node: Node, around: Node) -> Unit:
    label = node.name[len(around.name) :]
    match = _LABEL.fullmatch(label)
    if not node.name.startswith(around.name) or match is None:
        raise InputError(
            f"node {node.name!r:.200} does not stand in {around.name!r:.200}, as it says",
            advice="use what `argo get WORKFLOW -o json` gives, as it is",
        )
    index = None if match[2] is None else int(match[2][:18])
    return Unit(match[1], index, match[3] or "", node)
