"""The status of a workflow, as ``argo get WORKFLOW -o json`` gives it: which of its pods are dead.

Of a workflow that `runstore argo` wrote. What its steps did is in the store, not here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from runstore.errors import InputError
from runstore.records import Holder

__all__ = ["WorkflowStatus", "read_status"]

_ENDED = ("Succeeded", "Failed", "Error")
_MOST_BYTES = 256 << 20


class WorkflowStatus:
    """What a workflow was when it was asked; answers as
    :class:`~runstore.store.process.Liveness`."""

    def __init__(
        self, name: str, uid: str, phase: str, run_id: str, pods: Mapping[int, str],
        templates: frozenset[str],
    ) -> None:  # fmt: skip
        self.name = name
        self.uid = uid
        """Under which its pods record their attempts."""
        self.phase = phase
        self.run_id = run_id
        self._pods = pods
        """Hash of a pod's node -> the node's phase."""
        self._pod = re.compile(
            f"{re.escape(name)}-(?:{'|'.join(map(re.escape, sorted(templates)))})-([0-9]+)"
        )

    @property
    def ended(self) -> bool:
        return self.phase in _ENDED

    def is_alive(self, holder: Holder) -> bool | None:
        """Of a pod of this workflow, whether it runs; of all others nothing is known.

        Where the workflow has ended, so have all of its pods, also those that `argo retry` has
        taken out of the status. While it runs, a pod that is not in the status may be there.
        """
        found = self._pod.fullmatch(holder.pod or "")
        if found is None:
            return None
        if self.ended:
            return False
        phase = self._pods.get(int(found[1]))
        return None if phase is None else phase not in _ENDED


def read_status(data: bytes, source: str) -> WorkflowStatus:
    """Read what ``argo get -o json`` gave.

    :param source: the file, for errors.
    :raises InputError: for what is no workflow, has no whole status, or was not written by
        `runstore argo`.
    """
    workflow = _object(data, source)
    metadata, spec, status = (_part(workflow, name, source) for name in _PARTS)
    if status.get("compressedNodes") or status.get("offloadNodeStatusVersion"):
        raise InputError(
            f"{source} has the status of its nodes compressed, or elsewhere",
            advice="use what `argo get WORKFLOW -o json` gives, not kubectl: it has all of them",
        )
    name, uid = metadata.get("name"), metadata.get("uid")
    if not isinstance(name, str) or not isinstance(uid, str) or not name or not uid:
        raise InputError(
            f"{source} names no workflow and uid",
            advice="use what `argo get WORKFLOW -o json` gives",
        )
    # A workflow of a WorkflowTemplate has the label alone.
    marks = [metadata.get(kind) for kind in ("annotations", "labels")]
    if not any(isinstance(each, dict) and set(each) & _OURS for each in marks):
        raise InputError(
            f"workflow {name!r:.100} of {source} was not written by `runstore argo`",
            advice="what other workflows did is not in a store, and cannot be imported yet",
        )
    nodes = status.get("nodes") or {}
    phase = status.get("phase") or "Pending"
    if not isinstance(nodes, dict) or not isinstance(phase, str):
        raise InputError(f"{source} has a status that is none", advice="ask argo for it again")
    return WorkflowStatus(
        name, uid, phase, _run_id(spec, source), _pods(nodes), _templates(spec, status, source)
    )


_PARTS = ("metadata", "spec", "status")
_OURS = {"runstore.io/format", "runstore.io/run-id"}


def _object(data: bytes, source: str) -> dict[str, Any]:
    if len(data) > _MOST_BYTES:
        raise InputError(f"{source} has {len(data):,} bytes, and no workflow has so many")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} is not JSON: {error!s:.200}",
            advice="write it with `argo get WORKFLOW -o json`",
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{source} is no workflow: it is no object")
    return found


def _part(workflow: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    part = workflow.get(name)
    if not isinstance(part, dict):
        raise InputError(
            f"{source} is no workflow with a status: it has no object {name!r}",
            advice="write it with `argo get WORKFLOW -o json`",
        )
    return part


def _run_id(spec: dict[str, Any], source: str) -> str:
    arguments = spec.get("arguments")
    given = arguments.get("parameters") if isinstance(arguments, dict) else None
    for each in given if isinstance(given, list) else ():
        if isinstance(each, dict) and each.get("name") == "run_id":
            value = each.get("value")
            if isinstance(value, str) and value:
                return value
    raise InputError(
        f"{source} has no parameter run_id with a value", advice="take it of a submitted workflow"
    )


def _templates(spec: dict[str, Any], status: dict[str, Any], source: str) -> frozenset[str]:
    stored = status.get("storedWorkflowTemplateSpec")
    names: set[str] = set()
    for each in (spec, stored):
        given = each.get("templates") if isinstance(each, dict) else None
        for template in given if isinstance(given, list) else ():
            name = template.get("name") if isinstance(template, dict) else None
            if isinstance(name, str) and name:
                names.add(name)
    if not names:
        raise InputError(
            f"{source} has no templates", advice="use what `argo get WORKFLOW -o json` gives"
        )
    return frozenset(names)


def _pods(nodes: dict[str, Any]) -> dict[int, str]:
    found = {}
    for key, node in nodes.items():
        number = key.rpartition("-")[2]
        if isinstance(node, dict) and node.get("type") == "Pod" and number.isdecimal():
            found[int(number[:20])] = str(node.get("phase") or "Pending")
    return found
