"""Nodes and the status that holds them, named and written as `argo get -o json` has them."""

import copy
from dataclasses import dataclass, field
from typing import Any

from tests.argo import gotext

__all__ = ["Node", "Status", "pod_name"]

Parameters = list[dict[str, Any]]


@dataclass(slots=True)
class Node:
    """One node. `synced` is False while its pod may still report something: such a node is not
    fulfilled whatever its phase, and nothing that depends on it goes on."""

    id: str
    name: str
    display_name: str
    type: str
    phase: str
    template: str = ""
    boundary_id: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    flag: dict[str, bool] | None = None
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    children: list[str] = field(default_factory=list)
    outbound: list[str] = field(default_factory=list)
    memoization: dict[str, Any] | None = None
    synced: bool = True

    @property
    def failed(self) -> bool:
        """Failed or Error."""
        return self.phase in ("Failed", "Error")

    @property
    def completed(self) -> bool:
        """Ran to an end: neither skipped nor omitted."""
        return self.failed or self.phase == "Succeeded"

    @property
    def fulfilled(self) -> bool:
        """Nothing more will happen to it."""
        return (self.completed and self.synced) or self.phase in ("Skipped", "Omitted")

    @property
    def hooked(self) -> bool:
        return bool(self.flag and self.flag.get("hooked"))

    @property
    def retried(self) -> bool:
        return bool(self.flag and self.flag.get("retried"))

    def copy(self) -> "Node":
        return copy.deepcopy(self)

    def document(self, scope: str = "") -> dict[str, Any]:
        """As in `status.nodes`; empty fields are left out, as Go leaves them out."""
        optional = {
            "templateName": self.template,
            "templateScope": scope,
            "boundaryID": self.boundary_id,
            "message": self.message,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "children": self.children,
            "outboundNodes": self.outbound,
            "memoizationStatus": self.memoization,
        }
        document = {
            "id": self.id,
            "name": self.name,
            "displayName": self.display_name,
            "type": self.type,
            "phase": self.phase,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
        }
        document |= {name: value for name, value in optional.items() if value}
        if self.flag is not None:
            document["nodeFlag"] = self.flag
        if self.type == "Pod":
            document["progress"] = f"{int(self.phase == 'Succeeded')}/1"
            document["taskResultSynced"] = self.synced
        return document


@dataclass(slots=True)
class Status:
    """Of one workflow."""

    workflow: str
    phase: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    template_scope: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)

    def node_id(self, name: str) -> str:
        """32 bits of hash: two names may share an id, and then a node; so on the real thing."""
        return name if name == self.workflow else f"{self.workflow}-{gotext.fnv32a(name)}"

    def get(self, name: str) -> Node | None:
        """The node that has this name's id."""
        return self.nodes.get(self.node_id(name))

    def node(self, name: str) -> Node:
        """The node of this name, which must be there."""
        return self.nodes[self.node_id(name)]

    def document(self) -> dict[str, Any]:
        """As `status` in `argo get -o json`."""
        document: dict[str, Any] = {
            "phase": self.phase,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "nodes": {key: node.document(self.template_scope) for key, node in self.nodes.items()},
        }
        return document | ({"message": self.message} if self.message else {})


def pod_name(workflow: str, node: str, template: str) -> str:
    """The name that a node's pod has, each time that it is made."""
    if workflow == node:
        return workflow
    prefix = f"{workflow}-{template}" if template else workflow
    return f"{prefix[:242]}-{gotext.fnv32a(node)}"
