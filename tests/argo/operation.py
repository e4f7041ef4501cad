"""One pass of the controller over one workflow (`operate` in `workflow/controller/operator.go`)."""

import contextlib
import json
import sys
from collections.abc import Iterator

from tests.argo import gotext, templating
from tests.argo.controller import Controller, NodeError, Options
from tests.argo.status import Node
from tests.argo.templates import execute_template
from tests.argo.validation import invalid

__all__ = ["reconcile", "substitute_globals"]

_OF_WORKFLOW = {
    "Pending": "Pending",
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Skipped": "Succeeded",
    "Omitted": "Succeeded",
    "Failed": "Failed",
    "Error": "Error",
}


@contextlib.contextmanager
def _deep() -> Iterator[None]:
    """A chain of a thousand tasks is walked by recursion, as the controller walks it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 60_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def reconcile(controller: Controller) -> None:
    """Looks at the pods, goes through the templates, and ends the workflow if that is due."""
    with _deep():
        _reconcile(controller)


def _reconcile(controller: Controller) -> None:
    status = controller.status
    if status.phase in ("Succeeded", "Failed", "Error"):
        return
    if status.phase == "":
        fault = invalid(controller)
        if fault:
            status.started_at = controller.now()
            _end(controller, "Failed", f"invalid spec: {fault}")
            return
        status.phase, status.started_at = "Running", status.started_at or controller.now()
    else:
        controller.look_at_pods()
        _fail_what_has_no_pod(controller)
    controller.values["workflow.status"] = status.phase
    arguments = controller.spec.get("arguments") or {}
    call = {"template": controller.spec["entrypoint"]}
    try:
        node = execute_template(controller, controller.name, call, arguments, Options())
    except NodeError as failure:
        _end(controller, "Error", f"error in entry template execution: {failure}")
        return
    if node is None or not node.fulfilled:
        return
    phase = _OF_WORKFLOW[node.phase]
    controller.values["workflow.status"] = phase
    controller.values["workflow.failures"] = _failures(controller)
    exit_node = _exit_handler(controller)
    if exit_node is not None and not exit_node.fulfilled:
        return
    if phase in ("Failed", "Error"):
        stopped = f"Stopped with strategy '{controller.shutdown}'"
        _end(controller, phase, stopped if controller.shutdown else node.message)
    elif exit_node is not None and exit_node.failed:
        _end(controller, _OF_WORKFLOW[exit_node.phase], exit_node.message)
    else:
        _end(controller, "Succeeded", "")


def _exit_handler(controller: Controller) -> Node | None:
    """Its node, if there is an exit handler and it may run: after terminate it may not."""
    spec = controller.spec
    hook = (spec.get("hooks") or {}).get("exit") or {}
    template = spec.get("onExit") or hook.get("template")
    name = f"{controller.name}.onExit"
    if not template or (controller.status.get(name) is None and not controller.runs_pods(True)):
        return None
    given = hook.get("arguments") if not spec.get("onExit") else None
    arguments = given or spec.get("arguments") or {}
    options = Options(on_exit=True, flag={"hooked": True})
    try:
        return execute_template(controller, name, {"template": template}, arguments, options)
    except NodeError:
        return controller.status.get(name)


def _fail_what_has_no_pod(controller: Controller) -> None:
    """Shutdown and the deadline end what waits and has no pod to be told."""
    if not controller.shutdown and not controller.past_deadline:
        return
    stopped = f"Stopped with strategy '{controller.shutdown}'"
    for node in list(controller.status.nodes.values()):
        if node.fulfilled:
            continue
        on_exit = controller.in_exit_handler(node)
        suspended = node.type == "Suspend" and node.phase == "Running"
        if controller.shutdown and not controller.runs_pods(on_exit):
            tried = node.type == "Retry" and controller.children_fulfilled(node)
            if suspended or tried:
                controller.mark(node.name, "Failed", stopped)
                continue
        if controller.past_deadline and not on_exit and (node.phase == "Pending" or suspended):
            controller.mark(node.name, "Failed", "Step exceeded its deadline")


def _failures(controller: Controller) -> str:
    """`workflow.failures`: JSON of the failed nodes, quoted once more."""
    failed = [node for node in controller.status.nodes.values() if node.failed]
    described = [
        {
            "displayName": node.display_name,
            "message": node.message,
            "templateName": node.template,
            "phase": node.phase,
            "podName": node.id,
            "finishedAt": node.finished_at,
        }
        for node in failed
    ]
    return f'"{gotext.quote(json.dumps(described or None))}"'


def _end(controller: Controller, phase: str, message: str) -> None:
    """Unless a pod may still report something: then the next pass ends it."""
    if any(pod.started and pod.result is None for pod in controller.unseen):
        return
    status = controller.status
    status.phase, status.message = phase, message
    status.finished_at = controller.now()
    entry = status.get(controller.name)
    if phase == "Error" and entry is not None and entry.phase == "Running":
        controller.mark(controller.name, "Error", "Workflow operation error")


def substitute_globals(controller: Controller) -> None:
    """The workflow's own parameters in all of the spec but its templates."""
    controller.spec = templating.substitute(controller.spec, controller.values)
