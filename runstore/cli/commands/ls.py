"""``runstore ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runstore.cli.exit_codes import DAMAGED, DONE, print_error
from runstore.cli.options import format_option, store_option
from runstore.cli.render.console import say_json
from runstore.cli.store_url import StoreLocation

if TYPE_CHECKING:
    from runstore.plan import Plan
    from runstore.records import RunRecord
    from runstore.store import Store

__all__ = ["command"]


@click.command("ls")
@click.option(
    "-l", "--status", "status", is_flag=True, help="How each stands: reads all of every run."
)
@format_option
@store_option
def command(status: bool, style: str, store: StoreLocation) -> int:
    """List the runs of the store, the oldest first."""
    from runstore.cli.arguments import existing_store
    from runstore.errors import RecordDamagedError
    from runstore.records import RunRecord
    from runstore.store.run_record import listed
    from runstore.upkeep.repair import WITHOUT_A_RUN

    opened = existing_store(store)
    runs: list[dict[str, Any]] = []
    damaged: list[str] = []
    for run_id, record in listed(opened.storage):
        if not isinstance(record, RunRecord):
            problem = str(record)
            if isinstance(record, RecordDamagedError):
                problem = str(record.reworded(advice=WITHOUT_A_RUN))
            runs.append({"run_id": run_id, "damaged": problem})
            damaged.append(problem)
            continue
        row = _facts(record)
        if status:
            row |= _status(opened, store, record, damaged)
        runs.append(row)
    runs.sort(key=lambda row: (row.get("created", ""), row["run_id"]))
    if style == "json":
        say_json({"store": opened.url, "runs": runs})
    else:
        _print(runs)
    for problem in damaged:
        print_error(problem)
    return DAMAGED if damaged else DONE


def _facts(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"run_id": record.run_id, "created": record.created}
    if record.origin:
        row["origin"] = record.origin["run_id"]
    if record.labels:
        row["labels"] = dict(record.labels)
    return row


def _status(
    store: Store, place: StoreLocation, record: RunRecord, damaged: list[str]
) -> dict[str, Any]:
    from runstore.cli.arguments import latest_dag
    from runstore.cli.render.text import verb_line
    from runstore.errors import RunstoreError
    from runstore.store import Run
    from runstore.store.takeover import presume_lost

    run = Run(store.storage, record)
    try:
        history = run.history()
        presume_lost(history)
        # As of its latest invocation: what failed in that one has failed, and is not "to run".
        latest = history.latest_work
        run.invocation = latest.id if latest else None
        plan = run.plan(latest_dag(run, history), history=history)
    except RunstoreError as error:
        damaged.append(f"run {record.run_id}: {error}")
        return {"status": "damaged"}
    problems = {each.key: each.problem for each in reversed(history.damaged)}
    verify = verb_line("verify", record.run_id, options=place.words())
    damaged.extend(f"{problem} ({verify} says what is lost)" for problem in problems.values())
    return {
        "status": _word(plan),
        "last": latest.time if latest else "",
        "tasks": plan.to_json()["tasks"],
    }


def _word(plan: Plan) -> str:
    """How a run stands: as of its latest invocation, whose failures are settled."""
    from runstore.plan import Action
    from runstore.plan.steps import BY_VALUE
    from runstore.records import End

    if plan.waiting:
        return "in progress"
    if plan.status != "failed":
        return "unfinished" if plan.status == "pending" else plan.status
    # What a signal ended, or died, is settled for its invocation as what failed is.
    ended = {
        step.record.outcome if isinstance(step.record, End) else "failed"
        for step in plan.steps
        if step.action is Action.FAILED and (step.kind == "task" or step.reason in BY_VALUE)
    }
    return "failed" if "failed" in ended or not ended else min(ended)


def _print(runs: list[dict[str, Any]]) -> None:
    from runstore.cli.render.tables import print_table
    from runstore.cli.render.text import clock, named

    colours = {"succeeded": "green", "failed": "red", "damaged": "red", "in progress": "cyan"}
    rows = []
    for row in runs:
        status = "damaged" if "damaged" in row else row.get("status", "")
        tasks = row.get("tasks", {})
        labels = row.get("labels", {})
        rows.append(
            (
                named(row["run_id"], 80),
                clock(row["created"]) if "created" in row else "",
                (status, colours.get(status, "yellow")),
                clock(row["last"]) if row.get("last") else "",
                " ".join(f"{number:,} {action}" for action, number in tasks.items()),
                named(row.get("origin", ""), 80),
                named(" ".join(f"{name}={value}" for name, value in labels.items()), 200),
            )
        )
    if rows:
        print_table(("run", "created", "status", "last", "steps", "fork of", "labels"), rows)
