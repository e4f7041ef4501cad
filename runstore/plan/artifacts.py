"""Which artifacts a node sees: the nearest upstream's of each name, then the enclosing scopes'.

Each graph at work has an index, name -> the nodes that saved it, which grows as its nodes are
decided; a look-up asks which of those the node follows. What a map saved is in no index: its
address is a path, and leads there.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from runstore.paths import segment_end
from runstore.plan.graph import Graph, Vertex
from runstore.plan.state import DONE, Frame, Saved, Scope, State

__all__ = ["AMBIGUOUS", "Index", "Sight", "find", "hand_on"]

AMBIGUOUS = "?"
"""As the source of an artifact: two nodes saved the name, and neither follows the other."""

_NAME = re.compile(r"[^/\[:@]+")  # in names these characters are escaped
_NOBODY: frozenset[int] = frozenset()


def find(vertex: Vertex, frame: Frame, address: str) -> Saved | None:
    """The artifact that a node gets by an address, or ``None``."""
    passed = []
    while True:
        found = _nearest(vertex, frame, address) if vertex.after else None
        scope = frame.scope
        if found is not None or scope is None:
            break
        if address in scope.artifacts:
            found = scope.artifacts[address]
            break
        passed.append(scope)
        found = scope.earlier.get(address) or _in_turns(scope, address)
        if found is not None:
            break
        vertex, frame = scope.owner, scope.frame
    for scope in passed:
        scope.artifacts[address] = found
    return found


def _nearest(vertex: Vertex, frame: Frame, address: str) -> Saved | None:
    """What a node sees in its own graph."""
    graph, states = frame.graph, frame.states
    found = Index.of(frame, graph.ancestry.place[vertex.at]).nearest(vertex, address)
    if "[" in address and (at := _by_path(frame, address)) is not None:
        deep = _inside(states[at], address) if graph.ancestry.follows(vertex.at, at) else None
        if deep is not None:
            return deep if found is None else (deep[0], AMBIGUOUS)
    return found


def _by_path(frame: Frame, address: str) -> int | None:
    """The composite of a graph that an address leads into."""
    if address.startswith(frame.prefix) and (name := _NAME.match(address, len(frame.prefix))):
        return frame.graph.by_text.get(name[0])
    return None


def _inside(state: State | None, address: str) -> Saved | None:
    """What an item of a map, in this composite or further in, saved."""
    while state is not None and state.code == DONE and state.bodies:
        body = state.bodies.get(address[: segment_end(address, len(state.path)) + 1])
        if body is None:
            return None
        if _by_item(body):
            found = Index.of(body).last(address[len(body.prefix) :])
            if found is not None:
                return found
        at = _by_path(body, address)
        state = None if at is None else body.states[at]
    return None


def _by_item(body: Frame) -> bool:
    owner = body.graph.owner
    return owner is not None and owner.kind == "map"


def _in_turns(scope: Scope, address: str) -> Saved | None:
    """What a map in an earlier iteration saved."""
    if not scope.turns or "[" not in address:
        return None
    end = segment_end(address, len(scope.frame.prefix))
    body = scope.turns.get(address[: end + 1])
    at = None if body is None else _by_path(body, address)
    return None if body is None or at is None else _inside(body.states[at], address)


class Index:
    """Name -> the nodes of one graph that saved it, as far as they are decided."""

    __slots__ = ("_base", "_frame", "_names", "_upto")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._upto = 0
        self._names: dict[str, int | _Several] = {}
        self._base: tuple[int, dict[str, Saved]] = (-1, {})
        """The composite that handed on most. That is not copied, or it would be at each level of
        a nest; where a name is in both, ``_names`` knows of all."""

    @classmethod
    def of(cls, frame: Frame, upto: int | None = None) -> Index:
        """The index of a graph at work, with all that stands before a place in its order."""
        index: Index | None = frame.index
        if index is None:
            index = frame.index = cls(frame)
        order, states = frame.graph.order, frame.states
        for place in range(index._upto, len(order) if upto is None else upto):
            vertex = order[place]
            state = states[vertex.at]
            if state is None:  # not decided yet
                break
            if state.code == DONE and state.artifacts:
                index._add(vertex, state.artifacts)
            index._upto = place + 1
        return index

    def _add(self, vertex: Vertex, saved: Mapping[str, Saved]) -> None:
        at = vertex.at
        if vertex.bodies and type(saved) is dict and len(saved) > len(self._base[1]):
            (at, saved), self._base = self._base, (at, saved)
            mine, theirs = self._base
            both = (
                (self._names, theirs) if len(self._names) < len(theirs) else (theirs, self._names)
            )
            for name in [name for name in both[0] if name in both[1]]:
                self._insert(name, mine)
        for name in saved:
            self._insert(name, at)

    def _insert(self, name: str, at: int) -> None:
        known = self._names.get(name)
        if known is None and name in self._base[1]:
            known = self._base[0]
        if known is None:
            self._names[name] = at
        elif type(known) is _Several:
            known.add(at)
        else:
            assert type(known) is int
            several = self._names[name] = _Several(self._frame.graph)
            for each in sorted((known, at), key=self._frame.graph.ancestry.place.__getitem__):
                several.add(each)

    def _who(self, name: str) -> int | _Several | None:
        known = self._names.get(name)
        return self._base[0] if known is None and name in self._base[1] else known

    def nearest(self, vertex: Vertex, name: str) -> Saved | None:
        """What a node gets by a name: of those that saved it and that it follows, the one that
        follows the others."""
        who = self._who(name)
        if who is None:
            return None
        if type(who) is _Several:
            return self._saved(name, who.nearest(vertex.at))
        assert type(who) is int
        follows = self._frame.graph.ancestry.follows(vertex.at, who)
        return self._saved(name, (who,)) if follows else None

    def last(self, name: str) -> Saved | None:
        """What is in sight by a name at the end of the graph."""
        who = self._who(name)
        if who is None:
            return None
        return self._saved(name, who.last() if type(who) is _Several else (who,))  # type: ignore[arg-type]

    def names(self) -> set[str]:
        """All that somebody saved."""
        return {*self._names, *self._base[1]}

    def all_last(self) -> dict[str, Saved]:
        """:meth:`last` of all. The index is of no use afterwards."""
        made = self._base[1]
        made.update([(name, self.last(name)) for name in self._names])  # type: ignore[misc]
        return made

    def _saved(self, name: str, who: Collection[int]) -> Saved | None:
        if not who:
            return None
        saved = self._frame.states[min(who)].artifacts[name]
        return saved if len(who) == 1 else (saved[0], AMBIGUOUS)


class _Several:
    """The nodes of a graph that saved one and the same name."""

    __slots__ = ("_before", "_first", "_graph", "_last", "_order", "_who")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._order: list[int] = []
        """By their place in the order."""
        self._who: set[int] = set()
        self._first = len(graph.order)
        self._before: dict[int, frozenset[int]] = {}
        self._last: tuple[int, set[int]] = (0, set())

    def add(self, at: int) -> None:
        place = self._graph.ancestry.place
        if self._order and place[self._order[-1]] > place[at]:
            self._last = (0, set())
            self._before.clear()
        insort(self._order, at, key=place.__getitem__)
        self._who.add(at)
        self._first = min(self._first, place[at])

    def nearest(self, at: int) -> Collection[int]:
        """Those that a node follows, less those that another one of them follows."""
        follows, place = self._graph.ancestry.follows, self._graph.ancestry.place
        last = self.last()
        if len(last) == 1 and follows(at, next(iter(last))):
            return last  # it follows all others
        near = self._near(at)
        if len(near) < 2:
            return near
        top = max(near, key=place.__getitem__)
        return (top,) if all(one == top or follows(top, one) for one in near) else near

    def last(self) -> set[int]:
        """All, less those that another one of them follows."""
        count, last = self._last
        if count < len(self._order):
            for at in self._order[count:]:
                last -= self._near(at)
                last.add(at)
            self._last = len(self._order), last
        return last

    def _near(self, start: int) -> frozenset[int]:
        """Those that are met first on the ways up from a node."""
        graph, who, known, first = self._graph, self._who, self._before, self._first
        place = graph.ancestry.place
        stack = [start]
        while stack:
            at = stack[-1]
            if at in known:
                stack.pop()
                continue
            ups = graph.vertices[at].after
            further = [u for u in ups if u not in who and u not in known and place[u] > first]
            if further:
                stack += further
                continue
            met = {frozenset((u,)) if u in who else known.get(u, _NOBODY) for u in ups}
            met.discard(_NOBODY)
            known[at] = met.pop() if len(met) == 1 else _NOBODY.union(*met)
            stack.pop()
        return known[start]


def hand_on(kind: str, bodies: Collection[Frame]) -> dict[str, Saved]:
    """What a composite that is done hands on by the plain name: of a map nothing, since an item
    stands in between; of a loop the latest, if its bodies come one by one."""
    found: dict[str, Saved] = {}
    for body in bodies if kind != "map" else ():
        made = Index.of(body).all_last()
        if len(made) > len(found):
            made, found = found, made
        for name, entry in made.items():
            found[name] = (entry[0], AMBIGUOUS) if name in found else entry
    return found


class Sight(Mapping[str, Saved]):
    """The artifacts in sight of a node. To look one up is quick; to list them takes as long as they
    are many."""

    __slots__ = ("_frame", "_vertex")

    def __init__(self, vertex: Vertex, frame: Frame) -> None:
        self._vertex = vertex
        self._frame = frame

    def __getitem__(self, address: str) -> Saved:
        found = find(self._vertex, self._frame, address)
        if found is None:
            raise KeyError(address)
        return found

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        vertex, frame = self._vertex, self._frame
        while True:
            seen |= Index.of(frame, frame.graph.ancestry.place[vertex.at]).names()
            for state in frame.states:
                if state is not None:
                    seen |= _below(state)
            scope = frame.scope
            if scope is None:
                break
            seen |= scope.earlier.keys()
            for turn in scope.turns.values():
                for state in turn.states:
                    seen |= _below(state)
            vertex, frame = scope.owner, scope.frame
        return iter([address for address in sorted(seen) if address in self])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def _below(state: State) -> set[str]:
    """The addresses of what maps in a composite saved."""
    found: set[str] = set()
    stack = [state]
    while stack:
        state = stack.pop()
        if state.code != DONE:
            continue
        for body in (state.bodies or {}).values():
            if _by_item(body):
                found.update(body.prefix + name for name in Index.of(body).names())
            stack += body.states
    return found
