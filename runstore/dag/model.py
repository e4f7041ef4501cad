"""The model: a DAG is a value, and has one JSON form.

Five kinds of node, each in any other to any depth. A graph that is not one (a cycle, an ambiguous
parameter, two names that look alike) is refused when it is built, by :mod:`runstore.dag.wiring`;
so whoever holds a :class:`Dag` holds one that can be planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    get_args,
)

import msgspec
from msgspec import Meta, Struct, StructMeta, field
from msgspec.structs import force_setattr

from runstore.dag.resolve import wire
from runstore.dag.wiring import Wiring
from runstore.errors import DagError

if TYPE_CHECKING:
    from typing import Required, Unpack

__all__ = [
    "KINDS", "AnyNode", "Conditional", "Dag", "Loop", "Map", "Parallel", "Task", "Trigger",
    "fields_of", "walk",
]  # fmt: skip

Trigger = Literal["all_success", "one_success", "one_failed", "all_done"]
"""When a node runs, once everything in ``after`` is settled: Airflow's trigger rules."""


_LISTS = ("after", "params", "returns")


class _Given(TypedDict, total=False):
    name: Required[str]
    after: Iterable[str]
    trigger: Trigger
    handles: bool
    config: Mapping[str, Any]


class _Checked(StructMeta):
    """Makes nodes: a struct's own constructor takes values of any type, this one converts them."""

    if not TYPE_CHECKING:  # where each kind says what it takes

        def __call__(cls, /, **given):  # noqa: N805
            function = given.pop("_function", None)
            if "as_" in given:
                given["as"] = given.pop("as_")
            for name in _LISTS:
                if isinstance(given.get(name), str):
                    given[name] = (given[name],)
            if "body" in given:
                given["body"] = _graph(given["body"])
            if isinstance(branches := given.get("branches"), Mapping):
                given["branches"] = {_exact(b): _graph(graph) for b, graph in branches.items()}
            node = _convert(given, cls)
            if function is not None:
                force_setattr(node, "_function", function)
            return node


def _graph(given: object) -> object:
    return Dag.from_json(given) if isinstance(given, Mapping) else given


class _Node(
    Struct, frozen=True, kw_only=True, repr_omit_defaults=True, tag_field="kind",
    metaclass=_Checked,
):  # fmt: skip
    """What every kind has.

    ``name``: any text that is not empty; unlike its siblings' also under NFKC and case folding.
    ``after``: names of nodes of the same graph that it waits for. ``trigger``: what must have come
    of them. ``handles``: a ``one_failed`` node that, when it succeeds, settles the failures.
    ``config``: whatever an executor needs; in no digest, so it may change between invocations.
    In Python a single name may stand for a list of one; the JSON form has lists only.
    """

    name: str
    after: tuple[str, ...] = ()
    trigger: Trigger = "all_success"
    handles: bool = False
    config: Mapping[str, Any] = {}

    @property
    def bodies(self) -> Mapping[str, Dag]:
        """The graphs inside: ``{"": body}`` of a map or loop, the branches by name, or none."""
        return {}

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Each field of this kind that names parameters, or a branch, and what it names."""
        return {}


class Task(_Node, frozen=True, kw_only=True, tag="task"):
    """One step. ``type`` is free text (``python``, ``shell``, ...) and part of the structure.

    ``params`` are read by name, ``returns`` are the names it gives; a task that succeeds gives all.
    """

    kind: ClassVar[Literal["task"]] = "task"
    type: str = "python"
    params: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    _function: Callable[..., Any] | None = None

    if TYPE_CHECKING:

        def __init__(
            self, *, params: Iterable[str] = ..., returns: Iterable[str] = ..., type: str = ...,  # noqa: A002
            **node: Unpack[_Given],
        ) -> None: ...  # fmt: skip

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        return {"params": self.params, "returns": self.returns}


class Map(_Node, frozen=True, kw_only=True, tag="map"):
    """``body`` once for each item of the list ``over``; inside, the item is called ``as``."""

    kind: ClassVar[Literal["map"]] = "map"
    over: str
    as_: str = field(name="as")
    body: Dag

    if TYPE_CHECKING:

        def __init__(self, *, over: str, as_: str, body: Dag, **node: Unpack[_Given]) -> None: ...

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return {"": self.body}

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        return {"over": (self.over,), "as": (self.as_,)}


class Conditional(_Node, frozen=True, kw_only=True, tag="conditional"):
    """The one of ``branches`` that the value of ``on`` names, else ``default``."""

    kind: ClassVar[Literal["conditional"]] = "conditional"
    on: str
    branches: Mapping[str, Dag]
    default: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self, *, on: str, branches: Mapping[str, Dag], default: str | None = ...,
            **node: Unpack[_Given],
        ) -> None: ...  # fmt: skip

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return self.branches

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        return {"on": (self.on,), "default": () if self.default is None else (self.default,)}


class Parallel(_Node, frozen=True, kw_only=True, tag="parallel"):
    """All ``branches``, side by side."""

    kind: ClassVar[Literal["parallel"]] = "parallel"
    branches: Mapping[str, Dag]

    if TYPE_CHECKING:

        def __init__(self, *, branches: Mapping[str, Dag], **node: Unpack[_Given]) -> None: ...

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return self.branches


class Loop(_Node, frozen=True, kw_only=True, tag="loop"):
    """``body`` again and again until the parameter ``until`` is JSON ``true`` after an iteration.

    Inside, the number of the iteration (from 0) is called ``as``. It fails at ``max_iterations``,
    which is configuration: raise it to go on with a loop that reached it.
    """

    kind: ClassVar[Literal["loop"]] = "loop"
    until: str
    as_: str | None = field(default=None, name="as")
    body: Dag
    max_iterations: Annotated[int, Meta(ge=1)] = 1000

    if TYPE_CHECKING:

        def __init__(
            self, *, until: str, as_: str | None = ..., body: Dag, max_iterations: int = ...,
            **node: Unpack[_Given],
        ) -> None: ...  # fmt: skip

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return {"": self.body}

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        return {"until": (self.until,), "as": () if self.as_ is None else (self.as_,)}


AnyNode = Task | Map | Conditional | Parallel | Loop
"""Any node."""

KINDS: dict[str, type[AnyNode]] = {
    "task": Task,
    "map": Map,
    "conditional": Conditional,
    "parallel": Parallel,
    "loop": Loop,
}


@cache
def fields_of(kind: str) -> tuple[str, ...]:
    """The names of a kind's fields in the JSON form."""
    return ("kind", *(name for name in KINDS[kind].__struct_encode_fields__ if name[0] != "_"))


