"""Running one template for one node: its inputs, the cache, tries, and then what kind it is."""

from typing import Any

from tests.argo import arguments, expressions, templating
from tests.argo.cache import CacheError
from tests.argo.controller import MAX_DEPTH, Controller, Options
from tests.argo.dag import execute_dag
from tests.argo.status import Node, pod_name
from tests.argo.steps import execute_steps

__all__ = ["execute_template", "retry_strategy"]

Template = dict[str, Any]


def execute_template(
    controller: Controller,
    name: str,
    task: dict[str, Any],
    given: dict[str, Any],
    options: Options,
) -> Node | None:
    """The node of this name, made, gone on with, or as it is because it has ended. None: it may not
    be made yet. `NodeError`: it is in Error."""
    controller.depth += 1
    try:
        return _execute(controller, name, task, given, options)
    finally:
        controller.depth -= 1


def _execute(
    controller: Controller,
    name: str,
    task: dict[str, Any],
    given: dict[str, Any],
    options: Options,
) -> Node | None:
    node = controller.status.get(name)
    if node is not None and node.fulfilled:
        return node
    called = task.get("template", "")
    if controller.depth >= MAX_DEPTH:
        controller.fail(node, name, called, options, "Maximum recursion depth exceeded.")
        return controller.status.get(name)
    if called not in controller.templates:
        message = f"template reference {called} not found"
        raise controller.fail(node, name, called, options, message)
    template = controller.processed.get(name)
    if template is None:
        try:
            template = _filled_in(controller, name, task, given)
        except templating.TemplateError as failure:
            raise controller.fail(node, name, called, options, str(failure)) from failure
        controller.processed[name] = template
    if _too_many(controller, template, node, options.boundary_id):
        return node
    if node is None and template.get("memoize"):
        node = _from_cache(controller, name, template, options)
        if node.fulfilled:
            return node
    if retry_strategy(controller, template) is not None:
        return _execute_tries(controller, name, template, node, task, given, options)
    return _execute_kind(controller, name, template, options)


def _filled_in(
    controller: Controller, name: str, task: dict[str, Any], given: dict[str, Any]
) -> Template:
    template = controller.templates[task["template"]]
    local: templating.Values = {"node.name": name}
    if "container" in template and retry_strategy(controller, template) is None:
        local["pod.name"] = pod_name(controller.name, name, template["name"])
    if task.get("name"):
        kind = "steps" if task.get("_step") else "tasks"
        local[f"{kind}.name"] = task["name"]
    return arguments.process(template, given, controller.values, local)


def retry_strategy(controller: Controller, template: Template) -> dict[str, Any] | None:
    """The template's, else the workflow's."""
    return template.get("retryStrategy") or controller.spec.get("retryStrategy")


def _too_many(
    controller: Controller, template: Template, node: Node | None, boundary_id: str
) -> bool:
    """Whether parallelism, of the workflow or of a template, forbids to go on just now."""
    limit = controller.spec.get("parallelism")
    if limit is not None and controller.active_pods(None) >= limit:
        return True
    own = template.get("parallelism")
    groups = "dag" in template or "steps" in template
    if own and groups and node is not None and controller.active_pods(node.id) >= own:
        return True
    if boundary_id and (node is None or node.phase not in ("Pending", "Running")):
        boundary = controller.status.nodes[boundary_id]
        limit = controller.templates.get(boundary.template, {}).get("parallelism")
        return bool(limit) and controller.active_children(boundary_id) >= limit
    return False


def _from_cache(controller: Controller, name: str, template: Template, options: Options) -> Node:
    """A node that is to be memoized: at its end already if the cache has it.

    Looked up only when the node is made: an attempt of a Retry never is, and a Retry that is a hit
    has no attempts.
    """
    memoize = template["memoize"]
    config_map = memoize["cache"]["configMap"]["name"]
    try:
        entry = controller.cache.load(config_map, memoize["key"], memoize.get("maxAge", ""))
    except CacheError as failure:
        raise controller.fail(None, name, template["name"], options, str(failure)) from failure
    kind = "DAG" if "dag" in template else "Steps" if "steps" in template else "Pod"
    if "suspend" in template:
        kind = "Suspend"
    if template.get("retryStrategy"):
        kind = "Retry"
    node = _executable(controller, name, kind, "Pending", template, options)
    if entry is not None:
        node.memoization = {**(node.memoization or {}), "hit": True}
        node.outputs = entry["outputs"]
        controller.mark(name, "Succeeded")
    return node


def _executable(
    controller: Controller, name: str, kind: str, phase: str, template: Template, options: Options
) -> Node:
    node = controller.initialize(name, kind, phase, template["name"], options)
    if (template.get("inputs") or {}).get("parameters"):
        node.inputs = template["inputs"]
    if memoize := template.get("memoize"):
        config_map = memoize["cache"]["configMap"]["name"]
        node.memoization = {"hit": False, "key": memoize["key"], "cacheName": config_map}
    return node


