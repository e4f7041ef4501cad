"""Groups of steps one after another, those of a group at once (`workflow/controller/steps.go`)."""

from typing import Any

from tests.argo import conditions, dag, items
from tests.argo.controller import Controller, NodeError, Options
from tests.argo.dag import ExecuteTemplate
from tests.argo.scope import Scope
from tests.argo.status import Node

__all__ = ["execute_steps"]

Step = dict[str, Any]


def execute_steps(
    controller: Controller,
    node: Node,
    template: dict[str, Any],
    options: Options,
    execute: ExecuteTemplate,
) -> None:
    """Goes through the groups, up to one that has not ended."""
    scope = Scope(controller, "steps", template)
    inner = Options(node.id, options.on_exit)
    for number, steps in enumerate(template["steps"]):
        group = _group_node(controller, node, number)
        group = _execute_group(controller, group, steps, scope, inner, execute)
        if not group.fulfilled:
            return
        if group.failed:
            _set_outbound(controller, node, number)
            controller.mark(node.name, "Failed", group.message)
            return
        for step in steps:
            _add(controller, scope, node, group, step)
    _set_outbound(controller, node, len(template["steps"]) - 1)
    try:
        outputs = scope.outputs(template)
    except ValueError as failure:
        raise controller.fail(node, node.name, node.template, options, str(failure)) from failure
    if outputs is not None:
        node.outputs = outputs
    if node.memoization:
        controller.cache.save(node.memoization, node.id, node.outputs)
    controller.mark(node.name, "Succeeded")


def _group_node(controller: Controller, node: Node, number: int) -> Node:
    name = f"{node.name}[{number}]"
    group = controller.status.get(name)
    if group is None:
        group = controller.initialize(name, "StepGroup", "Running", "", Options(node.id, flag={}))
    elif not group.fulfilled:
        controller.mark(name, "Running")
    if number == 0:
        controller.add_child(node.name, name)
        return group
    before = controller.status.node(f"{node.name}[{number - 1}]")
    if not before.children:
        controller.add_child(before.name, name)
    for child in list(before.children):
        for last in controller.outbound(child):
            controller.add_child(controller.status.nodes[last].name, name)
    return group


def _set_outbound(controller: Controller, node: Node, number: int) -> None:
    group = controller.status.node(f"{node.name}[{number}]")
    node.outbound = [last for child in group.children for last in controller.outbound(child)]


def _add(controller: Controller, scope: Scope, node: Node, group: Node, step: Step) -> None:
    """The outputs of a step, for the groups after its own."""
    name = f"{group.name}.{step['name']}"
    child = controller.status.get(name)
    if child is None:
        every = [controller.status.nodes[found] for found in group.children]
        of_step = [found for found in every if found.name.startswith(f"{name}(")]
        scope.add_group(step["name"], [found for found in of_step if found.type != "Skipped"])
        scope.add(step["name"], group)
        return
    scope.add(step["name"], child)
    called = controller.templates.get(step.get("template", ""))
    scope.add_skipped(step["name"], child, called)


def _execute_group(
    controller: Controller,
    group: Node,
    steps: list[Step],
    scope: Scope,
    options: Options,
    execute: ExecuteTemplate,
) -> Node:
    if group.fulfilled and controller.children_fulfilled(group):
        return group
    try:
        resolved = [dag.resolve(step, scope) for step in steps]
    except ValueError as failure:
        if getattr(failure, "missing", False):
            return group
        return controller.mark(group.name, "Error", f"failed to resolve references: {failure}")
    try:
        expanded = _expanded(controller, group, resolved, scope, options)
    except ValueError as failure:
        return controller.mark(group.name, "Error", str(failure))
    for step in expanded:
        error = _execute_step(controller, group, step, options, execute)
        if error is not None:
            return controller.mark(group.name, "Error", error)
    children = [controller.status.nodes[child] for child in group.children]
    if not all(child.fulfilled for child in children):
        return controller.mark(group.name, "Running") if group.fulfilled else group
    by_name = {f"{group.name}.{step['name']}": step for step in expanded}
    for child in children:
        if child.failed and not _continues(by_name.get(child.name, {}), child):
            return controller.mark(group.name, "Failed", f"child '{child.id}' failed")
    return controller.mark(group.name, "Succeeded")


def _continues(step: Step, child: Node) -> bool:
    go_on = step.get("continueOn") or {}
    return bool(go_on.get("failed" if child.phase == "Failed" else "error"))


def _expanded(
    controller: Controller, group: Node, steps: list[Step], scope: Scope, options: Options
) -> list[Step]:
    found: list[Step] = []
    for step in steps:
        expanded = items.expand(step, scope.all())
        if not expanded:
            name = f"{group.name}.{step['name']}"
            if controller.status.get(name) is None:
                message = "Skipped, empty params"
                controller.skip(name, step, options.boundary_id, "Skipped", message)
                controller.add_child(group.name, name)
        found += [each.task | {"name": each.name, "_step": True} for each in expanded]
    return found


def _execute_step(
    controller: Controller, group: Node, step: Step, options: Options, execute: ExecuteTemplate
) -> str | None:
    """What makes the whole group an error, or None."""
    name, when = f"{group.name}.{step['name']}", step.get("when") or ""
    existing = controller.status.get(name)
    try:
        runs = conditions.when_holds(when)
    except conditions.ConditionError as failure:
        if existing is None:
            controller.skip(name, step, options.boundary_id, "Error", str(failure))
            controller.add_child(group.name, name)
        return str(failure)
    if not runs:
        if existing is None:
            message = f"when '{when}' evaluated false"
            controller.skip(name, step, options.boundary_id, "Skipped", message)
            controller.add_child(group.name, name)
        return None
    inner = Options(options.boundary_id, options.on_exit)
    try:
        child = execute(controller, name, step, step.get("arguments") or {}, inner)
    except NodeError as failure:
        controller.add_child(group.name, name)
        return f"step group deemed errored due to child {name} error: {failure}"
    if child is not None:
        controller.add_child(group.name, name)
    return None
