"""Whether one node of a graph follows another, directly or not.

Each node gets one parent among those it follows, the last in topological order; in that tree,
ancestors are told by two numbers. What the tree does not show is searched for from both ends at
once, in topological order; both searches are kept, so many questions about one node cost one.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

__all__ = ["Ancestry"]


class Ancestry:
    """The order of one graph. Nodes are their indices."""

    __slots__ = ("_after", "_before", "_enter", "_leave", "_searches", "place")

    def __init__(
        self, order: Sequence[int], after: Sequence[Sequence[int]], before: Sequence[Sequence[int]]
    ) -> None:
        self.place = [0] * len(order)
        """Node -> its place in the topological order."""
        for at, node in enumerate(order):
            self.place[node] = at
        self._after, self._before = after, before
        children: list[list[int]] = [[] for _ in order]
        roots: list[int] = []
        for node in order:
            ups = after[node]
            (children[max(ups, key=self.place.__getitem__)] if ups else roots).append(node)
        self._enter, self._leave = [0] * len(order), [0] * len(order)
        count = 0
        stack = [(node, False) for node in roots]
        while stack:
            node, done = stack.pop()
            if done:
                self._leave[node] = count
                continue
            self._enter[node] = count
            count += 1
            stack.append((node, True))
            stack += [(child, False) for child in children[node]]
        self._searches: dict[tuple[int, bool], _Search] = {}

    def follows(self, node: int, up: int) -> bool:
        """Whether ``node`` follows ``up``. At once in a tree; else as far as the search goes."""
        place = self.place
        first, last = place[up], place[node]
        if first >= last:
            return False
        enter, mine, left = self._enter, self._enter[up], self._leave[up]
        its = enter[node]
        if mine <= its < left:
            return True
        back = self._search(node, True)
        forth = self._search(up, False)
        if up in back.seen or node in forth.seen:
            return True
        while back.heap and -back.heap[0][0] > first and forth.heap and forth.heap[0][0] < last:
            for met in back.step(self._after, place, -1):
                if met in forth.seen or mine <= enter[met] < left:
                    return True
            for met in forth.step(self._before, place, 1):
                if met in back.seen or enter[met] <= its < self._leave[met]:
                    return True
        return False

    def _search(self, node: int, back: bool) -> _Search:
        found = self._searches.get((node, back))
        if found is None:
            found = self._searches[node, back] = _Search()
            edges, sign = (self._after, -1) if back else (self._before, 1)
            found.push(edges[node], self.place, sign)
        return found


class _Search:
    """What was met so far, and what is to be looked at next, nearest first."""

    __slots__ = ("heap", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.heap: list[tuple[int, int]] = []

    def push(self, nodes: Sequence[int], place: Sequence[int], sign: int) -> list[int]:
        new = [node for node in nodes if node not in self.seen]
        self.seen.update(new)
        for node in new:
            heappush(self.heap, (sign * place[node], node))
        return new

    def step(self, edges: Sequence[Sequence[int]], place: Sequence[int], sign: int) -> list[int]:
        """Go on by one node; those that were met for the first time."""
        return self.push(edges[heappop(self.heap)[1]], place, sign)
