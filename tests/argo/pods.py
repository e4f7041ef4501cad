"""A pod as its containers see it, and what became of it."""

import re
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.argo import gotext

__all__ = ["End", "Pod", "PodResult", "container_environment"]

EVICTED = "The node was low on resource: memory."
PAST_DEADLINE = "Pod was active on the node longer than the specified deadline"


class End(Enum):
    """How a pod ended."""

    EXITED = "its process ended"
    KILLED = "the kubelet failed it, and says why"
    DELETED = "the pod is gone, and the controller had seen it running"
    DELETED_PENDING = "the pod is gone, and the controller had not seen it running"


@dataclass(frozen=True, slots=True)
class PodResult:
    """What became of a pod. `outputs`: by the name of the output parameter or by its path.

    An exit code other than 0 makes the node Failed. A `message` of an evicted pod makes it Failed
    whatever the exit code.
    """

    exit_code: int = 0
    outputs: dict[str, str] = field(default_factory=dict)
    message: str = ""
    end: End = End.EXITED

    @classmethod
    def evicted(cls, exit_code: int = 0, message: str = EVICTED) -> "PodResult":
        """Evicted or preempted: the node is Failed, with this message."""
        return cls(exit_code, {}, message, End.KILLED)

    @classmethod
    def past_deadline(cls, exit_code: int = 0) -> "PodResult":
        """Ended by the kubelet at `activeDeadlineSeconds`: the node is Failed."""
        return cls(exit_code, {}, PAST_DEADLINE, End.KILLED)

    @classmethod
    def deleted(cls, pending: bool = False) -> "PodResult":
        """The pod was deleted. `pending`: before the controller saw it run; then it makes the pod
        again, for the same node, and two pods ran for one node."""
        return cls(0, {}, "", End.DELETED_PENDING if pending else End.DELETED)


@dataclass(slots=True)
class Pod:
    """A pod. A second pod of one node has the same name and node id, and another uid."""

    name: str
    uid: str
    node_id: str
    node_name: str
    template: str
    workflow: str
    workflow_uid: str
    container: dict[str, Any]
    inputs: dict[str, str]
    output_parameters: list[dict[str, Any]]
    on_exit: bool = False
    grace_seconds: float = 30.0
    terminating: bool = False
    """SIGTERM is due, or was sent: stop, terminate, a deadline, an eviction or a deletion."""
    verdict: PodResult | None = None
    """What it will have become, whatever its process does: evicted, deleted, past its deadline."""
    result: PodResult | None = None
    started: bool = False

    @property
    def image(self) -> str:
        return str(self.container.get("image", ""))

    @property
    def command(self) -> list[str]:
        return [self._expanded(word) for word in self.container.get("command") or []]

    @property
    def args(self) -> list[str]:
        return [self._expanded(word) for word in self.container.get("args") or []]

    @property
    def environment(self) -> dict[str, str]:
        return container_environment(self)

    def _expanded(self, text: str) -> str:
        return _expand(text, self.environment) if "$(" in text else text


def pod_uid(workflow_uid: str, node_id: str, number: int) -> str:
    """Made up from the number of the pod, so that a test can be run again."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{workflow_uid}/{node_id}/{number}"))


def _argo_environment(pod: Pod) -> dict[str, str]:
    """What Argo adds to `main`, beside the host's name. Not there: template, pod, uids."""
    trace = gotext.fnv32a(pod.workflow_uid)
    return {
        "HOSTNAME": pod.name[:63],
        "ARGO_CONTAINER_NAME": "main",
        "ARGO_NODE_ID": pod.node_id,
        "ARGO_INCLUDE_SCRIPT_OUTPUT": "false",
        "ARGO_DEADLINE": "0001-01-01T00:00:00Z",
        "ARGO_WORKFLOW_NAME": pod.workflow,
        "TRACESTATE": f"workflow=argo/{pod.workflow}",
        "TRACEPARENT": f"00-{trace:032x}-{gotext.fnv32a(pod.uid):016x}-01",
        "ARGO_PROGRESS_FILE": "/var/run/argo/progress",
        "ARGO_PROGRESS_PATCH_TICK_DURATION": "1m0s",
        "ARGO_PROGRESS_FILE_TICK_DURATION": "3s",
    }


def _field(pod: Pod, path: str) -> str:
    """The downward API, as far as these pods have fields."""
    annotations = {
        "workflows.argoproj.io/node-name": pod.node_name,
        "workflows.argoproj.io/node-id": pod.node_id,
        "kubectl.kubernetes.io/default-container": "main",
    }
    labels = {
        "workflows.argoproj.io/workflow": pod.workflow,
        "workflows.argoproj.io/completed": "false",
    }
    if match := re.fullmatch(r"metadata\.(annotations|labels)\['([^']+)'\]", path):
        return (annotations if match[1] == "annotations" else labels).get(match[2], "")
    return {"metadata.name": pod.name, "metadata.uid": pod.uid, "metadata.namespace": "argo"}[path]


def _expand(text: str, known: dict[str, str]) -> str:
    """Kubernetes' `$(NAME)` of a name that is known, and `$$(NAME)` to write it."""

    def value(match: re.Match[str]) -> str:
        return match[0][1:] if match[1] else known.get(match[2], match[0])

    return re.sub(r"(\$?)\$\(([A-Za-z_.][\w.-]*)\)", value, text)


def container_environment(pod: Pod) -> dict[str, str]:
    """The whole environment that Kubernetes gives to `main`; the image's own is not known here."""
    found: dict[str, str] = {}
    for variable in pod.container.get("env") or []:
        source = (variable.get("valueFrom") or {}).get("fieldRef")
        if source:
            found[variable["name"]] = _field(pod, source["fieldPath"])
        else:
            found[variable["name"]] = _expand(variable.get("value") or "", found)
    return found | _argo_environment(pod)
