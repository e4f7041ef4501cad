"""Patterns over node paths: what to run again (``force``), and where to stop (``only``, ``until``).

A pattern is a path, a template path, a composite or an item (all in it), or a glob over both, in
which ``*`` also matches ``/`` and ``?`` one character; nothing else is special, and an exact path
is tried first. ``path+``, as in dbt, takes along everything after it, later iterations too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from runstore.dag import Dag, walk
from runstore.errors import ForceError
from runstore.paths import NodePath, escape, segments, template, wildcard
from runstore.plan.history import History
from runstore.plan.steps import Plan, cuts

__all__ = ["expand", "following", "select"]


def expand(patterns: Sequence[str], dag: Dag, history: History, plan: Plan) -> dict[str, int]:
    """The force that is recorded: path -> the number of its latest attempt now.

    Paths without an attempt are left out: they run anyway.

    :raises ForceError: for a pattern that matches no node of the DAG and nothing that was recorded.
    """
    known = set(history.paths()) | {step.path for step in plan.steps}
    chosen = _Selection(patterns, dag, known, after=True)
    return {
        path: history.last_number(path)
        for path in sorted(history.paths())
        if history.latest(path) is not None and chosen(path)
    }


def select(
    only: Sequence[str], until: Sequence[str], dag: Dag, history: History, plan: Plan
) -> Callable[[str], bool]:
    """A predicate: whether a path is to be run. ``until`` takes along what comes before.

    :raises ForceError: for a pattern that matches nothing.
    """
    known = set(history.paths()) | {step.path for step in plan.steps}
    tests: list[Callable[[str], bool]] = []
    if only:
        tests.append(_Selection(only, dag, known, after=True, future=True))
    if until:
        tests.append(_Selection(until, dag, known, after=False, future=True))
    return lambda path: all(test(path) for test in tests)


def following(templates: Iterable[str], dag: Dag) -> set[str]:
    """Template paths of some nodes, of all that is in them, and of all that follows them."""
    chosen = _Selection([f"{path}+" for path in templates], dag, set(), after=True)
    return {path for path, _ in walk(dag) if chosen(path)}


class _Selection:
    """The paths that some patterns choose, known already or not.

    ``future``: an item or iteration that is not there yet may be named too.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        dag: Dag,
        known: set[str],
        *,
        after: bool,
        future: bool = False,
    ) -> None:
        self._dag = dag
        self._exact: set[str] = set()
        self._globs: list[Callable[[str], object]] = []
        self._near: dict[str, set[str]] = {}
        """Prefix of a graph -> the names in it that come after (or before) what was chosen."""
        self._turns: dict[str, int] = {}
        self._after = after
        self._future = future
        patterns = list(patterns)
        templates = [path for path, _ in walk(dag)]
        hits = _hits({*patterns, *(text.removesuffix("+") for text in patterns)}, known, templates)
        for pattern in patterns:
            self._take(pattern, known, templates, hits)

    def _take(
        self, pattern: str, known: set[str], templates: list[str], hits: dict[str, list[str]]
    ) -> None:
        text, plus = pattern, not self._after
        if not hits[text] and text.endswith("+"):
            text, plus = text[:-1], True
        bases = hits[text]
        if bases:
            self._exact.add(text)
            bases = [*bases, text]
        elif "*" in text or "?" in text:
            glob = wildcard(text)
            bases = [p for p in (*known, *templates) if _any(glob, p)]
            bases += [p for p in known if _any(glob, template(p))]
            self._globs.append(glob)
        if not bases and self._future and _segment(text) and template(text) in templates:
            self._exact.add(text)
            bases = [text]
        if not bases:
            raise ForceError(
                f"{pattern!r} matches no node",
                advice=(
                    "`runstore plan` lists the paths, and in a pattern * matches any text and "
                    "? one character"
                ),
                pattern=pattern,
            )
        if plus:
            for base in bases:
                self._widen(base)

    def _widen(self, base: str) -> None:
        """Take along what comes after a path (or before it), graph by graph outwards."""
        graph: Dag | None = self._dag
        prefix = ""
        for part in segments(base):
            segment = _segment(part)
            if graph is None or segment is None or segment[0] not in graph.wiring.index:
                break
            near = self._near.setdefault(prefix, set())
            edges = graph.wiring.before if self._after else graph.wiring.after
            stack = [graph.wiring.index[segment[0]]]
            while stack:
                for other in edges[stack.pop()]:
                    name = escape(graph.nodes[other].name)
                    if name not in near:  # what comes after it is there already, too
                        near.add(name)
                        stack.append(other)
            prefix += part + "/"
            graph = graph.nodes[graph.wiring.index[segment[0]]].bodies.get(segment[1])
        for loop, turn in _turns(base):
            seen = self._turns.get(loop)
            if self._after:
                self._turns[loop] = turn if seen is None else min(seen, turn)
            else:
                self._turns[loop] = turn if seen is None else max(seen, turn)

    def __call__(self, path: str) -> bool:
        shape = template(path)
        if self._exact and any(
            text[:at] in self._exact for text in {path, shape} for at in cuts(text)
        ):
            return True
        for glob in self._globs:
            if _any(glob, path) or (shape != path and _any(glob, shape)):
                return True
        if not self._near and not self._turns:
            return False
        prefix = shape = ""
        for part in segments(path):
            name = _name(part)
            for at in {prefix, shape}:
                if name in self._near.get(at, ()):
                    return True
            shape += template(part) + "/"
            if "@" in part:
                turn = self._turns.get(prefix + name)
                if turn is not None:
                    i = int(part.rpartition("@")[2])
                    if i > turn if self._after else i < turn:
                        return True
            prefix += part + "/"
        return False


def _any(glob: Callable[[str], object], path: str) -> bool:
    """Whether a glob matches a path, or a composite, item, branch or iteration it stands in."""
    if glob(path):
        return True
    prefix = ""
    for part in segments(path):
        if glob(prefix + _name(part)) or glob(prefix + part):
            return True
        prefix += part + "/"
    return False


def _hits(texts: set[str], known: set[str], templates: list[str]) -> dict[str, list[str]]:
    """For each text, the known paths that it stands for without wildcards: it, and all in it."""
    found: dict[str, list[str]] = {text: [] for text in texts}
    for path in known:
        places = {text[:at] for text in {path, template(path)} for at in cuts(text)}
        for text in places & texts:
            found[text].append(path)
    shapes: dict[str, list[str]] = {text: [] for text in texts if not found[text]}
    for path in templates if shapes else ():
        for at in cuts(path):
            if path[:at] in shapes:
                shapes[path[:at]].append(path)
    return found | shapes


def _name(part: str) -> str:
    return re.split(r"[\[:@]", part, maxsplit=1)[0]


def _turns(path: str) -> list[tuple[str, int]]:
    """The iterations a path stands in: (path of the loop, iteration)."""
    found = []
    prefix = ""
    for part in segments(path):
        name = _name(part)
        if part[len(name) : len(name) + 1] == "@":
            found.append((prefix + name, int(part[len(name) + 1 :])))
        prefix += part + "/"
    return found


def _segment(part: str) -> tuple[str, str] | None:
    """Name and branch of a segment, unescaped; None where a glob made it no segment."""
    try:
        parsed = NodePath.parse(part).segments[0]
    except ValueError:
        return None
    return parsed.name, parsed.branch or ""
