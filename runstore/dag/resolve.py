"""Static resolution: who follows whom, and where each parameter may come from, before a run.

One graph at a time: the graphs inside a composite were resolved when they were built, and all that
matters of them is what they read from outside and what they return. So the cost is linear in nodes
and edges for the graphs people write, and nothing recurses.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runstore.dag.interfaces import bound, reads, refuse, returns, unclear
from runstore.dag.validate import check_node, index_names
from runstore.dag.wiring import Node, Wiring
from runstore.errors import DagError

__all__ = ["wire"]


def wire(nodes: Sequence[Node]) -> Wiring:
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
    wiring.bound = bound(nodes)
    wiring.returns = tuple(returns(node) for node in nodes)
    _resolve(nodes, wiring)
    return wiring


def _after(node: Node, index: dict[str, int]) -> tuple[int, ...]:
    try:
        return tuple(index[name] for name in node.after)
    except KeyError as error:
        unknown = error.args[0]
        raise DagError(
            f"node {node.name!r} is after {unknown!r}, and there is no such node in its graph",
            nodes=(node.name, unknown),
        ) from None


def _order(nodes: Sequence[Node], wiring: Wiring) -> tuple[int, ...]:
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


# The returners of one name that a node follows, nearest first: a linked list with its length, so
# that chains share their tails. `_Unclear` instead of one: several nearest, none after another.
_Chain = tuple[int, Any, int]


@dataclass(slots=True)
class _Unclear:
    heads: tuple[_Chain, ...]
    depth: int

    def pair(self, nodes: Sequence[Node]) -> tuple[str, str]:
        names = sorted(nodes[head[0]].name for head in self.heads)
        return names[0], names[1]


def _resolve(nodes: Sequence[Node], wiring: Wiring) -> None:
    givers: dict[str, list[int]] = {}
    place = [0] * len(nodes)
    for at, i in enumerate(wiring.order):
        place[i] = at
        for name in wiring.returns[i]:
            givers.setdefault(name, []).append(i)
    readers: dict[str, dict[int, tuple[str, bool]]] = {}
    for i, node in enumerate(nodes):
        for name, reader, needed in reads(node):
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
    nodes: Sequence[Node],
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
    nodes: Sequence[Node],
    wiring: Wiring,
) -> tuple[tuple[int, ...], bool]:
    """The chain as indices, cut after the first that surely gives the name."""
    out: list[int] = []
    while isinstance(chain, tuple):
        out.append(chain[0])
        inside = unclear(nodes[chain[0]], name)
        if inside:
            refuse(name, *inside, reader=reader)
        if chain[0] in required and wiring.returns[chain[0]][name]:
            return tuple(out), True
        chain = chain[1]
    if isinstance(chain, _Unclear):
        refuse(name, *chain.pair(nodes), reader=reader)
    return tuple(out), False


def _exported(
    nodes: Sequence[Node],
    name: str,
    givers: list[int],
    surely: Sequence[int],
    wiring: Wiring,
    place: list[int],
) -> list[int] | tuple[str, str]:
    """The givers of a name that is visible at the end of a graph, nearest first; or two of them of
    which neither follows the other."""
    for giver in givers:
        inside = unclear(nodes[giver], name)
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
