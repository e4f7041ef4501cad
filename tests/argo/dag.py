"""A DAG: which of its tasks can run, and what it came to (`workflow/controller/dag.go`)."""

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.argo import conditions, items, templating
from tests.argo.controller import Controller, NodeError, Options
from tests.argo.items import Expanded
from tests.argo.scope import Scope
from tests.argo.status import Node

__all__ = ["STRICT", "ExecuteTemplate", "execute_dag", "resolve"]

ExecuteTemplate = Callable[[Controller, str, dict[str, Any], dict[str, Any], Options], Node | None]

STRICT = re.compile(r"^(tasks|steps)(\.|$)")
"""References that must be known: the controller waits for them, for ever if need be."""


def execute_dag(
    controller: Controller,
    node: Node,
    template: dict[str, Any],
    options: Options,
    execute: ExecuteTemplate,
) -> None:
    """Goes through the DAG once, from its targets to what they depend on."""
    dag = _Dag(controller, node, template, options, execute)
    for target in dag.targets:
        dag.visit(target)
    phase = dag.phase()
    if phase == "Running":
        return
    if phase == "Succeeded":
        try:
            outputs = dag.outputs()
        except ValueError as failure:
            raise controller.fail(
                node, node.name, node.template, options, str(failure)
            ) from failure
        if outputs is not None:
            node.outputs = outputs
        if node.memoization:
            # The controller overwrites the error of a save that failed: for a pod it does not.
            controller.cache.save(node.memoization, node.id, node.outputs)
    node.outbound = [
        found
        for target in dag.targets
        if (last := dag.node(target)) is not None
        for found in controller.outbound(last.id)
    ]
    controller.mark(node.name, phase)


