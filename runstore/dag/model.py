"""The model: a DAG is a value, and has one JSON form.

Five kinds of node, each in any other to any depth. A graph that is not one (a cycle, an ambiguous
parameter, two names that look alike) is refused when it is built, by :mod:`runstore.dag.wiring`;
so whoever holds a :class:`Dag` holds one that can be planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from runstore.dag.resolve import wire
from runstore.dag.wiring import Wiring
from runstore.errors import DagError

if TYPE_CHECKING:
    from pydantic.config import ExtraValues

__all__ = [
    "KINDS", "AnyNode", "Conditional", "Dag", "Loop", "Map", "Parallel", "Task", "Trigger",
    "fields_of", "walk",
]  # fmt: skip

Trigger = Literal["all_success", "one_success", "one_failed", "all_done"]
"""When a node runs, once everything in ``after`` is settled: Airflow's trigger rules."""

Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda names: (names,) if isinstance(names, str) else names)
]
"""Names; in Python a single one may be given as it is. The JSON form has lists only."""


def _if_given(name: str | None) -> Names:
    return () if name is None else (name,)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, strict=False)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _explain(type(self).__name__, data, error) from None


class _Node(_Model):
    """What every kind has.

    ``name``: any text that is not empty; unlike its siblings' also under NFKC and case folding.
    ``after``: names of nodes of the same graph that it waits for. ``trigger``: what must have come
    of them. ``handles``: a ``one_failed`` node that, when it succeeds, settles the failures.
    ``config``: whatever an executor needs; in no digest, so it may change between invocations.
    """

    name: str
    after: Names = ()
    trigger: Trigger = "all_success"
    handles: bool = False
    config: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def bodies(self) -> Mapping[str, Dag]:
        """The graphs inside: ``{"": body}`` of a map or loop, the branches by name, or none."""
        return {}

    @property
    def names(self) -> Mapping[str, Names]:
        """Each field of this kind that names parameters, or a branch, and what it names."""
        return {}


class Task(_Node):
    """One step. ``type`` is free text (``python``, ``shell``, ...) and part of the structure.

    ``params`` are read by name, ``returns`` are the names it gives; a task that succeeds gives all.
    """

    kind: Literal["task"] = "task"
    type: str = "python"
    params: Names = ()
    returns: Names = ()
    _function: Callable[..., Any] | None = PrivateAttr(default=None)

    @property
    def names(self) -> Mapping[str, Names]:
        return {"params": self.params, "returns": self.returns}


class Map(_Node):
    """``body`` once for each item of the list ``over``; inside, the item is called ``as``."""

    kind: Literal["map"] = "map"
    over: str
    as_: str = Field(alias="as")
    body: Dag

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return {"": self.body}

    @property
    def names(self) -> Mapping[str, Names]:
        return {"over": (self.over,), "as": (self.as_,)}


class Conditional(_Node):
    """The one of ``branches`` that the value of ``on`` names, else ``default``."""

    kind: Literal["conditional"] = "conditional"
    on: str
    branches: Mapping[str, Dag]
    default: str | None = None

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return self.branches

    @property
    def names(self) -> Mapping[str, Names]:
        return {"on": (self.on,), "default": _if_given(self.default)}


class Parallel(_Node):
    """All ``branches``, side by side."""

    kind: Literal["parallel"] = "parallel"
    branches: Mapping[str, Dag]

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return self.branches


class Loop(_Node):
    """``body`` again and again until the parameter ``until`` is JSON ``true`` after an iteration.

    Inside, the number of the iteration (from 0) is called ``as``. It fails at ``max_iterations``,
    which is configuration: raise it to go on with a loop that reached it.
    """

    kind: Literal["loop"] = "loop"
    until: str
    as_: str | None = Field(default=None, alias="as")
    body: Dag
    max_iterations: Annotated[int, Field(ge=1, strict=True)] = 1000

    @property
    def bodies(self) -> Mapping[str, Dag]:
        return {"": self.body}

    @property
    def names(self) -> Mapping[str, Names]:
        return {"until": (self.until,), "as": _if_given(self.as_)}


AnyNode: TypeAlias = Task | Map | Conditional | Parallel | Loop
"""Any node."""

KINDS: dict[str, type[AnyNode]] = {
    "task": Task,
    "map": Map,
    "conditional": Conditional,
    "parallel": Parallel,
    "loop": Loop,
}


def fields_of(kind: str) -> tuple[str, ...]:
    """The names of a kind's fields in the JSON form."""
    return tuple(info.alias or name for name, info in KINDS[kind].model_fields.items())


