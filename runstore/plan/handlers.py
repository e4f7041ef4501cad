"""Which failures are handled, and which a handler is at: what shows once a graph was looked ahead
into, with every failure taken as settled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runstore.plan.context import Context, is_torn_start
from runstore.plan.graph import Graph, Vertex
from runstore.plan.state import DONE, FAILED, PENDING, State
from runstore.records import End, Start

__all__ = ["Handlers"]

Handled = tuple[frozenset[int], frozenset[int]]


class Handlers(Context):
    """The part of :class:`~runstore.plan.evaluate.Evaluation` that knows handlers."""

    def handled(self, graph: Graph, states: list[State]) -> Handled:
        """The failed nodes that a handler has consumed, and those it is at this moment.

        :param states: what was found of the graph when it was looked ahead into.
        """
        settled: set[int] = set()
        waiting: set[int] = set()
        composites: dict[int, frozenset[int]] = {}
        failed = {
            state.path: at
            for at, state in enumerate(states)
            if state.code == FAILED and not state.interrupted
        }
        for handler in graph.handlers if failed else ():
            state = states[handler.at]
            if handler.kind == "task":
                latest = self.history.latest(state.path)
                if type(latest) is Start:
                    waiting.update(_consumed(handler, latest, states, failed))
                elif type(latest) is End and latest.outcome == "succeeded":
                    settled.update(_consumed(handler, latest, states, failed))
                elif is_torn_start(latest):
                    # Somebody is at it, and what that one consumed is not known.
                    waiting |= self.targets(handler, states)
            elif state.path in self.at_work:
                waiting |= self.targets(handler, states)
            elif state.code == DONE:
                composites[handler.at] = self.targets(handler, states)
        settled -= waiting
        if composites:
            settled |= _counting(graph, states, composites, settled, waiting)
        for at in settled:
            states[at].reopens = False
        return frozenset(settled), frozenset(waiting)


def _consumed(
    handler: Vertex, latest: Start | End, states: list[State], failed: Mapping[str, int]
) -> Iterator[int]:
    """The failures that an attempt consumed. What it follows may have come to something else since:
    what was handled once is not to be run for that."""
    for path, result in latest.consumed.results.items():
        at = failed.get(path)
        if at is None or states[at].result != result:
            continue
        if at in handler.after or handler.graph.ancestry.follows(handler.at, at):
            yield at


def _counting(
    graph: Graph,
    states: list[State],
    composites: dict[int, frozenset[int]],
    settled: set[int],
    waiting: set[int],
) -> set[int]:
    """What composite handlers settle. One counts while all in it is settled well: so not if, of
    what it follows, something is to run after all, since nobody handled that. Then what it would
    have settled is to run itself, and so on."""
    times: dict[int, int] = {}
    for targets in composites.values():
        for at in targets:
            times[at] = times.get(at, 0) + 1
    reopened = [
        at
        for at, state in enumerate(states)
        if state.code == PENDING
        or at in waiting
        or (state.reopens and at not in settled and at not in times)
    ]
    seen = set(reopened)
    before = graph.dag.wiring.before
    while reopened:
        at = reopened.pop()
        more = list(before[at])
        for target in composites.pop(at, ()):
            times[target] -= 1
            if not times[target] and target not in settled and states[target].reopens:
                more.append(target)
        more = [each for each in more if each not in seen]
        seen.update(more)
        reopened += more
    return {at for at, count in times.items() if count} - waiting
