"""What the controller checks before a workflow starts; else it is Failed, with `invalid spec: ...`.

Far less than `argo lint` (which knows fields) and never the inside of an expression.
"""

import json
import re
from typing import Any

from tests.argo import arguments, conditions, items, templating
from tests.argo.controller import Controller

__all__ = ["invalid"]

_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")
_PREFIXES = ("item.", "steps.", "inputs.", "outputs.", "pod.", "workflow.", "tasks.")
_LATER = (
    "outputs.", "workflow.creationTimestamp", "workflow.scheduledTime", "workflow.duration",
    "tasks.name", "steps.name", "node.name",
)  # fmt: skip
_RETRY = ("retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration",
          "lastRetry.message")  # fmt: skip
_PLACEHOLDER = "__argo__internal__placeholder-0"


def invalid(controller: Controller) -> str:
    """What is wrong with the spec, or nothing."""
    try:
        _Validation(controller).check()
    except ValueError as failure:
        return str(failure)
    return ""


class _Validation:
    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.known = controller.values | {
            "workflow.status": _PLACEHOLDER,
            "workflow.failures": _PLACEHOLDER,
        }
        self.done: set[str] = set()

    def check(self) -> None:
        spec = self.controller.spec
        if len(self.controller.name) > 63:
            raise ValueError(
                f'workflow name "{self.controller.name}" must not be more than 63 characters long'
            )
        _check_names(list(self.controller.templates), "spec.templates")
        for parameter in (spec.get("arguments") or {}).get("parameters") or []:
            if parameter.get("value") is None:
                name = f"spec.arguments.{parameter['name']}"
                raise ValueError(f"{name}.value or {name}.valueFrom is required")
        if not spec.get("entrypoint"):
            raise ValueError("spec.entrypoint is required")
        self.template(spec["entrypoint"], spec.get("arguments") or {})
        if spec.get("onExit"):
            self.template(spec["onExit"], spec.get("arguments") or {})
        for name in self.controller.templates:
            self.template(name, None)

    def template(self, name: str, given: dict[str, Any] | None) -> None:
        """A template with these arguments; None: with whatever it may be given."""
        template = self.controller.templates.get(name)
        if template is None:
            raise ValueError(f"template name '{name}' undefined")
        inputs = (template.get("inputs") or {}).get("parameters") or []
        if given is None:
            each = [{"name": declared["name"], "value": _PLACEHOLDER} for declared in inputs]
            given = {"parameters": each}
        scope = {f"inputs.parameters.{declared['name']}" for declared in inputs}
        scope |= {"inputs.parameters"} if inputs else set()
        local: templating.Values = {}
        if "container" in template:
            local["pod.name"] = _PLACEHOLDER
        if template.get("retryStrategy"):
            local |= dict.fromkeys(_RETRY, _PLACEHOLDER)
        try:
            filled = arguments.process(template, given, self.known, local)
        except templating.TemplateError as failure:
            raise ValueError(f"templates.{name} {failure}") from failure
        if name in self.done:
            return
        self.done.add(name)
        scope |= set(local)
        if "dag" in filled:
            self.dag(filled, scope)
        elif "steps" in filled:
            self.steps(filled, scope)
        else:
            self.resolve(scope, filled, f"templates.{name}")
        self.resolve(scope, filled.get("outputs") or {}, f"templates.{name}.outputs")

    def dag(self, template: dict[str, Any], scope: set[str]) -> None:
        prefix = f"templates.{template['name']}"
        tasks = {task["name"]: task for task in template["dag"].get("tasks") or []}
        if not tasks:
            raise ValueError(f"{prefix} must have at least one task")
        _check_names([task["name"] for task in template["dag"]["tasks"]], f"{prefix}.tasks")
        uses_depends = any(task.get("depends") for task in tasks.values())
        ordered = any(task.get("depends") or task.get("dependencies") for task in tasks.values())
        depends_on = {}
        for name, task in tasks.items():
            if ordered and name[0].isdigit():
                raise ValueError(
                    f"{prefix}.tasks.{name} name cannot begin with a digit when using either "
                    "'depends' or 'dependencies'"
                )
            if uses_depends and task.get("dependencies"):
                raise ValueError(
                    f"{prefix} cannot use both 'depends' and 'dependencies' in the same "
                    "DAG template"
                )
            self._nested(f"{prefix}.tasks.{name}", task["template"], None)
            depends_on[name] = conditions.dependencies(task, tasks)[0]
            _check_results(f"{prefix}.tasks.{name}", task, tasks)
        for name in tasks:
            ancestors = _ancestors(name, depends_on, prefix)
            if name in ancestors:
                raise ValueError(f"{prefix}.tasks dependency cycle detected: {name}")
        for target in (template["dag"].get("target") or "").split():
            if target not in tasks:
                raise ValueError(f"{prefix}.targets: target '{target}' is not defined")
        for name, task in tasks.items():
            scope |= self._outputs("tasks", name, task)
        for name, task in tasks.items():
            ancestors = _ancestors(name, depends_on, prefix)
            inner = scope | _items(task) | {f"tasks.{each}.status" for each in ancestors}
            self.resolve(inner, task, f"{prefix}.tasks.{name}")
            _check_arguments(f"{prefix}.tasks.{name}", task, ancestors)
            self._nested(f"{prefix}.tasks.{name}", task["template"], task.get("arguments") or {})

    def steps(self, template: dict[str, Any], scope: set[str]) -> None:
        prefix = f"templates.{template['name']}"
        for number, group in enumerate(template["steps"]):
            for step in group:
                scope |= _items(step) | {f"steps.{step['name']}.status"}
                where = f"{prefix}.steps[{number}].{step['name']}"
                self._nested(where, step["template"], None)
                self.resolve(scope, step, f"{prefix}.steps")
                scope |= self._outputs("steps", step["name"], step)
                self._nested(where, step["template"], step.get("arguments") or {})

    def _nested(self, where: str, name: str, given: dict[str, Any] | None) -> None:
        try:
            self.template(name, given)
        except ValueError as failure:
            raise ValueError(f"{where} {failure}") from failure

    def _outputs(self, kind: str, name: str, task: dict[str, Any]) -> set[str]:
        prefix = f"{kind}.{name}"
        found = {f"{prefix}.{each}" for each in ("id", "startedAt", "finishedAt", "hostNodeName")}
        called = self.controller.templates[task["template"]]
        if "container" in called:
            found |= {f"{prefix}.outputs.result", f"{prefix}.exitCode"}
        for parameter in (called.get("outputs") or {}).get("parameters") or []:
            found.add(f"{prefix}.outputs.parameters.{parameter['name']}")
        if task.get("withItems") or task.get("withParam"):
            found.add(f"{prefix}.outputs.parameters")
        return found

    def resolve(self, scope: set[str], document: Any, where: str) -> None:
        """Every plain tag of a known family must be known; no other is looked at."""
        text = json.dumps(document, ensure_ascii=False)
        try:
            tags = templating.split_tags(text)[1::2]
        except templating.TemplateError as failure:
            raise ValueError(f"{where} {failure}") from failure
        for tag in tags:
            name = tag.strip()
            if tag.startswith("=") or not name.startswith(_PREFIXES):
                continue
            any_item = "item.*" in scope and name.startswith("item.")
            known = name in scope or name in self.known or any_item
            if not known and not name.startswith(_LATER):
                raise ValueError(f"{where} failed to resolve {{{{{tag}}}}}")