class Dag(Struct, frozen=True, dict=True):
    """A graph of nodes. The order of ``nodes`` means nothing.

    :raises DagError: naming the nodes, for everything that makes it no graph (design, section 3).
        A graph of 100,000 nodes takes about two seconds to build.
    """

    nodes: tuple[AnyNode, ...] = ()

    if TYPE_CHECKING:

        def __init__(self, nodes: Iterable[Any] = ...) -> None: ...

    def __post_init__(self) -> None:
        force_setattr(self, "nodes", tuple(self.nodes))
        for node in self.nodes:
            if not isinstance(node, _Node):
                raise DagError(
                    f"a node is {node!r:.60}, which is no Task, Map, Conditional, Parallel or Loop",
                    advice="make a DAG of a JSON document with Dag.from_json",
                )
        self.wiring  # noqa: B018 - what is no graph is refused

    @cached_property
    def wiring(self) -> Wiring:
        """Who follows whom and where each parameter comes from, resolved when built."""
        return wire(self.nodes)

    def check(self, parameters: Iterable[str]) -> Self:
        """Refuse the DAG if a parameter is read that neither a node nor ``parameters`` gives.

        :raises DagError: naming the parameter and one node that reads it.
        """
        given = set(parameters)
        for name, reader in self.wiring.needs.items():
            if name not in given:
                raise DagError(
                    f"{reader!r} reads {name!r}, which no node before it returns and the run does "
                    f"not have",
                    advice="let a node before it return it, or start the run with it",
                    nodes=(reader,),
                    parameter=name,
                )
        return self

    def to_json(self) -> dict[str, Any]:
        """The one JSON form: what is stored and hashed. Defaults are left out."""
        # Iterative: a body nested a thousand deep must not meet Python's recursion limit.
        root: dict[str, Any] = {}
        stack: list[tuple[Dag, dict[str, Any]]] = [(self, root)]
        while stack:
            graph, out = stack.pop()
            nodes: list[dict[str, Any]] = []
            out["nodes"] = nodes
            for node in graph.nodes:
                item: dict[str, Any] = {"name": node.name, "kind": node.kind}
                for own in node.__struct_fields__:
                    value = getattr(node, own)
                    if own not in _APART and value != _LEFT_OUT.get(own):
                        item[own.rstrip("_")] = list(value) if isinstance(value, tuple) else value
                if isinstance(node, Map | Loop):
                    item["body"] = {}
                    stack.append((node.body, item["body"]))
                elif isinstance(node, Conditional | Parallel):
                    item["branches"] = {name: {} for name in node.branches}
                    stack.extend((body, item["branches"][b]) for b, body in node.branches.items())
                nodes.append(item)
        return root

    @classmethod
    def from_json(cls, document: object, *, unknown: Literal["refuse", "ignore"] = "refuse") -> Dag:
        """Build a DAG from its JSON form.

        ``unknown``: what to do with fields this version does not know; files are written by people,
        so a misspelt field is refused there, while records are read with ``ignore``.

        :raises DagError: saying which node, by path, is wrong and how.
        """
        strict = unknown == "refuse"
        # Outer before inner, then built the other way round: a converter would recurse.
        built: dict[str, Dag] = {}
        graphs: list[tuple[object, str, dict[str, Any], str]] = [(document, "", built, "")]
        opened: list[list[dict[str, Any]]] = []
        for graph, at, _, _ in graphs:  # grows while it is walked
            opened.append(items := _nodes(graph, at, strict))
            for item in items:
                within = _path(at, item)
                if "body" in item:
                    graphs.append((item["body"], within, item, "body"))
                if isinstance(branches := item.get("branches"), dict):
                    graphs += [(inner, within, branches, b) for b, inner in branches.items()]
        for (_, at, holder, slot), items in zip(reversed(graphs), reversed(opened), strict=True):
            where = at
            try:
                nodes = []
                for item in items:
                    where = _path(at, item)
                    known = fields_of(item["kind"])
                    own = item if strict else {k: v for k, v in item.items() if k in known}
                    nodes.append(_convert(own, KINDS[item["kind"]]))
                where = at
                holder[slot] = Dag(nodes)
            except DagError as error:
                if where and where not in error.problem:
                    raise error.reworded(f"in {where!r}: {error.problem}") from None
                raise
        return built[""]


