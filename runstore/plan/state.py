"""The state of a node in one evaluation; where a graph is evaluated, and in what scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runstore.plan.digests import value_digest
from runstore.plan.graph import Graph, Vertex
from runstore.plan.steps import Action, Step
from runstore.records import Blob, End

__all__ = [
    "DONE", "FAILED", "NOT_TAKEN", "PENDING", "UPSTREAM_FAILED", "Frame", "Saved", "Scope", "State",
    "Valued", "order",
]  # fmt: skip

DONE, FAILED, UPSTREAM_FAILED, NOT_TAKEN, PENDING = range(5)

Valued = tuple[Any, str]
"""A value and its digest."""

Saved = tuple[Blob, str]
"""An artifact, and the path of the node that saved it."""

_EMPTY: dict[str, Any] = {}
_FIRST = {Action.RUN: 0, Action.WAIT: 1, Action.FAILED: 2, Action.SKIP: 3, Action.OMIT: 4}


def order(step: Step) -> tuple[int, str]:
    """What is to run comes before what waits, and then by path: the order of declaration means
    nothing."""
    return _FIRST[step.action], step.path


class State:
    """What became of one node.

    What most nodes do not have stands in the class: there is a state for each item of each map.
    """

    __slots__ = ("__dict__", "code", "end", "failure_upstream", "outputs", "path")

    result: str | None = None
    newest = ""
    """The latest invocation that made something of it."""
    interrupted = False
    """An attempt of it, or of what is in it, was lost or cancelled: no handler can settle it."""
    reopens = False
    """It failed in an earlier invocation, or something in it did that nobody handled there: it is
    to run again unless that is handled."""
    artifacts: Mapping[str, Saved] = _EMPTY
    """What it hands on by the plain name."""
    bodies: Mapping[str, Frame] = _EMPTY
    """Of a composite: prefix -> each body in which something was saved."""
    trace = ""
    """Digest of the end records of it and of all that it follows, where some task asks for it."""
    digests: dict[str, str] | None = None
    culprits: frozenset[int] | None = None
    """Those of its graph whose failure is why it failed; worked out once, when asked."""

    def __init__(
        self,
        path: str,
        code: int,
        failure_upstream: bool = False,
        end: End | None = None,
        outputs: Mapping[str, Any] = _EMPTY,
    ) -> None:
        self.path = path
        self.code = code
        self.failure_upstream = failure_upstream
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
    earlier: Mapping[str, Saved] = _EMPTY
    """In a loop: the latest artifact of each name from earlier iterations. All share one."""
    turns: Mapping[str, Frame] = _EMPTY
    """In a loop: prefix -> each earlier iteration in which something was saved. All share one."""
    previous_result: tuple[str, str] | None = None
    """In a loop: path and result of the iteration before."""
    trace = ""
    """Digest of the end records of all that its bodies follow, "" if they follow nothing."""
    place = ""
    """In a loop: its path."""
    turn = 0
    """In a loop: the iteration."""
    missing_outputs = False
    """Whether what is missing outside was looked for already."""

    def __init__(self, owner: Vertex, frame: Frame, failure_upstream: bool) -> None:
        self.owner = owner
        self.frame = frame
        """Where the composite itself stands."""
        self.failure_upstream = failure_upstream
        """Whether anything the composite follows failed."""
        self.cache: dict[str, Valued] = {}
        """Values from outside, by name."""
        self.artifacts: dict[str, Saved | None] = {}
        """Artifacts from outside, by address, as far as somebody asked."""
        self.outside: Frame | None = frame
        """Where the upstream of what opens a body stands."""
        if not owner.after:
            self.outside = None if frame.scope is None else frame.scope.outside


class Frame:
    """One graph at work: the DAG itself, or a body for one item, branch or iteration."""

    __slots__ = (
        "graph", "index", "item", "key", "missing_outputs", "out", "prefix", "said", "scope",
        "states", "tentative",
    )  # fmt: skip

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
        self.index: Any = None
        """The `runstore.plan.artifacts.Index` of it, once somebody asked what was saved in it."""
        self.said: Step | None = None
        """Of one that is not done: what is to be said of the composite around it."""
        self.missing_outputs: set[int] | None = None
        """Nodes whose missing outputs were looked for already."""
        self.states: list[State] = [None] * len(graph.vertices)  # type: ignore[list-item]

    def say(self, step: Step) -> None:
        """Of all that keeps it from being done, the first is to be said of the composite around."""
        if self.said is None or order(step) < order(self.said):
            self.said = step

    def upstream(self, vertex: Vertex) -> State:
        """The state of a node outside that the root nodes of this body follow."""
        assert self.scope is not None
        assert self.scope.outside is not None
        return self.scope.outside.states[vertex.at]
