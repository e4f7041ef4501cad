"""What an invocation is given: tasks that can be run, values of secrets, and parameters."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from runstore.canonical import dumps
from runstore.copies import copied
from runstore.dag import Dag, Task, walk
from runstore.errors import DagError, InputError, PipelineError, ValueNotJsonError
from runstore.executor.tries import tries_of
from runstore.paths import template
from runstore.pipeline import Pipeline, function_of
from runstore.pipeline.signatures import looks_like_attempt, parameters_of
from runstore.plan import Action, Plan, following
from runstore.plan.digests import value_digest
from runstore.records import Secret
from runstore.store import Run
from runstore.store.access import how_given, secret_missing
from runstore.store.secrets import refuse_short
from runstore.store.writer import RecordWriter

__all__ = [
    "check_runnable", "check_secrets", "code_of", "defaults_explained", "ignored_of", "lent",
    "may_run", "secrets_of", "unread",
]  # fmt: skip


def check_runnable(dag: Dag) -> None:
    """Refuse a DAG some task of which no executor here can run.

    :raises PipelineError: naming the task.
    """
    for path, node in walk(dag):
        if node.kind != "task":
            continue
        tries_of(node)
        if node._function is not None:
            continue
        if node.type == "shell":
            if not isinstance(node.config.get("command"), str):
                raise PipelineError(
                    f"shell task {path!r} has no command",
                    advice="give it one (`command:` in YAML, `config.command` in JSON)",
                )
        elif node.type == "python":
            function_of(node)
        else:
            raise PipelineError(
                f"task {path!r} is of type {node.type!r}: the local executor runs python and shell"
            )


@contextmanager
def defaults_explained(dag: Dag) -> Iterator[None]:
    """Say why the default in ``def a(x=1)`` is not used, and how ``def a(attempt)`` is written if
    the attempt is meant.

    :raises DagError: the one that is raised inside, saying more where there is more to say.
    """
    try:
        yield
    except DagError as error:
        parameter, readers = error.facts.get("parameter"), error.facts.get("nodes", ())
        for path, node in walk(dag):
            if path in readers and isinstance(node, Task) and node._function is not None:
                try:
                    known = parameters_of(node._function).get(str(parameter))
                except (TypeError, ValueError):
                    continue  # one that is written in C need not have any
                if known is None:
                    continue
                more = ""
                if looks_like_attempt(known):
                    more = (
                        "If it is to be the attempt at work, to save and load files, say so: "
                        f"`{known.name}: runstore.Attempt`"
                    )
                elif known.default is not known.empty:
                    name = getattr(node._function, "__name__", node.name)
                    more = (
                        f"The default of {known} is not used, since a run records what each step "
                        f"was given: have `parameters = {{{parameter!r}: ...}}` beside the "
                        f"pipeline, or bind it: functools.partial({name}, {parameter}=...)"
                    )
                if more:
                    raise error.reworded(advice=f"{error.advice}. {more}") from None
        raise


def lent(run: Run) -> Run:
    """The run as tasks in threads are given it, with copies of its parameters and secrets, which a
    task may change."""
    other = copy.copy(run)
    given = {name: copied(value) for name, value in run.record.parameters.items()}
    other.record = msgspec.structs.replace(run.record, parameters=given)
    other.secrets = {name: copied(value) for name, value in run.secrets.items()}
    other.writer = RecordWriter(other, run.writer.pack)
    return other


def secrets_of(
    pipeline: Pipeline, given: Mapping[str, Any] | None, run: Run | None = None
) -> dict[str, Any]:
    """The secrets that were given. For a start, all that the pipeline names must be.

    :raises InputError: for one that is missing, or too short to be kept out of logs.
    """
    values = dict(given or {})
    if run is not None:
        known = run.record.parameters
        values = {name: v for name, v in values.items() if type(known.get(name)) is Secret}
    for name, value in values.items():
        try:
            dumps(value)
        except ValueNotJsonError as error:
            where = error.facts.get("where", "$")  # and no more of it
            raise ValueNotJsonError(
                f"the secret {name!r} is no JSON value, at {where}",
                advice="give a text",
                where=where,
            ) from None
    refuse_short(values)
    if run is not None:
        return values
    for name in pipeline.secrets:
        if name not in values:
            raise InputError(
                f"the pipeline asks for the secret {name!r}",
                advice=f"give it {how_given(name)}",
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
    secrets = {name for name, v in run.record.parameters.items() if type(v) is Secret}
    missing = secrets.difference(given)
    if not missing:
        return
    left = set(left)
    for path, node in walk(dag):
        if node.kind == "task" and path in left:
            for name in missing.intersection(node.params):
                raise secret_missing(path, name)


def may_run(plan: Plan, dag: Dag) -> set[str]:
    """Template paths of what runs, waits, or follows something that does: a result may come out
    another one, and make what follows stale, or take another branch."""
    tasks = (step for step in plan.steps if step.kind == "task")
    seeds = {template(step.path) for step in tasks if step.action in (Action.RUN, Action.WAIT)}
    loops = [f"{path}/" for path, node in walk(dag) if node.kind == "loop"]
    # Later iterations of a loop run all of its body.
    seeds |= {loop[:-1] for loop in loops if any(seed.startswith(loop) for seed in seeds)}
    return following(seeds, dag) if seeds else set()


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
