"""``runstore plan``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import click

from runstore.cli.options import all_steps, format_option, store_option
from runstore.cli.place import Place

if TYPE_CHECKING:
    from runstore.cli.tables import Cell
    from runstore.plan import Plan, Step

__all__ = ["command"]

_STYLES = {
    "SKIP": "green",
    "RUN": "bold cyan",
    "WAIT": "yellow",
    "OMIT": "dim",
    "FAILED": "bold red",
}


@click.command("plan")
@click.argument("run_id")
@click.argument("pipeline", required=False)
@format_option
@all_steps
@store_option
def command(run_id: str, pipeline: str | None, style: str, everything: bool, store: Place) -> int:
    """Say what is left to do of run RUN_ID, and why: what a retry would do now.

    Of a PIPELINE as it is now, else as the latest invocation had it. Nothing is written.
    """
    from runstore.cli.damage import tell_damage
    from runstore.cli.sources import existing_run, latest_dag, read_pipeline
    from runstore.errors import StructureChangedError
    from runstore.store import compare

    run = existing_run(store, run_id)
    dag = read_pipeline(pipeline).dag if pipeline else None
    history = run.history(dag=dag)
    if dag is None:
        dag = latest_dag(run, history)
    else:
        try:
            compare(run, dag, history)
        except StructureChangedError as error:
            click.echo(f"warning: {error}", err=True)
    plan = run.plan(dag, history=history)
    if style == "json":
        sys.stdout.write(json.dumps(plan.to_json(), indent=1) + "\n")
    else:
        _print(plan, everything)
    return tell_damage(history)


def _print(plan: Plan, everything: bool) -> None:
    from runstore.cli.tables import print_table
    from runstore.cli.text import clean, count

    rows = list(_all(plan) if everything else _folded(plan))
    if rows:
        print_table(("path", "action", "reason", "evidence"), rows)
        click.echo()
    counts: dict[str, int] = {}
    for step in plan.steps:
        if step.kind == "task":
            counts[step.action.value] = counts.get(step.action.value, 0) + 1
    tasks = ", ".join(f"{number:,} {action}" for action, number in counts.items()) or "none"
    ready = len(plan.ready)
    now = f"; {count(ready, 'step')} can run now" if ready else ""
    click.echo(f"run {clean(plan.run_id)}: {plan.status}; steps: {tasks}{now}")


def _all(plan: Plan) -> Iterator[list[Cell]]:
    for step in plan.steps:
        yield _row(step)


def _folded(plan: Plan) -> Iterator[list[Cell]]:
    from runstore.cli.folding import Fold, depth, fold
    from runstore.plan import Action, Reason

    single = (Reason.FAILED, Reason.LOST, Reason.CANCELLED, Reason.OUTPUT_MISSING)
    for given in fold(
        (
            step.path,
            None
            if step.action is Action.FAILED or step.reason in single
            else (step.action, step.reason),
            step,
        )
        for step in plan.steps
    ):
        if not isinstance(given, Fold):
            yield _row(given)
            continue
        action, reason = cast("tuple[Action, Reason]", given.state)
        done = reason in (Reason.SUCCEEDED, Reason.UNCHANGED)
        yield [
            f"{'  ' * depth(given.path)}  {given.path}[*]",
            (action.value, _STYLES[action.value]),
            f"{given.items:,} items {'done' if done else reason.value}",
            "",
        ]


def _row(step: Step) -> list[Cell]:
    from runstore.cli.folding import depth
    from runstore.cli.text import clean
    from runstore.plan import Action

    style = _STYLES[step.action.value]
    evidence = step.evidence
    detail = "" if evidence and step.detail == str(evidence) else clean(step.detail, 300)
    quiet = step.action in (Action.SKIP, Action.OMIT)
    where = "" if evidence is None or evidence.path == step.path else f" at {evidence.path}"
    return [
        (f"{'  ' * depth(step.path)}{step.path}", "bold" if step.kind != "task" else ""),
        (step.action.value, style),
        (f"{step.reason.value}: {detail}" if detail else step.reason.value, "dim" if quiet else ""),
        (f"{evidence}{where}" if evidence else "", "dim"),
    ]