class Dag(_Model):
    """A graph of nodes. The order of ``nodes`` means nothing.

    :raises DagError: naming the nodes, for everything that makes it no graph (design, section 3).
        A graph of 100,000 nodes takes about two seconds to build.
    """

    nodes: tuple[Annotated[AnyNode, Field(discriminator="kind")], ...] = ()
    _wiring: Wiring = PrivateAttr()

    def __init__(self, nodes: Iterable[Any] = (), /, **data: Any) -> None:
        super().__init__(**{"nodes": tuple(nodes), **data})

    def model_post_init(self, _context: Any, /) -> None:
        self._wiring = wire(self.nodes)

    @property
    def wiring(self) -> Wiring:
        """Who follows whom and where each parameter comes from, resolved when built."""
        return self._wiring

    def check(self, parameters: Iterable[str]) -> Self:
        """Refuse the DAG if a parameter is read that neither a node nor ``parameters`` gives.

        :raises DagError: naming the parameter and one node that reads it.
        """
        given = set(parameters)
        for name, reader in self._wiring.needs.items():
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
        return _to_json(self)

    @classmethod
    def from_json(cls, document: object, *, unknown: Literal["refuse", "ignore"] = "refuse") -> Dag:
        """Build a DAG from its JSON form.

        ``unknown``: what to do with fields this version does not know; files are written by people,
        so a misspelt field is refused there, while records are read with ``ignore``.

        :raises DagError: saying which node, by path, is wrong and how.
        """
        return _from_json(document, "forbid" if unknown == "refuse" else "ignore")


for _class in (Map, Conditional, Parallel, Loop):
    _class.model_rebuild()


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


def _to_json(dag: Dag) -> dict[str, Any]:
    # Iterative: a body nested a thousand deep must not meet Python's recursion limit.
    root: dict[str, Any] = {}
    stack: list[tuple[Dag, dict[str, Any]]] = [(dag, root)]
    while stack:
        graph, out = stack.pop()
        nodes: list[dict[str, Any]] = []
        out["nodes"] = nodes
        for node in graph.nodes:
            item: dict[str, Any] = {"name": node.name, "kind": node.kind}
            for field, info in type(node).model_fields.items():
                if field in ("name", "kind", "body", "branches"):
                    continue
                value = getattr(node, field)
                default = info.get_default(call_default_factory=True)
                told = field in ("type", "max_iterations")
                if not told and (value is None or value == default):
                    continue
                item[info.alias or field] = list(value) if isinstance(value, tuple) else value
            if isinstance(node, Map | Loop):
                item["body"] = {}
                stack.append((node.body, item["body"]))
            elif isinstance(node, Conditional | Parallel):
                item["branches"] = {name: {} for name in node.branches}
                stack.extend((body, item["branches"][b]) for b, body in node.branches.items())
            nodes.append(item)
    return root


class _Part:
    """One graph of a document, on its way to become a Dag."""

    __slots__ = ("at", "holder", "items", "slot")

    def __init__(
        self, document: object, at: str, holder: dict[str, Any], slot: str, extra: ExtraValues
    ) -> None:
        where = f"the body of {at!r}" if at else "the document"
        if not isinstance(document, Mapping) or not isinstance(document.get("nodes"), list | tuple):
            raise DagError(f'{where} is no graph: it must be an object with a list "nodes"')
        unknown = set(document) - {"nodes"}
        if unknown and extra == "forbid":
            names = ", ".join(sorted(map(repr, unknown)))
            raise DagError(f"{where} has unknown fields: {names}")
        self.at, self.holder, self.slot = at, holder, slot
        self.items = [_open(raw, at) for raw in document["nodes"]]

    def name(self, item: Mapping[str, Any]) -> str:
        return f"{self.at}/{item.get('name')}" if self.at else str(item.get("name"))


def _from_json(document: object, extra: ExtraValues) -> Dag:
    # Outer before inner, then built the other way round: pydantic would recurse.
    built: dict[str, Dag] = {}
    parts = [_Part(document, "", built, "", extra)]
    for part in parts:  # grows while it is walked
        for item in part.items:
            at = part.name(item)
            if "body" in item:
                parts.append(_Part(item["body"], at, item, "body", extra))
            if isinstance(branches := item.get("branches"), dict):
                parts += [_Part(each, at, branches, name, extra) for name, each in branches.items()]
    for part in reversed(parts):
        nodes = [_build(item, part.name(item), extra) for item in part.items]
        part.holder[part.slot] = _located(part.at, lambda nodes=nodes: Dag(nodes))  # type: ignore[misc]
    return built[""]


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


def _build(item: dict[str, Any], at: str, extra: ExtraValues) -> Any:
    kind = KINDS[item["kind"]]
    for field in ("after", "params", "returns"):
        if isinstance(item.get(field), str):
            raise DagError(
                f"node {at!r}: {field!r} is the text {item[field]!r}",
                advice="write a list of names",
                nodes=(at,),
            )
    if extra == "ignore":
        known = {info.alias or name for name, info in kind.model_fields.items()}
        item = {name: value for name, value in item.items() if name in known}
    return _located(at, lambda: kind(**item))


def _located(at: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except DagError as error:
        if at and at not in error.problem:
            raise error.reworded(f"in {at!r}: {error.problem}") from None
        raise


def _explain(kind: str, data: Mapping[str, Any], error: ValidationError) -> DagError:
    problems = error.errors()
    for problem in problems:
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, DagError):
            return cause
    name, first = data.get("name"), problems[0]
    where = ".".join(str(part) for part in first["loc"])
    said = {"extra_forbidden": "is no field of this kind of node", "missing": "is missing"}
    subject = f"node {name!r} ({kind.lower()})" if name is not None else kind
    text = f"{subject}: {where!r} {said.get(first['type'], first['msg'])}"
    return DagError(text, nodes=(str(name),) if name else ())