def _execute_kind(
    controller: Controller, name: str, template: Template, options: Options
) -> Node | None:
    node = controller.status.get(name)
    if "container" in template:
        node = node or _executable(controller, name, "Pod", "Pending", template, options)
        try:
            controller.make_pod(node, template, options)
        except templating.TemplateError as failure:
            raise controller.fail(node, name, template["name"], options, str(failure)) from failure
    elif "dag" in template:
        node = node or _executable(controller, name, "DAG", "Running", template, options)
        execute_dag(controller, node, template, options, execute_template)
    elif "steps" in template:
        node = node or _executable(controller, name, "Steps", "Running", template, options)
        execute_steps(controller, node, template, options, execute_template)
    elif "suspend" in template:
        node = node or _executable(controller, name, "Suspend", "Running", template, options)
        duration = (template["suspend"] or {}).get("duration")
        if duration is not None:
            # Waiting takes no time here.
            controller.mark(name, "Succeeded")
    else:
        message = f"Template '{template['name']}' missing specification"
        raise controller.fail(node, name, template["name"], options, message)
    return controller.status.get(name)


# Tries


def _execute_tries(
    controller: Controller,
    name: str,
    template: Template,
    node: Node | None,
    task: dict[str, Any],
    given: dict[str, Any],
    options: Options,
) -> Node | None:
    """A Retry node stands for the tries of the template, which are its children."""
    parent = node or _executable(controller, name, "Retry", "Running", template, options)
    strategy = retry_strategy(controller, template) or {}
    try:
        _judge_last_try(controller, parent, strategy)
    except expressions.ExpressionError as failure:
        raise controller.fail(parent, name, template["name"], options, str(failure)) from failure
    tries = controller.attempts(parent)
    last = tries[-1] if tries else None
    if parent.fulfilled and controller.children_fulfilled(parent):
        if last is not None:
            parent.outputs = last.outputs
        return parent
    if last is not None and not last.fulfilled:
        number, attempt = len(tries) - 1, last.name
    else:
        number, attempt = len(tries), f"{name}({len(tries)})"
        controller.add_child(name, attempt)
    local: templating.Values = {"retries": str(number), **_last_try(last, "0")}
    if "container" in template:
        local["pod.name"] = pod_name(controller.name, attempt, template["name"])
    inner = Options(options.boundary_id, options.on_exit, {**(options.flag or {}), "retried": True})
    try:
        filled = arguments.substitute(template, controller.values | local)
    except templating.TemplateError as failure:
        existing = controller.status.get(attempt)
        raise controller.fail(existing, attempt, template["name"], inner, str(failure)) from failure
    child = _execute_kind(controller, attempt, filled, inner)
    if not parent.fulfilled and child is not None and child.fulfilled:
        # It ended at once: the parent is judged again, and another try may start.
        return execute_template(controller, name, task, given, options)
    return parent


def _last_try(last: Node | None, no_exit_code: str) -> templating.Values:
    outputs = (last.outputs if last else None) or {}
    return {
        "lastRetry.exitCode": outputs.get("exitCode", no_exit_code),
        "lastRetry.status": last.phase if last else "",
        "lastRetry.duration": "0",
        "lastRetry.message": last.message if last else "",
    }


def _judge_last_try(controller: Controller, parent: Node, strategy: dict[str, Any]) -> None:
    """Ends the Retry node, unless its last try goes on or another one is to follow."""
    tries = controller.attempts(parent)
    last = tries[-1] if tries else None
    if parent.fulfilled or last is None or not last.fulfilled:
        return
    if not last.failed:
        parent.outputs = last.outputs
        controller.mark(parent.name, "Succeeded")
        return
    ends = _reason_to_end(controller, len(tries), last, strategy)
    if ends is not None:
        controller.mark(parent.name, last.phase, ends)


def _reason_to_end(
    controller: Controller, tries: int, last: Node, strategy: dict[str, Any]
) -> str | None:
    if controller.shutdown:
        return f"Stopped with strategy '{controller.shutdown}'"
    if controller.past_deadline:
        return "retry exceeded workflow deadline"
    policy = strategy.get("retryPolicy") or (
        "Always" if strategy.get("expression") else "OnFailure"
    )
    if policy not in ("Always", "OnFailure", "OnError", "OnTransientError"):
        raise expressions.ExpressionError(f"{policy} is not a valid RetryPolicy")
    transient = policy == "OnTransientError"  # None of what is evaluated here is transient.
    wrong = "OnError" if last.phase == "Failed" else "OnFailure"
    if transient or policy == wrong:
        return last.message
    limit = strategy.get("limit")
    if limit is not None and tries > int(limit):
        return "No more retries left"
    if strategy.get("expression"):
        known: templating.Values = {"retries": str(tries - 1), **_last_try(last, "-1")}
        again = expressions.evaluate(strategy["expression"], templating.environment(known))
        if not isinstance(again, bool):
            raise expressions.ExpressionError(f"unable to cast expression result '{again}' to bool")
        if not again:
            return "retryStrategy.expression evaluated to false"
    return None
