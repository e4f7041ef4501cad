"""The state of a node in one evaluation; where a graph is evaluated, and in what scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runstore.plan.steps import Step
from runstore.plan.values import value_digest
from runstore.records import Blob, End

if TYPE_CHECKING:
    from runstore.plan.prepare import Graph, Vertex

__all__ = [
    "DONE",
    "FAILED",
    "NOT_TAKEN",
    "PENDING",
    "UPSTREAM_FAILED",
    "Frame",
    "Scope",
    "State",
    "Valued",
]

DONE, FAILED, UPSTREAM_FAILED, NOT_TAKEN, PENDING = range(5)

Valued = tuple[Any, str]
"""A value and its digest."""

_EMPTY: dict[str, Any] = {}


class State:
    """What became of one node.

    What most nodes do not have stands in the class: there is a state for each item of each map.
    """

    __slots__ = ("__dict__", "behind", "code", "end", "outputs", "path")

    result: str | None = None
    newest = ""
    """The latest invocation that made something of it."""
    busy = False
    """An attempt of it is in progress."""
    interrupted = False
    """An attempt of it, or of what is in it, was lost or cancelled: no handler can settle it."""
    artifacts: Mapping[str, tuple[Blob, str]] = _EMPTY
    """What it saved: address -> (blob, path of the node that saved it)."""
    ends: list[str] | None = None
    """Digests of the end records in it, where some task asks for them."""
    digests: dict[str, str] | None = None

    def __init__(
        self,
        path: str,
        code: int,
        behind: bool = False,
        end: End | None = None,
        outputs: Mapping[str, Any] = _EMPTY,
    ) -> None:
        self.path = path
        self.code = code
        self.behind = behind
        """Whether this node, or anything it transitively follows, failed."""
        self.end = end
        self.outputs = outputs

    def digest(self, name: str, value: Any) -> str:
        """The digest of one of its outputs, worked out once."""
        known = self.digests
        if known is None:
            known = self.digests = {}
        digest = known.get(name)
        if digest is None:
            digest = known[name] = value_digest(value)
        return digest


class Scope:
    """Where the bodies of a composite stand. Items of a map share one; an iteration has its own."""

    handled: Mapping[str, str] = _EMPTY
    """For the body of a handler: path -> result of each failed node it handles."""
    previous: Mapping[str, Valued] = _EMPTY
    """In a loop: the latest value of each name from earlier iterations."""
    earlier: Mapping[str, tuple[Blob, str]] = _EMPTY
    """In a loop: the latest artifact of each name from earlier iterations."""
    previous_result: tuple[str, str] | None = None
    """In a loop: path and result of the iteration before."""
    previous_ends: tuple[str, list[str]] | None = None
    place = ""
    """In a loop: its path."""
    turn = 0
    """In a loop: the iteration."""

    def __init__(self, owner: Vertex, frame: Frame, behind: bool) -> None:
        self.owner = owner
        self.frame = frame
        """Where the composite itself stands."""
        self.behind = behind
        """Whether anything the composite follows failed."""
        self.cache: dict[str, Valued] = {}
        """Values from outside, by name."""


class Frame:
    """One graph at work: the DAG itself, or a body for one item, branch or iteration."""

    __slots__ = ("graph", "item", "key", "out", "prefix", "scope", "states", "tentative")

    def __init__(
        self,
        graph: Graph,
        scope: Scope | None,
        prefix: str,
        key: str,
        item: Valued | None,
        tentative: bool,
        out: list[Step],
    ) -> None:
        self.graph = graph
        self.scope = scope
        self.prefix = prefix
        """Text of the paths in it, up to and with the slash."""
        self.key = key
        """Which of its composite's bodies: item, branch or iteration, as paths tell it."""
        self.item = item
        """What `as` names in it: the item of a map, the number of an iteration."""
        self.tentative = tentative
        """Failures of earlier invocations are taken as settled."""
        self.out = out
        """Where steps are put."""
        self.states: list[State] = [None] * len(graph.vertices)  # type: ignore[list-item]

    def upstream(self, vertex: Vertex) -> State:
        """The state of a node outside that an opener of this body follows."""
        frame = self
        while frame.scope is not None:
            frame = frame.scope.frame
            if frame.graph is vertex.graph:
                return frame.states[vertex.at]
        raise AssertionError("an opener follows nodes of an enclosing graph only")
