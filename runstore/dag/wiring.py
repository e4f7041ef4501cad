"""What is known of a graph when it has been resolved, and what resolving asks of a node.

The kinds of node hold graphs, and a graph is resolved when it is made: so what resolves them knows
nodes by this protocol, and `runstore.dag.model` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Graph", "Node", "Wiring"]


class Node(Protocol):
    """A node of any kind."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> tuple[str, ...]: ...

    @property
    def trigger(self) -> str: ...

    @property
    def handles(self) -> bool: ...

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Each field of this kind that names parameters, or a branch, and what it names."""

    @property
    def bodies(self) -> Mapping[str, Graph]: ...


class Graph(Protocol):
    """A graph that was resolved."""

    @property
    def nodes(self) -> Sequence[Node]: ...

    @property
    def wiring(self) -> Wiring: ...


@dataclass(slots=True)
class Wiring:
    """What was resolved about one graph. Nodes are their indices in ``Dag.nodes``."""

    order: tuple[int, ...] = ()
    """A topological order: declaration order where that is one."""
    after: tuple[tuple[int, ...], ...] = ()
    before: tuple[tuple[int, ...], ...] = ()
    """The direct followers of each node."""
    index: dict[str, int] = field(default_factory=dict)
    sources: tuple[dict[str, tuple[int, ...]], ...] = ()
    """For each node and each name it (or a body in it) reads: the nodes of this graph that may give
    it, nearest first. A name that no node of this graph gives is not in it."""
    returns: tuple[dict[str, bool], ...] = ()
    """For each node, the names it may give -> whether it surely gives it when it succeeds."""
    reads: dict[str, str] = field(default_factory=dict)
    """Names that may be read from outside this graph -> a reader, for messages."""
    needs: dict[str, str] = field(default_factory=dict)
    """Those among them that nothing in this graph can give."""
    exports: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Names visible at the end of this graph -> the nodes that may give it, nearest first."""
    sure: frozenset[str] = frozenset()
    """Those among them that are surely given when this graph succeeds."""
    unclear: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Names that two nodes give, neither following the other: an error if anybody reads one."""
    bound: frozenset[str] = frozenset()
    """What the maps and loops in this graph call their items and iterations, at any depth."""
