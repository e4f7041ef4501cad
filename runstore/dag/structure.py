"""The structure digest: names and shape of a DAG, without values, code or configuration.

A Merkle tree by containment, so a difference is located: :func:`diff` says which node, and what in
it. The format is FORMAT.md, section 7.1; its vectors are frozen in the tests, because a pod and a
laptop with different versions of this library must agree.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from runstore.canonical import dumps
from runstore.dag import AnyNode, Dag, walk

__all__ = ["VERSION", "Change", "changed", "comparable", "diff", "digest", "fields"]

VERSION = 1
_NODE = b"runstore/structure/1/node\n"
_DAG = b"runstore/structure/1/dag\n"


class Change(NamedTuple):
    """One difference between two structures. ``str`` of it is a line for people."""

    path: str
    """Template path of the node."""
    what: str
    """``added``, ``removed``, or the name of the field that changed."""
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        if self.what in ("added", "removed"):
            return f"{self.path}: {self.what}"
        return f"{self.path}.{self.what}: {_show(self.old)} -> {_show(self.new)}"


def _show(value: Any) -> str:
    return "nothing" if value is None else dumps(value).decode()


def fields(node: AnyNode) -> dict[str, Any]:
    """A node's own structure, without what is inside it. Absent and empty are left out."""
    own: dict[str, Any] = {"name": node.name, "kind": node.kind, "after": sorted(node.after)}
    if node.trigger != "all_success":
        own["trigger"] = node.trigger
    if node.handles:
        own["handles"] = True
    if node.kind == "task":
        own |= {"type": node.type, "params": sorted(node.params), "returns": sorted(node.returns)}
    else:
        own |= {field: names[0] for field, names in node.names.items() if names}
    # A default may be the branch of the empty name: `names` has it only if there is one.
    return {field: value for field, value in own.items() if value or field == "default"}


def digest(dag: Dag) -> str:
    """``1:<64 hex>``. Linear; a graph of 100,000 nodes takes about half a second, any depth."""
    done: dict[int, str] = {}
    stack = [dag]
    while stack:
        graph = stack[-1]
        waiting = [
            body for node in graph.nodes for body in node.bodies.values() if id(body) not in done
        ]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if id(graph) not in done:
            done[id(graph)] = _graph(graph, done)
    return f"{VERSION}:{done[id(dag)]}"


def _graph(graph: Dag, done: dict[int, str]) -> str:
    nodes: dict[str, str] = {}
    for node in graph.nodes:
        own = fields(node)
        if node.kind != "task":
            bodies = {name: done[id(body)] for name, body in node.bodies.items()}
            if node.kind == "map" or node.kind == "loop":
                own["body"] = bodies[""]
            elif bodies:
                own["branches"] = bodies
        nodes[node.name] = hashlib.sha256(_NODE + dumps(own)).hexdigest()
    return hashlib.sha256(_DAG + dumps(nodes)).hexdigest()


def comparable(one: str, other: str) -> bool:
    """Whether two digests were made by the same version of the algorithm."""
    return one.partition(":")[0] == other.partition(":")[0]


def diff(old: Dag, new: Dag) -> list[Change]:
    """What changed, by template path; nothing if and only if the digests are equal."""
    before, after = _own(old), _own(new)
    changes = [Change(path, "removed") for path in before if path not in after]
    for path, own in after.items():
        was = before.get(path)
        if was is None:
            changes.append(Change(path, "added"))
            continue
        changes += [
            Change(path, key, was.get(key), own.get(key))
            for key in {**was, **own}
            if was.get(key) != own.get(key)
        ]
    return sorted(changes, key=lambda change: (change.path, change.what))


def _own(dag: Dag) -> dict[str, dict[str, Any]]:
    own: dict[str, dict[str, Any]] = {}
    for path, node in walk(dag):
        own[path] = fields(node)
        if node.kind == "conditional" or node.kind == "parallel":
            # A branch without nodes is structure too, and has no node that would show it.
            own[path]["branches"] = sorted(node.branches)
    return own


def changed(old: Dag, new: Dag) -> frozenset[str]:
    """Template paths of ``new`` whose own structure is not what it was in ``old``."""
    before = _own(old)
    return frozenset(path for path, own in _own(new).items() if before.get(path) != own)
