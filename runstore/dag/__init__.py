"""What a pipeline is: a graph of five kinds of node, checked and wired when it is made."""

from __future__ import annotations

from runstore.dag.model import (
    KINDS,
    AnyNode,
    Conditional,
    Dag,
    Loop,
    Map,
    Parallel,
    Task,
    Trigger,
    fields_of,
    walk,
)

__all__ = [
    "KINDS", "AnyNode", "Conditional", "Dag", "Loop", "Map", "Parallel", "Task", "Trigger",
    "fields_of", "walk",
]  # fmt: skip