class _Dag:
    def __init__(
        self,
        controller: Controller,
        node: Node,
        template: dict[str, Any],
        options: Options,
        execute: ExecuteTemplate,
    ) -> None:
        self.controller = controller
        self.boundary = node
        self.template = template
        self.on_exit = options.on_exit
        self.execute = execute
        self.tasks: dict[str, dict[str, Any]] = {t["name"]: t for t in template["dag"]["tasks"]}
        logic = controller.dependencies.get(node.id)
        if logic is None:
            logic = {
                name: conditions.dependencies(task, self.tasks) for name, task in self.tasks.items()
            }
            controller.dependencies[node.id] = logic
        self.logic = logic
        self.visited: set[str] = set()
        target = template["dag"].get("target")
        self.targets = target.split(" ") if target else self._leaves()

    def _leaves(self) -> list[str]:
        depended_on = {name for names, _ in self.logic.values() for name in names}
        return sorted(name for name in self.tasks if name not in depended_on)

    def name(self, task: str) -> str:
        return f"{self.boundary.name}.{task}"

    def node(self, task: str) -> Node | None:
        return self.controller.status.get(self.name(task))

    # Tasks

    def visit(self, name: str) -> None:
        """A task and, first, those that it depends on. Each once a pass."""
        if name in self.visited:
            return
        self.visited.add(name)
        node, task = self.node(name), self.tasks[name]
        if node is not None and node.fulfilled:
            return
        depends_on, logic = self.logic[name]
        if logic:
            for other in depends_on:
                self.visit(other)
            try:
                go_on = self._may_run(name)
            except conditions.ConditionError as failure:
                self._stand_in(task, "Error", str(failure))
                return
            if go_on is None:
                return
            if not go_on:
                self._stand_in(task, "Omitted", "omitted: depends condition not met")
                return
        expanded = self.controller.expanded.get((self.boundary.id, name))
        if expanded is None:
            expanded = self._expanded(task)
            if expanded is None:
                return
            self.controller.expanded[self.boundary.id, name] = expanded
        self._run(task, expanded)

    def _expanded(self, task: dict[str, Any]) -> list[Expanded] | None:
        """The task, or those of its loop, with all references filled in; `when` first, for what it
        rules out may refer to what is not there. None: it waits, or it is an error."""
        scope = self._scope(task["name"])
        try:
            resolved = resolve(task, scope)
        except ValueError as failure:
            if not getattr(failure, "missing", False):
                self._stand_in(task, "Error", str(failure))
            return None
        try:
            return items.expand(resolved, scope.all())
        except ValueError as failure:
            self._stand_in(task, "Error", str(failure))
            return None

    def _stand_in(self, task: dict[str, Any], phase: str, message: str) -> None:
        name = self.name(task["name"])
        if self.controller.status.get(name) is None:
            self.controller.skip(name, task, self.boundary.id, phase, message)
        else:
            self.controller.mark(name, phase, message)
        self._connect(task["name"], task["name"], None)

    def _connect(self, task: str, child: str, group: Node | None) -> None:
        """Its parents: its loop's node, or the last nodes of what it depends on, or the DAG."""
        depends_on = self.logic[task][0]
        if group is not None:
            self.controller.add_child(group.name, self.name(child))
        elif not depends_on:
            self.controller.add_child(self.boundary.name, self.name(child))
        else:
            for other in depends_on:
                last = self.node(other)
                for parent in self.controller.outbound(last.id) if last else ():
                    parent_name = self.controller.status.nodes[parent].name
                    self.controller.add_child(parent_name, self.name(child))

    def _may_run(self, name: str) -> bool | None:
        """By what the tasks came to that it depends on; None while one of them goes on."""
        if self.node(name) is not None:
            return True
        results = {}
        for other in self.logic[name][0]:
            node = self.node(other)
            if node is None or not node.fulfilled:
                return None
            results[other] = self._results(node)
        return conditions.depends_holds(self.logic[name][1], results)

    def _results(self, node: Node) -> dict[str, bool]:
        group = node.type == "TaskGroup"
        phases = [self.controller.status.nodes[i].phase for i in node.children] if group else []
        return {
            "Succeeded": node.phase == "Succeeded",
            "Failed": node.phase == "Failed",
            "Errored": node.phase == "Error",
            "Skipped": node.phase == "Skipped",
            "Omitted": node.phase == "Omitted",
            "Daemoned": False,
            "AnySucceeded": "Succeeded" in phases,
            "AllFailed": bool(phases) and set(phases) == {"Failed"},
        }

    def _scope(self, name: str) -> Scope:
        """What a task may refer to: every task before it."""
        scope = Scope(self.controller, "tasks", self.template)
        ancestors: dict[str, None] = {}
        pending = deque(self.logic[name][0])
        while pending:
            ancestor = pending.popleft()
            if ancestor not in ancestors:
                ancestors[ancestor] = None
                pending.extend(self.logic[ancestor][0])
        for ancestor in ancestors:
            self._add(scope, ancestor)
        return scope

    def _add(self, scope: Scope, name: str) -> None:
        node = self.node(name)
        if node is None:
            return
        if node.type == "TaskGroup":
            scope.add_group(name, [self.controller.status.nodes[i] for i in node.children])
        scope.add(name, node)
        called = self.tasks[name].get("template", "")
        scope.add_skipped(name, node, self.controller.templates.get(called))

    def _run(self, task: dict[str, Any], expanded: list[Expanded]) -> None:
        controller, name, group = self.controller, self.name(task["name"]), None
        if items.loops(task):
            if not expanded:
                self._stand_in(task, "Skipped", "Skipped, empty params")
                return
            group = controller.status.get(name)
            if group is None:
                self._connect(task["name"], task["name"], None)
                group = controller.initialize(
                    name, "TaskGroup", "Running", task.get("template", ""),
                    Options(self.boundary.id, flag={}),
                )  # fmt: skip
        for each in expanded:
            if not self._run_one(task, each, group):
                return
        if group is not None:
            phases = self._ended(expanded)
            if phases is not None:
                failed = [phase for phase in phases if phase in ("Failed", "Error")]
                controller.mark(group.name, failed[-1] if failed else "Succeeded")

    def _ended(self, expanded: list[Expanded]) -> list[str] | None:
        nodes = [self.node(each.name) for each in expanded]
        if any(node is None or not node.fulfilled for node in nodes):
            return None
        return [node.phase for node in nodes if node is not None]

    def _run_one(self, task: dict[str, Any], each: Expanded, group: Node | None) -> bool:
        """False: the pass is over for this task."""
        controller, name = self.controller, self.name(each.name)
        node = controller.status.get(name)
        if node is not None and node.fulfilled:
            return True
        if node is None:
            when = each.task.get("when") or ""
            try:
                runs, phase = conditions.when_holds(when), "Skipped"
                message = f"when '{when}' evaluated false"
            except conditions.ConditionError as failure:
                runs, phase, message = False, "Error", str(failure)
            self._connect(task["name"], each.name, group)
            if not runs:
                controller.skip(name, each.task, self.boundary.id, phase, message)
                return True
        call = each.task | {"name": each.name}
        options = Options(self.boundary.id, self.on_exit)
        try:
            node = self.execute(controller, name, call, each.task.get("arguments") or {}, options)
        except NodeError as failure:
            controller.mark(name, "Error", f"task '{name}' errored: {failure}")
            return False
        return node is not None

    # What it came to

    def phase(self) -> str:
        """Of its targets: one that was omitted inherits from the branch that leads to it, Failed
        and Error before Succeeded. Walked from the DAG's children along children."""
        controller = self.controller
        if controller.shutdown and not self.on_exit:
            return "Failed"
        nodes = controller.status.nodes
        found = {controller.status.node_id(self.name(target)): "" for target in self.targets}
        queue = deque((child, "Succeeded") for child in self.boundary.children)
        seen = set(queue)
        while queue:
            node_id, branch = queue.popleft()
            node = nodes.get(node_id)
            if node is None:
                return "Running"
            if not node.fulfilled:
                healed = self._heal(node)
                if healed is None:
                    return "Running"
                branch = healed
            elif node.completed:
                branch = node.phase
            if node_id in found and found[node_id] not in ("Failed", "Error"):
                found[node_id] = branch
            following = self._after_tries(node) if node.type == "Retry" else node.children
            fresh = [pair for child in following if (pair := (child, branch)) not in seen]
            seen.update(fresh)
            queue.extend(fresh)
        return self._of_targets(found)

    def _heal(self, node: Node) -> str | None:
        """A loop that `argo retry` reset, and whose items have all ended, is not visited again: its
        phase is set here."""
        if node.type != "TaskGroup" or not node.children:
            return None
        children = [self.controller.status.nodes.get(child) for child in node.children]
        if any(child is None or not child.fulfilled for child in children):
            return None
        failed = [child.phase for child in children if child is not None and child.failed]
        phase = failed[-1] if failed else "Succeeded"
        self.controller.mark(node.name, phase)
        return phase

    def _after_tries(self, node: Node) -> list[str]:
        """A Retry says what its last try came to; what follows hangs on the tries."""
        found = []
        for child_id in reversed(node.children):
            child = self.controller.status.nodes[child_id]
            found += [child.id] if child.hooked else child.children
        return found

    def _of_targets(self, found: dict[str, str]) -> str:
        fail_fast = self.template["dag"].get("failFast", True)
        result = "Succeeded"
        for target in self.targets:
            phase = found[self.controller.status.node_id(self.name(target))]
            if phase == "":
                result = "Running"
                if not fail_fast:
                    break
            elif phase in ("Failed", "Error") and not self._continues(target, phase):
                result = phase
                if fail_fast:
                    break
        return result

    def _continues(self, target: str, phase: str) -> bool:
        go_on = self.tasks[target].get("continueOn") or {}
        return bool(go_on.get("failed" if phase == "Failed" else "error"))

    def outputs(self) -> dict[str, Any] | None:
        scope = Scope(self.controller, "tasks", self.template)
        for name in self.tasks:
            self._add(scope, name)
        return scope.outputs(self.template)


def resolve(task: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """A task or a step with its references to others filled in."""
    known = scope.all()
    if when := task.get("when"):
        filled = templating.substitute(when, known, STRICT)
        try:
            if not conditions.when_holds(filled):
                return {**task, "when": filled}
        except conditions.ConditionError:
            # It may refer to an item, which is not known before the loop is expanded.
            if not items.loops(task):
                raise
    resolved: dict[str, Any] = templating.substitute(scope.mark_absent(task), known, STRICT)
    return resolved
