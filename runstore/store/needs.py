"""What the planner needs of a run: which values, and the records of which paths."""

from __future__ import annotations

from collections.abc import Iterable

from runstore.dag import Dag, walk
from runstore.plan import needed
from runstore.records import keys

__all__ = ["deciding_names", "fewest_prefixes", "needed_prefixes"]

_MARK = {"map": "[", "conditional": ":", "parallel": ":", "loop": "@"}


def deciding_names(dag: Dag) -> frozenset[str]:
    """Names whose values the planner itself must see: map lists, branch choices, loop ends."""
    names: set[str] = set()
    for _, node in walk(dag):
        match node.kind:
            case "map":
                names.add(node.over)
            case "conditional":
                names.add(node.on)
            case "loop":
                names.add(node.until)
    return frozenset(names)


def needed_prefixes(dag: Dag, paths: Iterable[str]) -> list[str]:
    """Prefixes of attempt names that the planner needs for some paths: theirs, and all that they
    follow, in their own graph and in those around it. Their number depends on the DAG alone."""
    found: set[str] = set()
    for path, kind in needed(dag, paths):
        if kind == "task":
            found.add(keys.encode(path) + ".")
        else:
            found.add(keys.prefix(path + _MARK[kind]))
    return fewest_prefixes(found)


def fewest_prefixes(prefixes: set[str]) -> list[str]:
    """Sorted, without those that begin with another one."""
    out: list[str] = []
    for prefix in sorted(prefixes):
        if not out or not prefix.startswith(out[-1]):
            out.append(prefix)
    return out
