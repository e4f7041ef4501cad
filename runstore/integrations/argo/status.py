"""The status of a workflow, as ``argo get WORKFLOW -o json`` gives it, read into values.

Anybody may have written the file: every field is looked at before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runstore.errors import InputError

__all__ = ["Node", "WorkflowStatus", "read_status"]

_ENDED = ("Succeeded", "Failed", "Error")
_MOST_BYTES = 256 << 20
_ADVICE = "write it with `argo get WORKFLOW -o json`"
_OURS = {"runstore.io/format", "runstore.io/run-id"}
"""Annotation and label of the workflows that `runstore argo` writes."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the workflow, with as much of it as anything here asks for."""

    id: str
    name: str
    type: str
    """``Pod``, ``Retry``, ``DAG``, ``Steps``, ``TaskGroup``, ``StepGroup``, ``Skipped`` ..."""
    phase: str
    boundary: str
    """The id of the DAG or the steps that it stands in; empty for the outermost."""
    template: str = ""
    message: str = ""
    started: str = ""
    finished: str = ""
    host: str = ""
    children: tuple[str, ...] = ()
    outputs: Mapping[str, str] | None = None
    """Name -> text of the output parameters."""
    result: str | None = None
    """What a script printed."""
    exit_code: str = ""
    inputs: Mapping[str, str] | None = None
    hooked: bool = False
    """A hook, or an exit handler."""
    reused: bool = False
    """Its result was made by an earlier workflow: by the memoization cache, or `resubmit`."""
    daemoned: bool = False

    @property
    def ended(self) -> bool:
        return self.phase in _ENDED

    @property
    def failed(self) -> bool:
        return self.phase in ("Failed", "Error")


@dataclass(frozen=True, slots=True)
class WorkflowStatus:
    """What a workflow was when it was asked."""

    name: str
    uid: str
    phase: str
    ours: bool
    """Whether `runstore argo` wrote the workflow: what its pods did is in a store."""
    parameters: Mapping[str, str]
    templates: frozenset[str]
    nodes: Mapping[str, Node]
    """By their ids."""

    @property
    def ended(self) -> bool:
        return self.phase in _ENDED

    @property
    def run_id(self) -> str:
        """Its parameter ``run_id``; empty if it has none."""
        return self.parameters.get("run_id", "")


def read_status(data: bytes, source: str) -> WorkflowStatus:
    """Read what ``argo get -o json`` gave.

    :param source: the file, for errors.
    :raises InputError: for what is no workflow, or has no whole status.
    """
    reader = _Reader(source)
    workflow = reader.object(data)
    metadata, spec, status = (reader.part(workflow, n) for n in ("metadata", "spec", "status"))
    if status.get("compressedNodes") or status.get("offloadNodeStatusVersion"):
        raise InputError(
            f"{source} has the status of its nodes compressed, or elsewhere",
            advice="use what `argo get WORKFLOW -o json` gives, not kubectl: it has all of them",
        )
    name, uid = reader.text(metadata, "name"), reader.text(metadata, "uid")
    if not name or not uid:
        raise InputError(f"{source} names no workflow and uid", advice=_ADVICE)
    # A workflow of a WorkflowTemplate has the label alone.
    marks = [metadata.get(kind) for kind in ("annotations", "labels")]
    ours = any(isinstance(each, dict) and set(each) & _OURS for each in marks)
    nodes = status.get("nodes") or {}
    if not isinstance(nodes, dict):
        raise InputError(f"{source} has nodes that are no object", advice=_ADVICE)
    known = {key: reader.node(key, each) for key, each in nodes.items()}
    given = spec.get("arguments")
    stored = status.get("storedWorkflowTemplateSpec")
    return WorkflowStatus(
        name, uid, reader.text(status, "phase") or "Pending", ours,
        reader.parameters(given if isinstance(given, dict) else {}, "the workflow"),
        frozenset(n for each in (spec, stored) for n in reader.names(each, "templates")),
        known,
    )  # fmt: skip


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source

    def object(self, data: bytes) -> dict[str, Any]:
        if len(data) > _MOST_BYTES:
            raise InputError(f"{self.source} has {len(data):,} bytes, and no workflow has so many")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.source} is not JSON: {error!s:.200}", advice=_ADVICE) from None
        if not isinstance(found, dict):
            raise InputError(f"{self.source} is no workflow: it is no object", advice=_ADVICE)
        return found

    def part(self, workflow: dict[str, Any], name: str) -> dict[str, Any]:
        part = workflow.get(name)
        if not isinstance(part, dict):
            raise InputError(
                f"{self.source} is no workflow with a status: it has no object {name!r}",
                advice=_ADVICE,
            )
        return part

    def text(self, of: Mapping[str, Any], name: str) -> str:
        found = of.get(name)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise InputError(f"{self.source}: {name} is {found!r:.60} and no text", advice=_ADVICE)
        return found

    def names(self, spec: Any, of: str) -> Iterator[str]:
        given = spec.get(of) if isinstance(spec, dict) else None
        for each in given if isinstance(given, list) else ():
            if isinstance(each, dict) and isinstance(each.get("name"), str) and each["name"]:
                yield each["name"]

    def parameters(self, given: Mapping[str, Any], whose: str) -> dict[str, str]:
        listed = given.get("parameters")
        if listed is None:
            return {}
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise InputError(
                f"{self.source}: the parameters of {whose:.200} are no list of objects",
                advice=_ADVICE,
            )
        return {
            self.text(each, "name"): self.text(each, "value")
            for each in listed
            if each.get("value") is not None
        }

    def node(self, key: str, given: Any) -> Node:
        if not isinstance(given, dict):
            raise InputError(f"{self.source}: node {key!r:.100} is no object", advice=_ADVICE)
        name = self.text(given, "name")
        if not name:
            raise InputError(f"{self.source}: node {key!r:.100} has no name", advice=_ADVICE)
        outputs, inputs, flag, memo = (
            _object(given.get(each))
            for each in ("outputs", "inputs", "nodeFlag", "memoizationStatus")
        )
        children = given.get("children") or ()
        if not isinstance(children, Sequence) or not all(isinstance(c, str) for c in children):
            raise InputError(f"{self.source}: the children of {name!r:.100} are no texts")
        message = self.text(given, "message")
        kind = self.text(given, "type")
        reused = memo.get("hit") is True or (
            kind == "Skipped" and message.startswith("original pod:")
        )
        result = outputs.get("result")
        return Node(
            key, name, kind, self.text(given, "phase") or "Pending",
            self.text(given, "boundaryID"), self.text(given, "templateName"), message,
            self.text(given, "startedAt"), self.text(given, "finishedAt"),
            self.text(given, "hostNodeName"), tuple(children),
            self.parameters(outputs, name), result if isinstance(result, str) else None,
            self.text(outputs, "exitCode"), self.parameters(inputs, name),
            flag.get("hooked") is True, reused, given.get("daemoned") is True,
        )  # fmt: skip


def _object(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}