def walk(dag: Dag) -> Iterator[tuple[str, AnyNode]]:
    """Every node with its template path, outer before inner. No recursion limit."""
    from runstore.paths import escape

    stack = [("", dag)]
    while stack:
        prefix, graph = stack.pop()
        for node in graph.nodes:
            path = prefix + escape(node.name)
            yield path, node
            for branch, body in node.bodies.items():
                stack.append((f"{path}:{escape(branch)}/" if branch else f"{path}/", body))


_APART = frozenset(("name", "body", "branches", "_function"))
_LEFT_OUT: dict[str, Any] = {
    "after": (), "trigger": "all_success", "handles": False, "config": {}, "params": (),
    "returns": (),
}  # fmt: skip


def _path(at: str, item: Mapping[str, Any]) -> str:
    return f"{at}/{item.get('name')}" if at else str(item.get("name"))


def _nodes(graph: object, at: str, strict: bool) -> list[dict[str, Any]]:
    where = f"the body of {at!r}" if at else "the document"
    if not isinstance(graph, Mapping) or not isinstance(graph.get("nodes"), list | tuple):
        raise DagError(f'{where} is no graph: it must be an object with a list "nodes"')
    if strict and (unknown := set(graph) - {"nodes"}):
        raise DagError(f"{where} has unknown fields: {', '.join(sorted(map(repr, unknown)))}")
    return [_open(raw, at) for raw in graph["nodes"]]


def _open(raw: object, at: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise DagError(f"a node {f'in {at!r} ' if at else ''}is no object but {raw!r}")
    item = dict(raw)
    if not isinstance(item.get("kind"), str) or item["kind"] not in KINDS:
        raise DagError(
            f"node {item.get('name')!r} is of unknown kind {item.get('kind')!r}: "
            f"runstore knows {', '.join(KINDS)}",
            nodes=(str(item.get("name")),),
        )
    if isinstance(item.get("branches"), Mapping):
        item["branches"] = dict(item["branches"])
    return item


def _convert(given: Mapping[str, Any], kind: Any) -> Any:
    try:
        for name, value in given.items():
            if name not in fields_of(kind.kind):
                raise msgspec.ValidationError(f"{name!r} is no field of this kind of node")
            if name in _LISTS and isinstance(value, str):
                raise msgspec.ValidationError(f"{name!r} is no text {value!r} but a list of names")
        if given.get("trigger", "all_success") not in get_args(Trigger):
            raise msgspec.ValidationError(f"its trigger is none of {', '.join(get_args(Trigger))}")
        plain = {name: _exact(value) for name, value in given.items() if name != "config"}
        return msgspec.convert({**given, **plain}, kind)
    except msgspec.ValidationError as error:
        called = given.get("name")
        subject = f"a {kind.kind}" if called is None else f"node {called!r} ({kind.kind})"
        raise DagError(f"{subject}: {error}", nodes=(str(called),) if called else ()) from None


def _exact(value: Any) -> Any:
    """Texts of no other class than `str`, which JSON has: members of an enum may be given."""
    if isinstance(value, list | tuple):
        return tuple(map(_exact, value))
    return str.__str__(value) if isinstance(value, str) else value
