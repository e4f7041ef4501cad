"""What an invocation is given: values of secrets, and parameters that a retry only compares."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from runstore.dag import Dag, walk
from runstore.errors import InputError, ParameterError
from runstore.paths import escape, segments, template
from runstore.pipeline import Pipeline
from runstore.plan import Action, Plan
from runstore.plan.values import value_digest
from runstore.records import Secret
from runstore.store import Run

__all__ = ["check_secrets", "code_of", "ignored_of", "may_run", "secrets_of", "unread"]


def secrets_of(
    pipeline: Pipeline, given: Mapping[str, Any] | None, run: Run | None = None
) -> dict[str, Any]:
    """The secrets that were given. For a start, all that the pipeline names must be."""
    values = dict(given or {})
    if run is not None:
        return {n: v for n, v in values.items() if type(run.record.parameters.get(n)) is Secret}
    for name in pipeline.secrets:
        if name not in values:
            raise InputError(
                f"the pipeline asks for the secret {name!r}: give it "
                f"(secrets={{...}}, or RUNSTORE_SECRET_{name.upper()} for the command line)",
                parameter=name,
            )
    return values


def unread(dag: Dag, parameters: Iterable[str]) -> list[str]:
    """Warnings for parameters that no step reads: misspelt, most likely."""
    import difflib

    reads = dag.wiring.reads
    warnings = []
    for name in parameters:
        if name not in reads:
            near = difflib.get_close_matches(name, reads, 1)
            meant = f": did you mean {near[0]!r}?" if near else ""
            warnings.append(f"parameter {name!r} is read by no step{meant}")
    return warnings


def check_secrets(run: Run, given: Mapping[str, Any], left: Iterable[str], dag: Dag) -> None:
    """Refuse to go on without a secret that something left to do reads.

    :param left: template paths.
    """
    missing = {
        name
        for name, value in run.record.parameters.items()
        if type(value) is Secret and name not in given
    }
    if not missing:
        return
    left = set(left)
    for path, node in walk(dag):
        if node.kind == "task" and path in left:
            for name in node.params:
                if name in missing:
                    raise ParameterError(
                        f"{path} reads the secret {name!r}, which is never stored: give it again "
                        f"(secrets={{...}}, or RUNSTORE_SECRET_{name.upper()} on the command line)",
                        parameter=name,
                    )


def may_run(plan: Plan, dag: Dag) -> set[str]:
    """Template paths of what runs, waits, or follows something that does: a result may come out
    another one, and make what follows stale, or take another branch."""
    tasks = (step for step in plan.steps if step.kind == "task")
    seeds = {template(step.path) for step in tasks if step.action in (Action.RUN, Action.WAIT)}
    holders: set[str] = set()
    for seed in seeds:
        prefix = ""
        for part in segments(seed)[:-1]:
            holders.add(prefix + part.partition(":")[0])
            prefix += part + "/"
    found: set[str] = set()
    stack: list[tuple[str, Dag, bool]] = [("", dag, False)]
    while stack:
        prefix, graph, whole = stack.pop()
        paths = [prefix + escape(node.name) for node in graph.nodes]
        first = [i for i, path in enumerate(paths) if path in seeds or path in holders]
        after: set[int] = set()
        closing = list(first)
        while closing:
            for other in graph.wiring.before[closing.pop()]:
                if other not in after:
                    after.add(other)
                    closing.append(other)
        for i, node in enumerate(graph.nodes):
            again = node.kind == "loop" and paths[i] in holders  # its later iterations
            inside = whole or i in after or again
            if inside or paths[i] in seeds:
                found.add(paths[i])
            if inside or paths[i] in holders:
                for branch, body in node.bodies.items():
                    name = f"{paths[i]}:{escape(branch)}/" if branch else f"{paths[i]}/"
                    stack.append((name, body, inside))
    return found


def ignored_of(run: Run, offered: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[str]:
    """Names of parameters that were offered and differ from the run's own."""
    names = []
    for name, value in offered.items():
        original = run.record.parameters.get(name)
        if type(original) is Secret:
            continue
        if name not in run.record.parameters:
            if name in explicit:
                names.append(name)
        elif value_digest(value) != value_digest(original):
            names.append(name)
    return names


def code_of(pipeline: Pipeline) -> dict[str, Any] | None:
    """The pipeline file, as records name it."""
    if pipeline.source is None:
        return None
    return {"pipeline": os.path.abspath(pipeline.source), "sha256": pipeline.digest}