def _check_names(names: list[str], where: str) -> None:
    for position, name in enumerate(names):
        if not _NAME.fullmatch(name) or len(name) > 128:
            raise ValueError(
                f"{where}[{position}].name: '{name}' is invalid: name must consist of "
                "alpha-numeric characters or '-', and must start with an alpha-numeric character, "
                "at most 128 characters"
            )
        if name in names[:position]:
            raise ValueError(f"{where}[{position}].name '{name}' is not unique")


def _check_results(where: str, task: dict[str, Any], tasks: dict[str, Any]) -> None:
    for name in conditions.dependencies(task, tasks)[0]:
        if name not in tasks:
            raise ValueError(f"{where} dependency '{name}' not defined")
    for name, result in re.findall(r"([a-zA-Z0-9][-a-zA-Z0-9]*?)\.([A-Z][a-zA-Z]+)",
                                   task.get("depends") or ""):  # fmt: skip
        if result not in conditions.RESULTS:
            raise ValueError(f"{where} task result '{result}' for task '{name}' is invalid")
        if result in ("AnySucceeded", "AllFailed") and not items.loops(tasks[name]):
            raise ValueError(
                f"{where} dependency '{name}' uses an items-based condition such as .AnySucceeded "
                "or .AllFailed but does not contain any items"
            )


def _ancestors(name: str, depends_on: dict[str, list[str]], prefix: str) -> set[str]:
    found: set[str] = set()
    pending = list(depends_on[name])
    while pending:
        other = pending.pop()
        if other not in found:
            found.add(other)
            pending += depends_on[other]
    return found


def _check_arguments(where: str, task: dict[str, Any], ancestors: set[str]) -> None:
    for parameter in (task.get("arguments") or {}).get("parameters") or []:
        value = str(parameter.get("value"))
        if value.startswith("{{tasks.") and value.split(".")[1] not in ancestors:
            raise ValueError(
                f"{where} missing dependency '{value.split('.')[1]}' for parameter "
                f"'{parameter['name']}'"
            )


def _items(task: dict[str, Any]) -> set[str]:
    given = [field for field in ("withItems", "withParam", "withSequence") if task.get(field)]
    if len(given) > 1:
        raise ValueError("only one of withItems, withParam, withSequence can be specified")
    if not given:
        return set()
    found = {"item"} | ({"item.*"} if given == ["withParam"] else set())
    for item in task.get("withItems") or []:
        found |= {f"item.{key}" for key in item} if isinstance(item, dict) else set()
    return found
