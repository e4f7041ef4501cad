"""What the tasks of a DAG and the steps of a group can refer to: outputs of those before them."""

import json
from typing import Any

from tests.argo import expressions, gotext, templating
from tests.argo.controller import Controller
from tests.argo.status import Node

__all__ = ["Scope"]


class Scope:
    """Values by full name, over the workflow's own. `kind` is `tasks` or `steps`."""

    def __init__(self, controller: Controller, kind: str, template: dict[str, Any]) -> None:
        self.controller = controller
        self.kind = kind
        self.values: templating.Values = {}
        self.absent: set[str] = set()
        for given in (template.get("inputs") or {}).get("parameters") or []:
            self.values[f"inputs.parameters.{given['name']}"] = given.get("value", "")

    def all(self) -> templating.Values:
        return self.controller.values | self.values

    def add(self, name: str, node: Node) -> None:
        """What a node came to. Of a Retry: what its last attempt came to."""
        last = self._last_attempt(node)
        prefix = f"{self.kind}.{name}"
        found = {
            "id": last.id,
            "startedAt": last.started_at,
            "finishedAt": last.finished_at,
            "status": last.phase,
        }
        for key, value in found.items():
            if value:
                self.values[f"{prefix}.{key}"] = value
        outputs = last.outputs or {}
        if "exitCode" in outputs:
            self.values[f"{prefix}.exitCode"] = outputs["exitCode"]
        for parameter in outputs.get("parameters") or []:
            if "value" in parameter:
                self.values[f"{prefix}.outputs.parameters.{parameter['name']}"] = parameter["value"]

    def _last_attempt(self, node: Node) -> Node:
        if node.type == "Retry" and not (node.memoization and node.memoization["hit"]):
            for child in reversed(node.children):
                attempt = self.controller.status.nodes[child]
                if not attempt.hooked:
                    return attempt
        return node

    def add_group(self, name: str, items: list[Node]) -> None:
        """The outputs of a loop's items as lists of JSON, in the order of the items, without those
        that did not succeed."""
        if not items:
            return
        items = [item for item in items if not item.hooked and not item.retried]
        rows: list[dict[str, str]] = []
        columns: dict[str, list[str]] = {}
        for item in sorted(items, key=_index):
            parameters = (item.outputs or {}).get("parameters") or []
            if item.phase == "Succeeded" and parameters:
                rows.append({given["name"]: given["value"] for given in parameters})
                for given in parameters:
                    columns.setdefault(given["name"], []).append(given["value"])
        prefix = f"{self.kind}.{name}.outputs"
        self.values[f"{prefix}.result"] = "[]"
        self.values[f"{prefix}.parameters"] = gotext.marshal(rows)
        for column, values in columns.items():
            self.values[f"{prefix}.parameters.{column}"] = gotext.marshal(_decoded(values))

    def add_skipped(self, name: str, node: Node, template: dict[str, Any] | None) -> None:
        """The outputs that a skipped or omitted node would have had: their defaults, or None."""
        if node.outputs is not None or node.phase not in ("Skipped", "Omitted") or not template:
            return
        for parameter in (template.get("outputs") or {}).get("parameters") or []:
            key = f"{self.kind}.{name}.outputs.parameters.{parameter['name']}"
            default = (parameter.get("valueFrom") or {}).get("default")
            self.values[key] = default
            if default is None:
                self.absent.add(key)

    def mark_absent(self, task: dict[str, Any]) -> dict[str, Any]:
        """The task; an argument that is nothing but such an output leaves the input its default."""
        parameters = (task.get("arguments") or {}).get("parameters") or []
        if not self.absent or not parameters:
            return task
        marked = [
            given | {"value": templating.ABSENT} if self._is_absent(given.get("value")) else given
            for given in parameters
        ]
        return task | {"arguments": {**task["arguments"], "parameters": marked}}

    def _is_absent(self, value: Any) -> bool:
        text = str(value)
        return text[:2] == "{{" and text[-2:] == "}}" and text[2:-2].strip() in self.absent

    def outputs(self, template: dict[str, Any]) -> dict[str, Any] | None:
        """The outputs of a DAG or steps template."""
        declared = (template.get("outputs") or {}).get("parameters") or []
        if not declared:
            return None
        found = []
        for parameter in declared:
            source = parameter.get("valueFrom") or {}
            value = self._output(source)
            if value is None:
                raise templating.TemplateError(
                    f'output parameter "{parameter["name"]}": "{source.get("parameter", "")}" is '
                    "an absent optional (skipped/omitted node output with no default)"
                )
            kept = {key: given for key, given in parameter.items() if key != "valueFrom"}
            found.append(kept | {"value": value})
        return {"parameters": found}

    def _output(self, source: dict[str, Any]) -> str | None:
        default = source.get("default")
        try:
            if "expression" in source:
                environment = templating.environment(self.values)
                value = expressions.evaluate(source["expression"], environment)
                if value is None:
                    raise templating.TemplateError(
                        f'failed to evaluate expression "{source["expression"]}"'
                    )
                return gotext.sprint(value)
            tag = str(source.get("parameter", "")).removeprefix("{{").removesuffix("}}").strip()
            if tag.startswith("="):
                value = expressions.evaluate(tag[1:], templating.environment(self.values))
                return gotext.sprint(value)
            if tag not in self.values:
                raise templating.TemplateError(f'Unable to resolve: "{tag}"')
            found = self.values[tag]
            return found if found is not None else default
        except ValueError:
            if default is None:
                raise
            return str(default)


def _index(item: Node) -> int:
    return int(item.name.rpartition("(")[2].split(":")[0])


def _decoded(values: list[str]) -> list[Any]:
    """Lists and maps as such, if all are; else the texts."""
    decoded = []
    for value in values:
        try:
            item = json.loads(value)
        except ValueError:
            return list(values)
        if not isinstance(item, (list, dict)):
            return list(values)
        decoded.append(item)
    return decoded
