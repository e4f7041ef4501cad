"""A run made of the status of a workflow that `runstore argo` did not write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runstore.canonical import dumps, loads
from runstore.dag import AnyNode, Dag, walk
from runstore.errors import InputError
from runstore.executor.checks import secrets_of
from runstore.integrations.argo.facts import NotKnownError, attempt_of, value_of
from runstore.integrations.argo.status import Node, WorkflowStatus
from runstore.integrations.argo.tree import Tree, Unit
from runstore.paths import NodePath, Segment
from runstore.pipeline import Pipeline
from runstore.plan import Step
from runstore.store import Store
from runstore.transfer.replay import Happened, Items, Replayed, replay

__all__ = ["Imported", "import_workflow"]


@dataclass(slots=True)
class Imported:
    """What came of an import."""

    replayed: Replayed
    left_out: dict[str, str] = field(default_factory=dict)
    """Path of a step -> why nothing, or not all, was recorded of it."""
    strange: Sequence[str] = ()
    """Names of nodes that stand for no step of the pipeline."""


def import_workflow(
    store: Store,
    status: WorkflowStatus,
    pipeline: Pipeline,
    *,
    run_id: str = "",
    tasks: Mapping[str, str] | None = None,
    file: str = "",
) -> Imported:
    """Record what a workflow did as a run of a pipeline, whose steps its tasks are.

    A step is found by its name, where it stands: `load-data` is Argo's spelling of `load_data`. An
    item of a map is found by its value. What a step returns must stand in the output parameters of
    its node. Whatever is not found, or has no values, is left out: a retry runs it.

    :param run_id: by default the workflow's parameter ``run_id``, or its name.
    :param tasks: name of a node of the pipeline -> the task that stands for it, where that has
        another name.
    :raises InputError: for nodes that cannot stand as they say, and for a task that is not there.
    :raises RunExistsError, StructureChangedError, DagError, DivergedError: as
        :func:`~runstore.transfer.replay.replay`.
    """
    finder = _Finder(Tree(status), pipeline.dag, dict(tasks or {}))
    given = {_plain(name): value_of(text) for name, text in status.parameters.items()}
    hidden = secrets_of(pipeline, {})
    parameters = {
        name: given.get(_plain(name), value)
        for name, value in pipeline.parameters.items()
        if name not in hidden
    }
    source = {"argo": status.name, "uid": status.uid}
    if file:
        source["file"] = file
    done = replay(
        store, run_id or status.run_id or status.name, pipeline.dag, parameters, finder.told,
        source=source, identity="uid", secrets=hidden,
    )  # fmt: skip
    return Imported(done, finder.left_out, finder.strange())


_NOTHING = ("Omitted", "Skipped")
"""Phases of what did not run."""


class _Finder:
    """Finds the nodes of steps."""

    def __init__(self, tree: Tree, dag: Dag, tasks: Mapping[str, str]) -> None:
        self.tree = tree
        self.dag = dag
        self.tasks = tasks
        self.left_out: dict[str, str] = {}
        self._check(tasks)
        self._used: set[str] = set()
        self._fans: dict[str, _Fan] = {}

    def _check(self, tasks: Mapping[str, str]) -> None:
        nodes = {node.name for _, node in walk(self.dag)}
        there = self.tree.tasks()
        for node, task in tasks.items():
            if node not in nodes:
                raise InputError(
                    f"--task {node}={task}: the pipeline has no node {node!r}",
                    advice=f"it has {', '.join(sorted(nodes)[:10])}",
                )
            if task not in there:
                raise InputError(
                    f"--task {node}={task}: the workflow has no task {task!r}",
                    advice=f"it has {', '.join(sorted(there)[:10])}",
                )

    def told(self, step: Step, items: Items) -> list[Happened]:
        """The attempts at a step."""
        try:
            unit = self._unit(NodePath.parse(step.path), items)
            if unit is None:
                self.left_out[step.path] = "has no node in the workflow"
                return []
            return self._attempts(step, unit)
        except NotKnownError as why:
            self.left_out[step.path] = str(why)
            return []

    def _attempts(self, step: Step, unit: Unit) -> list[Happened]:
        assert step.work is not None
        leaf = self.tree.leaf(unit)
        if leaf is None:
            raise NotKnownError(f"is several pods there, in {unit.node.name}")
        self._used.update((unit.node.id, leaf.id))
        if step.work.task.config.get("save"):
            raise NotKnownError("saves files, and none are in a status")
        returns = step.work.task.returns
        if leaf.reused:
            return [attempt_of(leaf, returns, unit.node)]
        made: list[Happened] = []
        for each in self.tree.tries(leaf):
            self._used.add(each.id)
            try:
                made.append(attempt_of(each, returns, unit.node))
            except NotKnownError as why:
                self.left_out[step.path] = str(why)
                continue
            if made[-1].outcome == "succeeded":
                self.left_out.pop(step.path, None)
                break
        if not made:
            self.left_out.setdefault(step.path, f"is {leaf.phase}, without an attempt")
        return made

    # -- the way to a step

    def _unit(self, path: NodePath, items: Items) -> Unit | None:
        root = self.tree.root
        if root is None:
            return None
        at = Unit("", None, "", root)
        nodes: Sequence[AnyNode] = self.dag.nodes
        template = ""
        for depth, segment in enumerate(path.segments):
            node = next(each for each in nodes if each.name == segment.name)
            if node.kind == "task":
                return self._named(at, node.name, nodes, template, alone=len(nodes) == 1)
            found: Unit | None
            if node.kind == "map":
                above = NodePath((*path.segments[:depth], Segment(segment.name)))
                found = self._item(at, segment, nodes, template, str(above), items)
                nodes, template = node.body.nodes, ""
            elif node.kind == "loop":
                found = self._named(at, node.name, nodes, template)
                template = found.node.template if found is not None else ""
                for _ in range(segment.iteration or 0):
                    inner = found and self.tree.next_turn(found.node, template)
                    found = Unit(node.name, None, "", inner) if inner else None
                nodes = node.body.nodes
            else:
                assert segment.branch is not None
                # Argo may have no node for what chooses a branch, or holds some.
                found = self._named(at, node.name, nodes, template) or at
                nodes = dict(node.bodies)[segment.branch].nodes
                inside = found if found is not at else None
                branch = self._named(found, segment.branch, nodes, template) if inside else None
                if branch is not None and branch.is_composite:
                    found = branch
            if found is None:
                return None
            self._used.add(found.node.id)
            at = found
        return None

    def _named(
        self, at: Unit, name: str, nodes: Sequence[AnyNode], template: str, *, alone: bool = False
    ) -> Unit | None:
        """The unit of a name in a scope. What is ``alone`` there may have any."""
        if not at.is_composite:
            return at if alone else None
        found = self._all(at, name, nodes, template)
        found = [each for each in found if each.index is None]
        if not found and alone and self.tree.leaf(at) is not None:
            return at
        if len(found) > 1:
            raise NotKnownError(f"may be any of {', '.join(each.node.name for each in found[:5])}")
        return found[0] if found else None

    def _all(self, at: Unit, name: str, nodes: Sequence[AnyNode], template: str) -> list[Unit]:
        others = frozenset(self.tasks.get(each.name, each.name) for each in nodes)
        beside = frozenset(
            unit.task
            for unit in self.tree.units(at.node)
            if any(_same(unit.task, other) for other in others)
        )
        wanted = self.tasks.get(name, name)
        units = list(self.tree.within(at.node, beside, template))
        exact = [each for each in units if each.task == wanted]
        return exact or [each for each in units if _same(each.task, wanted)]

    def _item(
        self, at: Unit, segment: Segment, nodes: Sequence[AnyNode], template: str,
        above: str, items: Items,
    ) -> Unit | None:  # fmt: skip
        """The unit of an item of the map at ``above``."""
        if not at.is_composite:
            return None
        known = self._fans.get(above)
        if known is None:
            listed = items(above)
            if listed is None:
                return None
            units = self._all(at, segment.name, nodes, template)
            fan = [each for each in units if each.index is not None]
            known = self._fans[above] = _Fan(segment.name, fan, listed)
        assert segment.item is not None
        return known.unit(loads(segment.item.encode()), segment.k)

    def strange(self) -> list[str]:
        """The leaves that no step was found by."""
        if self.tree.root is None:
            return []
        names = []
        scopes: list[Node] = [self.tree.root]
        seen = {self.tree.root.id}
        while scopes:
            for unit in self.tree.units(scopes.pop()):
                if unit.is_composite and unit.node.id not in seen:
                    seen.add(unit.node.id)
                    if unit.node.id not in self._used or self.tree.leaf(unit) is None:
                        scopes.append(unit.node)
                elif unit.node.id not in self._used and unit.node.phase not in _NOTHING:
                    names.append(unit.node.name)
        return sorted(names)


class _Fan:
    """The units of a map, by what their items are.

    A unit has its item as text, in its name and in what it was given: exact for texts, and for
    values that it was given as JSON. Of other values Argo's text is lossy, and of ``1`` and ``"1"``
    it is the same: there the place decides, in a loop over as many.
    """

    def __init__(self, name: str, units: Sequence[Unit], items: Sequence[Any]) -> None:
        self.name = name
        self.units = units
        self._texts: dict[str, list[Unit]] = {}
        self._values: dict[bytes, list[Unit]] = {}
        for unit in units:
            texts = dict.fromkeys([unit.text, *(unit.node.inputs or {}).values()])
            for text in texts:
                self._texts.setdefault(text, []).append(unit)
            for value in {v for v in map(_canonical, texts) if v is not None}:
                self._values.setdefault(value, []).append(unit)
        self._positions: dict[bytes, list[int]] = {}
        for at, item in enumerate(items):
            self._positions.setdefault(dumps(item), []).append(at)
        self._whole = [each.index for each in units] == list(range(len(items)))

    def unit(self, item: Any, k: int) -> Unit | None:
        """That of the k-th of equal items; ``None`` if there are none at all.

        :raises NotKnownError: if it is not certain which.
        """
        if not self.units:
            return None
        wanted = dumps(item)
        same = self._texts.get(item, []) if type(item) is str else self._values.get(wanted, [])
        positions = self._positions.get(wanted, [])
        if len(same) == len(positions):
            return same[k - 1]
        if self._whole and positions:
            there = self.units[positions[k - 1]]
            if there in same or (not same and type(item) is not str):
                return there
        raise NotKnownError(f"is an item that no node of {self.name!r} certainly has")


def _canonical(text: str) -> bytes | None:
    try:
        return dumps(loads(text.encode()))
    except (InputError, UnicodeEncodeError):
        return None


def _same(task: str, name: str) -> bool:
    return _plain(task) == _plain(name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
