"""``runstore plan``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import click

from runstore.cli.options import all_steps, format_option, store_option, takeover_option
from runstore.cli.render.console import say, say_json
from runstore.cli.store_url import StoreLocation

if TYPE_CHECKING:
    from runstore.cli.render.tables import Cell
    from runstore.dag import Dag
    from runstore.plan import Plan, Step
    from runstore.plan.history import History
    from runstore.store import Run

__all__ = ["command"]

_STYLES = {
    "SKIP": "green", "RUN": "bold cyan", "WAIT": "yellow", "OMIT": "dim", "FAILED": "bold red",
}  # fmt: skip


@click.command("plan")
@click.argument("run_id")
@click.argument("pipeline", required=False)
@format_option
@all_steps
@takeover_option
@store_option
def command(
    run_id: str, pipeline: str | None, style: str, everything: bool, takeover: Any,
    store: StoreLocation,
) -> int:  # fmt: skip
    """Say what is left to do of run RUN_ID, and why: what a retry would do now.

    Of a PIPELINE as it is now, else as the latest invocation had it. Attempts of processes that
    are gone count as lost, as a retry would have it. Nothing is written.
    """
    from runstore.cli.arguments import existing_run, latest_dag, read_pipeline
    from runstore.cli.render.damage import tell_damage
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
            say(f"warning: {error}", err=True)
    plan = _as_a_retry(run, dag, history, takeover)
    if style == "json":
        say_json(plan.to_json() | {"in_progress": [_holder(step) for step in plan.waiting]})
    else:
        _print(plan, everything)
        _tell_waiting(plan, store)
    return tell_damage(run, history, store, plans=True)


def _as_a_retry(run: Run, dag: Dag, history: History, takeover: Any) -> Plan:
    """The plan of what a retry would find once it has taken over; nothing is written for it."""
    from runstore.store.takeover import presume_lost

    plan = run.plan(dag, history=history)
    began = next(history.open(), None) is not None
    if began or any(each.kind == "start" for each in history.damaged):
        presume_lost(history, takeover, [step.path for step in plan.steps])
        plan = run.plan(dag, history=history)
    return plan


def _holder(step: Step) -> dict[str, Any]:
    """Who is at a step; for programs."""
    from runstore.records import Start

    record = step.record
    out: dict[str, Any] = {"path": step.path}
    if isinstance(record, Start):
        by = {"host": record.by.host, "pid": record.by.pid, "pod": record.by.pod}
        out["by"] = {name: value for name, value in by.items() if value is not None}
        out["since"] = record.time
    out["option"] = "--takeover all"
    return out


def _tell_waiting(plan: Plan, store: StoreLocation) -> None:
    """Design, section 7: who, since when, and the option."""
    from runstore.cli.render.text import clean, count, short, verb_line
    from runstore.records import Start

    waiting = plan.waiting
    if not waiting:
        return
    first, record = waiting[0], waiting[0].record
    who = f"{record.by}, since {record.time}" if isinstance(record, Start) else "its start damaged"
    more = f", and {count(len(waiting) - 1, 'step')} more" if len(waiting) > 1 else ""
    retry = verb_line("retry", plan.run_id, options=[*store.words(), "--takeover", "all"])
    say(f"in progress elsewhere: {short(first.path)} ({clean(who)}){more}")
    say(f"if that is dead: {retry}")


def _print(plan: Plan, everything: bool) -> None:
    from runstore.cli.render.tables import print_table
    from runstore.cli.render.text import count, named

    rows = list(map(_row, plan.steps) if everything else _folded(plan))
    if rows:
        print_table(("path", "action", "reason", "evidence"), rows)
        say("")
    counts = plan.to_json()["tasks"]
    tasks = ", ".join(f"{number:,} {action}" for action, number in counts.items()) or "none"
    ready = len(plan.ready)
    now = f"; {count(ready, 'step')} can run now" if ready else ""
    say(f"run {named(plan.run_id)}: {plan.status}; steps: {tasks}{now}")


def _folded(plan: Plan) -> Iterator[list[Cell]]:
    from runstore.cli.render.collapse import Fold, depth, fold
    from runstore.cli.render.text import short
    from runstore.plan import Action, Reason

    single = (Reason.FAILED, Reason.LOST, Reason.CANCELLED, Reason.OUTPUT_MISSING)
    apart = [step.action is Action.FAILED or step.reason in single for step in plan.steps]
    for given in fold(
        (step.path, None if alone else (step.action, step.reason), step)
        for step, alone in zip(plan.steps, apart, strict=True)
    ):
        if not isinstance(given, Fold):
            yield _row(given)
            continue
        action, reason = cast("tuple[Action, Reason]", given.state)
        done = reason in (Reason.SUCCEEDED, Reason.UNCHANGED)
        yield [
            f"{'  ' * depth(given.path)}  {short(given.path)}[*]",
            (action.value, _STYLES[action.value]),
            f"{given.items:,} items {'done' if done else reason.value}",
            "",
        ]


def _row(step: Step) -> list[Cell]:
    from runstore.cli.render.collapse import depth
    from runstore.cli.render.text import clean, short
    from runstore.plan import Action

    style = _STYLES[step.action.value]
    evidence = step.evidence
    detail = "" if evidence and step.detail == str(evidence) else clean(step.detail, 300)
    quiet = step.action in (Action.SKIP, Action.OMIT)
    where = "" if evidence is None or evidence.path == step.path else f" at {short(evidence.path)}"
    return [
        (f"{'  ' * depth(step.path)}{short(step.path)}", "bold" if step.kind != "task" else ""),
        (step.action.value, style),
        (f"{step.reason.value}: {detail}" if detail else step.reason.value, "dim" if quiet else ""),
        (f"{evidence}{where}" if evidence else "", "dim"),
    ]
