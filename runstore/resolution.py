"""Static resolution: who follows whom, and where each parameter may come from, before a run.

One graph at a time: the graphs inside a composite were resolved when they were built, and all that
matters of them is what they read from outside and what they return. So the cost is linear in nodes
and edges for the graphs people write, and nothing recurses.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from runstore.errors import DagError
from runstore.wellformed import check_node, index_names

if TYPE_CHECKING:
    from runstore.dag import AnyNode

__all__ = ["Wiring", "wire"]


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


def wire(nodes: Sequence[AnyNode]) -> Wiring:
    """Resolve one graph.

    :raises DagError: naming the nodes, for all but a parameter that nobody provides.
    """
    wiring = Wiring()
    wiring.index = index_names(nodes)
    for node in nodes:
        check_node(node)
    wiring.after = tuple(_after(node, wiring.index) for node in nodes)
    before: list[list[int]] = [[] for _ in nodes]
    for i, ups in enumerate(wiring.after):
        for up in ups:
            before[up].append(i)
    wiring.before = tuple(map(tuple, before))
    wiring.order = _order(nodes, wiring)
    wiring.bound = _bound(nodes)
    wiring.returns = tuple(_returns(node) for node in nodes)
    _resolve(nodes, wiring)
    return wiring


def _after(node: AnyNode, index: dict[str, int]) -> tuple[int, ...]:
    try:
        return tuple(index[name] for name in node.after)
    except KeyError as error:
        unknown = error.args[0]
        raise DagError(
            f"node {node.name!r} is after {unknown!r}, and there is no such node in its graph",
            nodes=(node.name, unknown),
        ) from None


def _order(nodes: Sequence[AnyNode], wiring: Wiring) -> tuple[int, ...]:
    waiting = [len(ups) for ups in wiring.after]
    ready = [i for i, count in enumerate(waiting) if not count]
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for follower in wiring.before[i]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes):
        left = {i for i, count in enumerate(waiting) if count}
        trail: dict[int, int] = {}
        i = min(left)
        while i not in trail:
            trail[i] = len(trail)
            i = next(up for up in wiring.after[i] if up in left)
        cycle = [nodes[j].name for j, at in trail.items() if at >= trail[i]]
        shown = " after ".join([*cycle, cycle[0]])
        raise DagError(f"the graph has a cycle: {shown}", nodes=tuple(cycle))
    return tuple(order)


# -- what composites bind, read and return -------------------------------------------------------


def _bound(nodes: Sequence[AnyNode]) -> frozenset[str]:
    """The names of items and iterations. Inside, nothing else may give the name: whoever reads it
    there gets the item."""
    found: set[frozenset[str]] = set()
    for node in nodes:
        inside = [body.wiring.bound for body in node.bodies.values()]
        found.update(inside)
        if (node.kind != "map" and node.kind != "loop") or node.as_ is None:
            continue
        if node.as_ in node.body.wiring.exports or node.as_ in node.body.wiring.unclear:
            path = _find(node, node.as_)
            raise DagError(
                f"task {path!r} returns {node.as_!r}, which inside {node.kind} {node.name!r} is "
                f"the name of its {_BINDS[node.kind]} (as): rename one of them",
                nodes=(path, node.name),
                parameter=node.as_,
            )
        if node.as_ in inside[0]:
            path = _find(node, node.as_)
            raise DagError(
                f"{path!r} calls its items or iterations {node.as_!r}, as {node.kind} "
                f"{node.name!r} around it does, whose {_BINDS[node.kind]} nothing in it could "
                f"read: give one of them another `as`",
                nodes=(node.name, path),
                parameter=node.as_,
            )
        found.add(frozenset((node.as_,)))
    return next(iter(found)) if len(found) == 1 else frozenset().union(*found)


_BINDS = {"map": "item", "loop": "iteration"}


def _find(around: AnyNode, name: str) -> str:
    """The path of a node inside another one that returns or binds a name, for a message."""
    stack = [(around.name, around)]
    while True:
        path, node = stack.pop()
        if node is not around and (
            name in node.returns if node.kind == "task" else getattr(node, "as_", None) == name
        ):
            return path
        for branch, body in node.bodies.items():
            inside = f"{path}:{branch}/" if branch else f"{path}/"
            stack += [(inside + each.name, each) for each in reversed(body.nodes)]


def _returns(node: AnyNode) -> dict[str, bool]:
    if node.kind == "task":
        return dict.fromkeys(node.returns, True)
    given: dict[str, bool] = {}
    bodies = [body.wiring for body in node.bodies.values()]
    for body in bodies:
        for name in [*body.exports, *body.unclear]:
            if node.kind == "parallel" and name in given:
                raise DagError(
                    f"two branches of parallel {node.name!r} return {name!r}: rename one",
                    nodes=(node.name,),
                    parameter=name,
                )
            given[name] = name in body.sure and given.get(name, True)
    if node.kind == "map":
        return dict.fromkeys(given, True)
    if node.kind == "conditional":
        return {n: sure and all(n in body.sure for body in bodies) for n, sure in given.items()}
    return given


def _unclear(node: AnyNode, name: str) -> tuple[str, str] | None:
    """Two nodes inside a composite that both give a name, neither following the other."""
    for branch, body in node.bodies.items():
        pair = body.wiring.unclear.get(name)
        if pair:
            inside = f"{node.name}:{branch}/" if branch else f"{node.name}/"
            return inside + pair[0], inside + pair[1]
    return None


def _reads(node: AnyNode) -> Iterator[tuple[str, str, bool]]:
    """``(name, reader, nothing inside gives it)`` for all that a node reads from its graph."""
    if node.kind == "task":
        for name in node.params:
            yield name, node.name, True
        return
    if node.kind == "map":
        yield node.over, node.name, True
    elif node.kind == "conditional":
        yield node.on, node.name, True
    bound = node.as_ if node.kind in ("map", "loop") else None
    for branch, body in node.bodies.items():
        inside = f"{node.name}:{branch}/" if branch else f"{node.name}/"
        for name, reader in body.wiring.reads.items():
            if name != bound:
                yield name, inside + reader, name in body.wiring.needs
    if node.kind == "loop":
        wiring = node.body.wiring
        for name in (node.until, *wiring.reads):
            if name in wiring.unclear and name != bound:
                _refuse(name, *wiring.unclear[name], reader=node.name)
        if node.until not in wiring.exports:
            raise DagError(
                f"loop {node.name!r} runs until {node.until!r}, which nothing in its body returns",
                nodes=(node.name,),
                parameter=node.until,
            )


# -- sources -------------------------------------------------------------------------------------

# The returners of one name that a node follows, nearest first: a linked list with its length, so
# that chains share their tails. `_Unclear` instead of one: several nearest, none after another.
_Chain = tuple[int, Any, int]


@dataclass(slots=True)
class _Unclear:
    heads: tuple[_Chain, ...]
    depth: int

    def pair(self, nodes: Sequence[AnyNode]) -> tuple[str, str]:
        names = sorted(nodes[head[0]].name for head in self.heads)
        return names[0], names[1]


def _resolve(nodes: Sequence[AnyNode], wiring: Wiring) -> None:
    givers: dict[str, list[int]] = {}
    place = [0] * len(nodes)
    for at, i in enumerate(wiring.order):
        place[i] = at
        for name in wiring.returns[i]:
            givers.setdefault(name, []).append(i)
    readers: dict[str, dict[int, tuple[str, bool]]] = {}
    for i, node in enumerate(nodes):
        for name, reader, needed in _reads(node):
            known = readers.setdefault(name, {}).get(i)
            readers[name][i] = (reader, needed or (known is not None and known[1]))
    sources: list[dict[str, tuple[int, ...]]] = [{} for _ in nodes]
    for name, reading in readers.items():
        chains = (
            _chains(name, nodes, givers[name], reading, wiring, place)[0] if name in givers else {}
        )
        for i, (reader, needed) in reading.items():
            found, required = chains.get(i, (None, frozenset()))
            chain, certain = _flatten(name, found, required, reader, nodes, wiring)
            if chain:
                sources[i][name] = chain
            if certain:
                continue
            wiring.reads.setdefault(name, reader)
            if needed and not chain:
                wiring.needs.setdefault(name, reader)
    wiring.sources = tuple(sources)
    handled = any(node.handles for node in nodes)
    always = [False] * len(nodes)
    for i in wiring.order:
        always[i] = nodes[i].trigger in ("all_success", "all_done") and all(
            always[up] for up in wiring.after[i]
        )
    sure = set()
    for name, candidates in givers.items():
        surely = [i for i in candidates if not handled and always[i] and wiring.returns[i][name]]
        exported = _exported(nodes, name, candidates, surely, wiring, place)
        if type(exported) is list:
            wiring.exports[name] = tuple(exported)
            if exported[0] in surely:
                sure.add(name)
        else:
            wiring.unclear[name] = exported  # type: ignore[assignment]
    wiring.sure = frozenset(sure)


def _chains(
    name: str,
    nodes: Sequence[AnyNode],
    givers: Sequence[int],
    readers: Iterable[int],
    wiring: Wiring,
    place: list[int],
) -> tuple[dict[int, tuple[Any, frozenset[int]]], dict[int, _Chain]]:
    """For each reader, the chain of givers it follows, and those of them without whose success it
    would not run (a way of all_success leads to them); and the chain each giver begins. One sweep
    forward from the givers."""
    wanted = set(readers)
    last = max(place[i] for i in wanted)
    give = set(givers)
    coming: dict[int, list[tuple[Any, frozenset[int]]]] = {}
    heap = [(place[i], i) for i in givers if place[i] <= last]
    heapq.heapify(heap)
    queued = {i for _, i in heap}
    found: dict[int, tuple[Any, frozenset[int]]] = {}
    made: dict[int, _Chain] = {}
    while heap:
        _, i = heapq.heappop(heap)
        chain, required = _join(coming.pop(i, []))
        if nodes[i].trigger != "all_success":
            required = frozenset()
        elif isinstance(chain, tuple) and chain[0] in required and (wiring.returns[chain[0]][name]):
            required = frozenset((chain[0],))  # the nearest is enough, and keeps the sets small
        if i in wanted and chain is not None:
            found[i] = chain, required
        if i in give:
            depth = 0 if chain is None else chain[2] if isinstance(chain, tuple) else chain.depth
            chain = made[i] = (i, chain, depth + 1)
            required = frozenset((i,))
        for follower in wiring.before[i]:
            if place[follower] > last:
                continue
            coming.setdefault(follower, []).append((chain, required))
            if follower not in queued:
                queued.add(follower)
                heapq.heappush(heap, (place[follower], follower))
    return found, made


def _join(arrived: list[tuple[Any, frozenset[int]]]) -> tuple[Any, frozenset[int]]:
    """What a node follows, from what each of its upstream follows: the nearest givers are those
    that no other one of them follows."""
    if not arrived:
        return None, frozenset()
    if len(arrived) == 1:
        return arrived[0]
    required = frozenset[int]().union(*(also for _, also in arrived))
    chains = {id(chain): chain for chain, _ in arrived}
    if len(chains) == 1:
        return arrived[0][0], required
    heads: dict[int, _Chain] = {}
    for chain in chains.values():
        heads.update((id(head), head) for head in _heads(chain))
    least = min(head[2] for head in heads.values())
    stack = [head[1] for head in heads.values() if head[2] > least]
    seen: set[int] = set()
    while stack:
        for head in _heads(stack.pop()):
            if head[2] >= least and id(head) not in seen:
                seen.add(id(head))
                heads.pop(id(head), None)
                stack.append(head[1])
    left = tuple(heads.values())
    return (left[0] if len(left) == 1 else _Unclear(left, max(h[2] for h in left))), required


def _heads(chain: Any) -> tuple[_Chain, ...]:
    if isinstance(chain, _Unclear):
        return chain.heads
    return () if chain is None else (chain,)


def _flatten(
    name: str,
    chain: Any,
    required: frozenset[int],
    reader: str,
    nodes: Sequence[AnyNode],
    wiring: Wiring,
) -> tuple[tuple[int, ...], bool]:
    """The chain as indices, cut after the first that surely gives the name."""
    out: list[int] = []
    while isinstance(chain, tuple):
        out.append(chain[0])
        inside = _unclear(nodes[chain[0]], name)
        if inside:
            _refuse(name, *inside, reader=reader)
        if chain[0] in required and wiring.returns[chain[0]][name]:
            return tuple(out), True
        chain = chain[1]
    if isinstance(chain, _Unclear):
        _refuse(name, *chain.pair(nodes), reader=reader)
    return tuple(out), False


def _exported(
    nodes: Sequence[AnyNode],
    name: str,
    givers: list[int],
    surely: Sequence[int],
    wiring: Wiring,
    place: list[int],
) -> list[int] | tuple[str, str]:
    """The givers of a name that is visible at the end of a graph, nearest first; or two of them of
    which neither follows the other."""
    for giver in givers:
        inside = _unclear(nodes[giver], name)
        if inside:
            return inside
    if len(givers) == 1:
        return givers
    _, made = _chains(name, nodes, givers, givers[-1:], wiring, place)
    chain, _ = _join([(made[giver], frozenset()) for giver in givers])
    out: list[int] = []
    while isinstance(chain, tuple):
        out.append(chain[0])
        chain = chain[1]
        if isinstance(chain, _Unclear) and out[-1] in surely:
            return out
    return chain.pair(nodes) if isinstance(chain, _Unclear) else out


def _refuse(name: str, one: str, other: str, *, reader: str) -> NoReturn:
    raise DagError(
        f"parameter {name!r} of {reader!r} may come from {one!r} or from {other!r}, and neither "
        f"follows the other: order them with `after`, or rename one",
        nodes=(one, other, reader),
        parameter=name,
    )
