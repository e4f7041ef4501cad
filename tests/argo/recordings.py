"""Recordings of a real controller: `argo get -o json` of workflows that were run by Argo 4.1.2.

They are reference data that not every checkout has beside it: tests that need them are skipped
where they are absent. The environment variable RUNSTORE_SHARED names the folder that `argo/` is in.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.argo.evaluator import Pod, PodResult, Workflow

__all__ = ["containers", "differences", "outcomes", "recording", "recordings_needed"]


def _folder() -> Path | None:
    checkout = Path(__file__).resolve().parents[2]
    named = os.environ.get("RUNSTORE_SHARED")
    places = [Path(named)] if named else [above / "shared" for above in checkout.parents]
    return next((place / "argo" for place in places if (place / "argo").is_dir()), None)


FOLDER = _folder()

recordings_needed = pytest.mark.skipif(
    FOLDER is None,
    reason="the recordings of a real Argo controller are not here (RUNSTORE_SHARED names where)",
)


@functools.cache
def _text(name: str) -> str:
    assert FOLDER is not None
    [path] = FOLDER.glob(f"{name}.*")
    return path.read_text()


def recording(name: str) -> dict[str, Any]:
    """One workflow, as it was recorded."""
    document: dict[str, Any] = json.loads(_text(name))
    # The strategy by which it was stopped: an event, not part of what was submitted.
    document["spec"].pop("shutdown", None)
    return document


def containers(name: str) -> list[dict[str, Any]]:
    """What containers saw of themselves: their arguments and environment."""
    return [json.loads(line) for line in _text(name).splitlines()]


def outcomes(*recorded: dict[str, Any]) -> Callable[[Pod], PodResult]:
    """Pods that end as the nodes of these recordings did, of the first that has the node.

    By the node's path, so that a workflow of another name has them too.
    """
    nodes: dict[str, dict[str, Any]] = {}
    for document in recorded:
        for node in (document["status"].get("nodes") or {}).values():
            path = node["name"].removeprefix(document["metadata"]["name"])
            nodes.setdefault(path, node)

    def run(pod: Pod) -> PodResult:
        found = nodes[pod.node_name.removeprefix(pod.workflow)].get("outputs") or {}
        parameters = found.get("parameters") or []
        values = {each["name"]: each["value"] for each in parameters if "value" in each}
        return PodResult(int(found.get("exitCode", "0")), values)

    return run


FIELDS = (
    "id", "displayName", "type", "templateName", "phase", "boundaryID", "message", "inputs",
    "outputs", "children", "outboundNodes", "nodeFlag", "memoizationStatus",
)  # fmt: skip
"""What is compared of each node. Not: times, `progress`, `resourcesDuration`, `hostNodeName` (the
cluster's), `templateScope` (checked once)."""


def differences(workflow: Workflow, document: dict[str, Any]) -> list[str]:
    """In what an evaluated workflow is not as recorded; nothing, if all is well."""
    status = document["status"]
    recorded = {node["name"]: node for node in (status.get("nodes") or {}).values()}
    evaluated = {node["name"]: node for node in workflow.status.document()["nodes"].values()}
    found = [f"not evaluated: {name}" for name in recorded.keys() - evaluated.keys()]
    found += [f"not recorded: {name}" for name in evaluated.keys() - recorded.keys()]
    for name in recorded.keys() & evaluated.keys():
        for field in FIELDS:
            one, other = (_comparable(field, side[name]) for side in (recorded, evaluated))
            if one != other:
                found.append(f"{name}: {field}: recorded {one!r}, evaluated {other!r}")
    for field, value in (("phase", workflow.phase), ("message", workflow.status.message)):
        if status.get(field, "") != value:
            found.append(f"{field}: recorded {status.get(field)!r}, evaluated {value!r}")
    return found


def _comparable(field: str, node: dict[str, Any]) -> Any:
    value = node.get(field)
    if field in ("children", "outboundNodes"):
        # The controller walks a map of Go, in no order: a node's parents are made in any order.
        return sorted(value or [])
    if field == "outputs" and value:
        # Where a value came from is left out by the stand-in for the cluster in some recordings.
        values = {each["name"]: each.get("value") for each in value.get("parameters") or []}
        return values, value.get("exitCode")
    return value
