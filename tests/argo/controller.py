"""The controller's state of one workflow, and what every part of a pass needs: nodes made and
marked, children and outbound nodes, pods made and looked at.

One pass (`reconcile` in `operation.py`) looks at the pods, then walks the templates from the entry
and makes what can be made. Nothing happens between passes but in pods.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.argo import pods, templating
from tests.argo.cache import Cache
from tests.argo.items import Expanded
from tests.argo.pods import End, Pod, PodResult
from tests.argo.status import Node, Status, pod_name

__all__ = ["Controller", "NodeError", "Options"]

MAX_DEPTH = 100
"""How deep templates may nest, a loop that calls itself included."""


class NodeError(Exception):
    """A template that could not be run; its node says so already."""


@dataclass(slots=True)
class Options:
    """How a template is called: from within which node, and whether as an exit handler."""

    boundary_id: str = ""
    on_exit: bool = False
    flag: dict[str, bool] | None = None


@dataclass(slots=True)
class Controller:
    """What the controller knows of one workflow."""

    name: str
    uid: str
    spec: dict[str, Any]
    templates: dict[str, dict[str, Any]]
    values: templating.Values
    status: Status
    cache: Cache
    pods: dict[str, Pod] = field(default_factory=dict)
    """The pods that exist, by node id."""
    made: list[Pod] = field(default_factory=list)
    """Every pod that was ever made, in order."""
    unseen: list[Pod] = field(default_factory=list)
    """Pods whose end the controller has not looked at yet."""
    shutdown: str = ""
    past_deadline: bool = False
    depth: int = 0
    ticks: int = 0
    expanded: dict[tuple[str, str], list[Expanded]] = field(default_factory=dict)
    """What a task's references came to, once its dependencies have ended: they do not change."""
    processed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The template of a node, filled in; by node name."""
    dependencies: dict[str, dict[str, tuple[list[str], str]]] = field(default_factory=dict)
    """What the tasks of a DAG depend on, and by what condition; by the DAG's node id."""
    linked: set[tuple[str, str]] = field(default_factory=set)
    """Parents and their children, as `children` has them."""
    active: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Pending and running pods, DAGs and Steps, by boundary."""

    # Nodes

    def now(self) -> str:
        """Time stands still but for one tick a node: a status says the same each time."""
        self.ticks += 1
        minutes, seconds = divmod(self.ticks, 60)
        hours, minutes = divmod(minutes, 60)
        return f"2026-01-{1 + hours // 24:02d}T{hours % 24:02d}:{minutes:02d}:{seconds:02d}Z"

    def initialize(
        self, name: str, kind: str, phase: str, template: str, options: Options, message: str = ""
    ) -> Node:
        """A new node. Panics, as the controller does, where its id is taken by another name: but
        nothing gets there, for who looks the name up finds the other node."""
        node_id = self.status.node_id(name)
        assert node_id not in self.status.nodes, f"node {name} already initialized"
        boundary = self.status.nodes.get(options.boundary_id)
        display = name
        if boundary is not None:
            display = re.sub(r"^(\[\d+\])?\.", "", name.removeprefix(boundary.name))
        node = Node(node_id, name, display, kind, phase, template, options.boundary_id, message)
        node.flag = options.flag
        node.started_at = self.now()
        self.status.nodes[node_id] = node
        self._track(node)
        return node

    def skip(
        self, name: str, task: dict[str, Any], boundary: str, phase: str, message: str
    ) -> Node:
        """A node that stands for what does not run: Skipped, Omitted or Error."""
        options = Options(boundary, flag={})
        return self.initialize(name, "Skipped", phase, task.get("template", ""), options, message)

    def mark(self, name: str, phase: str, message: str | None = None) -> Node:
        """A node gets this phase, and the message if there is one."""
        node = self.status.node(name)
        if node.phase != "Running" and phase in ("Failed", "Error"):
            node.synced = True
        node.phase = phase
        if message is not None:
            node.message = message
        self._track(node)
        return node

    def fail(
        self, node: Node | None, name: str, template: str, options: Options, message: str
    ) -> NodeError:
        """The node is in Error, made for it if it is not there yet."""
        if node is None:
            self.initialize(name, "Skipped", "Error", template, options, message)
        else:
            self.mark(name, "Error", message)
        return NodeError(message)

    def adopt_nodes(self) -> None:
        """After the nodes were replaced by others: what was worked out before may not hold."""
        self.expanded.clear()
        self.processed.clear()
        self.dependencies.clear()
        self.linked = {(n.id, child) for n in self.status.nodes.values() for child in n.children}
        self.active.clear()
        for node in self.status.nodes.values():
            self._track(node)

    def _track(self, node: Node) -> None:
        if node.fulfilled and node.finished_at is None:
            node.finished_at = self.now()
        if node.type in ("Pod", "DAG", "Steps"):
            group = self.active[node.boundary_id]
            (group.add if node.phase in ("Pending", "Running") else group.discard)(node.id)

    def active_children(self, boundary_id: str) -> int:
        """Pods, DAGs and Steps that are pending or running."""
        return len(self.active[boundary_id])

    def active_pods(self, boundary_id: str | None) -> int:
        """Pods that exist and are pending or running; without a boundary those of the workflow."""
        groups = self.active.values() if boundary_id is None else [self.active[boundary_id]]
        nodes = self.status.nodes
        return sum(nodes[i].type == "Pod" and i in self.pods for group in groups for i in group)

    def add_child(self, parent: str, child: str) -> None:
        """By names; once."""
        node, child_id = self.status.node(parent), self.status.node_id(child)
        if (node.id, child_id) not in self.linked:
            self.linked.add((node.id, child_id))
            node.children.append(child_id)

    def outbound(self, node_id: str) -> list[str]:
        """The last nodes inside a node, which are the parents of what follows it. A Retry that was
        a cache hit has none: what follows is then connected to nothing, and its DAG never ends."""
        node = self.status.nodes[node_id]
        if node.type in ("Skipped", "Suspend", "Pod"):
            return [node.id]
        if node.type == "TaskGroup":
            if not node.children:
                return [node.id]
            return [found for child in node.children for found in self.outbound(child)]
        if node.type == "Retry" and node.children:
            return [node.children[-1]]
        if node.type in ("Steps", "DAG") and node.memoization and node.memoization["hit"]:
            return [node.id]
        return [found for child in node.outbound for found in self.outbound(child)]

    def children_fulfilled(self, node: Node) -> bool:
        """Whether all that a node leads to has ended."""
        nodes, seen, stack = self.status.nodes, set(), [node]
        while stack:
            current = stack.pop()
            if not current.children and not current.fulfilled:
                return False
            fresh = [child for child in current.children if child not in seen and child in nodes]
            seen.update(fresh)
            stack += [nodes[child] for child in fresh]
        return True

    def attempts(self, node: Node) -> list[Node]:
        """The tries of a Retry node."""
        children = [self.status.nodes[child] for child in node.children]
        return [child for child in children if child.retried]

    def in_exit_handler(self, node: Node) -> bool:
        """Whether it belongs to the exit handler: a stop spares that."""
        while not node.display_name.endswith(".onExit"):
            if node.boundary_id not in self.status.nodes:
                return False
            node = self.status.nodes[node.boundary_id]
        return True

    # Pods

    def runs_pods(self, on_exit: bool) -> bool:
        """Whether a pod may still be made: none after terminate, only exit handlers after stop."""
        return not self.shutdown or (self.shutdown == "Stop" and on_exit)

    def make_pod(self, node: Node, template: dict[str, Any], options: Options) -> None:
        """The node's pod, unless it is there, or the workflow is being shut down."""
        if node.id in self.pods:
            return
        if not self.runs_pods(options.on_exit):
            self.mark(node.name, "Failed", f"workflow shutdown with strategy: {self.shutdown}")
            return
        if self.past_deadline and not options.on_exit:
            return
        inputs = (template.get("inputs") or {}).get("parameters") or []
        parameters = {given["name"]: str(given.get("value", "")) for given in inputs}
        name = pod_name(self.name, node.name, template["name"])
        named = {f"inputs.parameters.{key}": value for key, value in parameters.items()}
        known = self.values | named | {"pod.name": name}
        pod = Pod(
            name,
            pods.pod_uid(self.uid, node.id, len(self.made)),
            node.id,
            node.name,
            template["name"],
            self.name,
            self.uid,
            templating.substitute(template["container"], known),
            parameters,
            (template.get("outputs") or {}).get("parameters") or [],
            options.on_exit,
            self._grace(template),
        )
        self.pods[node.id] = pod
        self.made.append(pod)
        self.unseen.append(pod)

    def _grace(self, template: dict[str, Any]) -> float:
        """`terminationGracePeriodSeconds`, which only a podSpecPatch sets."""
        for patch in (template.get("podSpecPatch"), self.spec.get("podSpecPatch")):
            match = re.search(r'terminationGracePeriodSeconds"?\s*:\s*(\d+)', patch or "")
            if match:
                return float(match[1])
        return 30.0

    def look_at_pods(self) -> None:
        """What became of pods becomes the phase of their nodes; those that a shutdown or the
        deadline forbids are told to end."""
        unseen, self.unseen = self.unseen, []
        for pod in unseen:
            node = self.status.nodes.get(pod.node_id)
            if node is None:
                continue
            if pod.result is None:
                self.unseen.append(pod)
                if pod.started and not node.completed:
                    node.phase, node.synced = "Running", False
                if not node.fulfilled:
                    self._control(pod, node)
            elif pod.result.end in (End.DELETED, End.DELETED_PENDING):
                self._pod_is_gone(pod, node)
            else:
                self._finish(pod, node, pod.result)

    def _control(self, pod: Pod, node: Node) -> None:
        if not self.runs_pods(pod.on_exit):
            pod.terminating = True
            message = f"workflow shutdown with strategy:  {self.shutdown}"
            self.mark(node.name, "Failed", message)
        elif self.past_deadline and not pod.on_exit:
            pod.terminating = True
            self.mark(node.name, "Failed", "Step exceeded its deadline")

    def _pod_is_gone(self, pod: Pod, node: Node) -> None:
        del self.pods[pod.node_id]
        node.synced = True
        if pod.result is not None and pod.result.end is End.DELETED:
            self.mark(node.name, "Error", "pod deleted")
        elif node.phase == "Running":
            node.phase = "Pending"

    def _finish(self, pod: Pod, node: Node, result: PodResult) -> None:
        node.synced = True
        outputs, lacking = _outputs(pod, result)
        node.outputs = outputs
        if result.end is End.KILLED:
            phase, message = "Failed", result.message
        elif result.exit_code:
            phase, message = "Failed", f"main: Error (exit code {result.exit_code})"
            message += f": {result.message}" if result.message else ""
        elif lacking:
            phase, message = "Error", f"wait: Error (exit code 64): open {lacking}: no such file"
        else:
            phase, message = "Succeeded", None
        if phase == "Succeeded" and node.memoization:
            refusal = self.cache.save(node.memoization, node.id, outputs)
            phase, message = ("Error", refusal) if refusal else (phase, message)
        self.mark(node.name, phase, message)


def _outputs(pod: Pod, result: PodResult) -> tuple[dict[str, Any], str]:
    """The node's outputs, and the path of one that is lacking."""
    found, lacking = [], ""
    for parameter in pod.output_parameters:
        source = parameter.get("valueFrom") or {}
        value = result.outputs.get(parameter["name"], result.outputs.get(source.get("path", "")))
        if value is None:
            value = source.get("default")
        if value is None:
            lacking = source.get("path") or parameter["name"]
        found.append(parameter if value is None else parameter | {"value": str(value)})
    exit_code = {"exitCode": str(result.exit_code)}
    return ({"parameters": found} if found else {}) | exit_code, lacking
