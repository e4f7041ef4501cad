"""A template with its inputs set and its tags replaced (`ProcessArgs`, `SubstituteParams`)."""

from typing import Any

from tests.argo import gotext, templating

__all__ = ["any_string", "in_order", "process", "substitute"]

Template = dict[str, Any]


def process(
    template: Template,
    arguments: dict[str, Any],
    known: templating.Values,
    local: templating.Values,
) -> Template:
    """The template with its inputs set, and with every tag replaced that is known by now."""
    given = {each["name"]: each for each in arguments.get("parameters") or []}
    inputs = []
    for declared in (template.get("inputs") or {}).get("parameters") or []:
        parameter = dict(declared)
        if parameter.get("value") is None and "default" in parameter:
            parameter["value"] = parameter["default"]
        value = given.get(parameter["name"], {}).get("value")
        if value == templating.ABSENT:
            if parameter.get("value") is None:
                raise templating.TemplateError(
                    f"inputs.parameters.{parameter['name']}: argument references an absent "
                    "optional (skipped/omitted node output with no default)"
                )
        elif value is not None:
            parameter["value"] = value
        if parameter.get("value") is not None:
            parameter["value"] = any_string(parameter["value"])
        inputs.append(parameter)
    filled = dict(template)
    if inputs:
        filled["inputs"] = {**template["inputs"], "parameters": inputs}
    return substitute(filled, known | local)


_ORDER = ("name", "template", "arguments", "dependencies", "withItems", "withParam",
          "withSequence", "when", "continueOn", "depends")  # fmt: skip


def in_order(template: Template) -> Template:
    """The fields of tasks and steps as the controller writes them: where a text has `{{` and no
    `}}`, what follows it in the JSON decides."""

    def ordered(task: Template) -> Template:
        known = {key: task[key] for key in _ORDER if key in task}
        return known | {key: value for key, value in task.items() if key not in known}

    found = dict(template)
    if "dag" in template:
        found["dag"] = {**template["dag"], "tasks": [*map(ordered, template["dag"]["tasks"])]}
    if "steps" in template:
        found["steps"] = [[ordered(step) for step in group] for group in template["steps"]]
    return found


def any_string(value: Any) -> str:
    """A parameter's value is text, whatever JSON says."""
    return value if isinstance(value, str) else gotext.sprint(value)


def substitute(template: Template, known: templating.Values) -> Template:
    """Twice: what a global parameter says is looked through again, with the inputs known."""
    once = templating.substitute(template, known)
    inputs = (once.get("inputs") or {}).get("parameters") or []
    named: templating.Values = {"inputs.parameters": gotext.marshal(inputs)}
    for parameter in inputs:
        if parameter.get("value") is None:
            raise templating.TemplateError(f"inputs.parameters.{parameter['name']} had no value")
        named[f"inputs.parameters.{parameter['name']}"] = parameter["value"]
    for parameter in (once.get("outputs") or {}).get("parameters") or []:
        if path := (parameter.get("valueFrom") or {}).get("path"):
            named[f"outputs.parameters.{parameter['name']}.path"] = path
    twice: Template = templating.substitute(once, known | named)
    return twice
