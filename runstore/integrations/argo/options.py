"""What a Workflow is emitted with, besides the pipeline: images, secrets, limits, schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from runstore.dag import AnyNode
from runstore.errors import InputError
from runstore.integrations.argo.pods_before import NODE

__all__ = ["CONFIG", "Options", "container_of", "of_map", "template_of"]

Kind = Literal["Workflow", "WorkflowTemplate", "CronWorkflow"]

_NODE_NAME = "workflows.argoproj.io/node-name"
"""The annotation by which Argo tells a pod which node it is of."""
_OF_CONTAINER = (
    "image", "imagePullPolicy", "resources", "env", "envFrom", "volumeMounts", "securityContext",
    "workingDir",
)  # fmt: skip
_OF_TEMPLATE = (
    "activeDeadlineSeconds", "affinity", "annotations", "automountServiceAccountToken",
    "hostAliases", "initContainers", "metadata", "metrics", "nodeSelector", "podSpecPatch",
    "priorityClassName", "schedulerName", "serviceAccountName", "sidecars", "synchronization",
    "tolerations", "volumes",
)  # fmt: skip
_OF_MAP = ("parallelism", "chunk", "workers")
CONFIG = (*_OF_CONTAINER, *_OF_TEMPLATE, *_OF_MAP)
"""What ``config.argo`` of a node may have: Argo's own words, for the pods of this node alone."""


class Options(Struct, kw_only=True):
    """See ``runstore argo --help``."""

    image: str
    store: str
    """URL of the store, as the pods reach it."""
    pipeline: str
    """The pipeline file, as it is named in the image."""
    name: str
    """Of the workflow: what a Workflow's generated name begins with."""
    kind: Kind = "Workflow"
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    """The default of the parameter ``run_id``; without one it must be given."""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    cpu: str = ""
    memory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Variable -> name and key of a Kubernetes secret."""
    env_from: tuple[tuple[Literal["secretRef", "configMapRef"], str], ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    parallelism: int | None = None
    map_parallelism: int | None = None
    chunk: int | None = None
    """So many items of a map to a pod, with all that is in them; one, and a pod for each step, by
    default."""
    workers: int = 1
    """Steps at a time, in a pod with several items."""
    deadline: int | None = None
    """Seconds that the whole workflow may take."""
    grace: int = 30
    """Seconds that a pod has after SIGTERM: a command is killed somewhat earlier."""
    attempts: int = 5
    """How often a pod that was evicted, killed, or told to ask again is replaced."""
    pod_gc: str = "OnPodSuccess"
    ttl: int | None = None
    """Seconds after which a workflow that has ended is removed."""
    schedules: tuple[str, ...] = ()
    timezone: str = ""
    memoize: bool = False
    mutex: bool = True
    """One workflow at a time for a run: what others left open was left by the dead."""
    pack: bool = False
    """Whether an exit handler packs the run."""
    secrets: tuple[str, ...] = ()
    """Secrets of the pipeline: each must have a variable in ``secret_env`` or ``env_from``."""
    overlay: Mapping[str, Any] = field(default_factory=dict)
    """Merged into the document last."""


def container_of(node: AnyNode | None, options: Options, args: list[str]) -> dict[str, Any]:
    """The container of a pod that runs ``runstore`` with these arguments."""
    container: dict[str, Any] = {
        "name": "main", "image": options.image, "command": ["runstore"], "args": args,
        "env": _environment(options),
    }  # fmt: skip
    if options.image_pull_policy:
        container["imagePullPolicy"] = options.image_pull_policy
    if options.env_from:
        container["envFrom"] = [{kind: {"name": name}} for kind, name in options.env_from]
    asked = {"cpu": options.cpu, "memory": options.memory}
    if asked := {name: amount for name, amount in asked.items() if amount}:
        container["resources"] = {"requests": asked, "limits": {**asked}}
    for name, value in _config(node).items():
        if name not in _OF_CONTAINER:
            continue
        if name == "env":
            own = {each["name"] for each in value}
            container["env"] = [e for e in container["env"] if e["name"] not in own] + value
        elif name == "resources":
            container[name] = {kind: _amounts(given) for kind, given in value.items()}
        elif name == "envFrom":
            container["envFrom"] = [*container.get("envFrom", ()), *value]
        else:
            container[name] = value
    return container


def _amounts(given: Any) -> Any:
    """Amounts of resources, as texts: what a person writes as a number is one for Kubernetes."""
    if not isinstance(given, Mapping):
        return given
    return {name: str(v) if type(v) in (int, float) else v for name, v in given.items()}


def of_map(node: AnyNode, options: Options) -> tuple[int | None, int | None, int]:
    """Pods at a time, items to a pod, and steps at a time in such a pod.

    :raises InputError: for what is no number.
    """
    config = _config(node)
    found = []
    for name, standard in zip(
        _OF_MAP, (options.map_parallelism, options.chunk, options.workers), strict=True
    ):
        value = config.get(name, standard)
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(
                f"node {node.name!r}: its config.argo.{name} is {value!r:.60}",
                advice="write a number from 1",
            )
        found.append(value)
    parallelism, chunk, workers = found
    return parallelism, chunk, workers or 1


def template_of(node: AnyNode | None) -> dict[str, Any]:
    """What a node's configuration says of the template of its pods."""
    return {name: value for name, value in _config(node).items() if name in _OF_TEMPLATE}


def _environment(options: Options) -> list[dict[str, Any]]:
    def of_pod(path: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": path}}

    given: list[dict[str, Any]] = [
        {"name": "RUNSTORE_URL", "value": options.store},
        {"name": "RUNSTORE_INVOCATION", "value": "{{workflow.uid}}"},
        {"name": "POD_NAME", "valueFrom": of_pod("metadata.name")},
        {"name": "POD_UID", "valueFrom": of_pod("metadata.uid")},
        {"name": NODE, "valueFrom": of_pod(f"metadata.annotations['{_NODE_NAME}']")},
    ]
    given += [{"name": name, "value": value} for name, value in options.env.items()]
    given += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, (secret, key) in options.secret_env.items()
    ]
    return given


def _config(node: AnyNode | None) -> Mapping[str, Any]:
    if node is None or "argo" not in node.config:
        return {}
    config = node.config["argo"]
    if not isinstance(config, Mapping):
        raise InputError(
            f"node {node.name!r}: its config.argo is no object",
            advice="write names and values as Argo has them: image, resources, env",
        )
    for name in config:
        if name not in CONFIG:
            raise InputError(
                f"node {node.name!r}: config.argo has {name!r}, which is not passed on",
                advice=f"it may have {', '.join(CONFIG)}; all else goes into an --overlay",
            )
    return config
