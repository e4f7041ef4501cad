"""``runstore ls``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from runstore.cli.exits import DAMAGED, DONE, complain
from runstore.cli.options import format_option, store_option
from runstore.cli.place import Place

if TYPE_CHECKING:
    from runstore.records import RunRecord
    from runstore.store import Store

__all__ = ["command"]


@click.command("ls")
@click.option(
    "-l", "--status", "status", is_flag=True, help="How each stands: reads all of every run."
)
@format_option
@store_option
def command(status: bool, style: str, store: Place) -> int:
    """List the runs of the store, the oldest first."""
    from runstore.cli.sources import existing_store

    opened = existing_store(store)
    runs: list[dict[str, Any]] = []
    damaged: list[str] = []
    for record, problem, run_id in _records(opened):
        if record is None:
            runs.append({"run_id": run_id, "damaged": problem})
            damaged.append(problem)
            continue
        row = _facts(record)
        if status:
            row |= _status(opened, record, damaged)
        runs.append(row)
    runs.sort(key=lambda row: (row.get("created", ""), row["run_id"]))
    if style == "json":
        sys.stdout.write(json.dumps({"store": opened.url, "runs": runs}, indent=1) + "\n")
    else:
        _print(runs)
    for problem in damaged:
        complain(problem)
    return DAMAGED if damaged else DONE


def _records(store: Store) -> Iterator[tuple[RunRecord | None, str, str]]:
    """Each run's record, or what is wrong with it and what it is called."""
    from runstore import keys
    from runstore.bodies import parse
    from runstore.errors import KeyMissingError, PathError, RunstoreError
    from runstore.records import RunRecord

    folders = store.storage.list(keys.RUNS, shallow=True)
    wanted = [f"{folder}{keys.RUN}" for folder in folders if folder.endswith("/")]
    for key, data in store.storage.read_many(wanted):
        if isinstance(data, KeyMissingError):
            continue  # a run that never began: its first blobs, without a record
        try:
            if not isinstance(data, bytes):
                raise data
            record = parse(data, key)
            if not isinstance(record, RunRecord):
                raise RunstoreError(f"record {key} is not of a run: restore it from a copy")
            yield record, "", record.run_id
        except RunstoreError as error:
            name = key.split("/")[1]
            try:
                run_id = keys.decode(name)
            except PathError:
                run_id = None
            yield None, str(error), run_id or name


def _facts(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"run_id": record.run_id, "created": record.created}
    if record.origin:
        row["origin"] = record.origin["run_id"]
    if record.labels:
        row["labels"] = dict(record.labels)
    return row


def _status(store: Store, record: RunRecord, damaged: list[str]) -> dict[str, Any]:
    from runstore.cli.sources import latest_dag, latest_invocation
    from runstore.errors import RunstoreError
    from runstore.store import Run

    run = Run(store.storage, record)
    try:
        history = run.history()
        # As of its latest invocation: what failed in that one has failed, and is not "to run".
        latest = latest_invocation(history)
        run.invocation = latest.id if latest else None
        plan = run.plan(latest_dag(run, history), history=history)
    except RunstoreError as error:
        damaged.append(f"run {record.run_id}: {error}")
        return {"status": "damaged"}
    damaged.extend(each.problem for each in history.damaged)
    status = "unfinished" if plan.status == "pending" else plan.status
    return {
        "status": "in progress" if plan.waiting else status,
        "last": latest.time if latest else "",
        "tasks": plan.to_json()["tasks"],
    }


def _print(runs: list[dict[str, Any]]) -> None:
    from runstore.cli.tables import print_table
    from runstore.cli.text import clean, clock

    colours = {"succeeded": "green", "failed": "red", "damaged": "red", "in progress": "cyan"}
    rows = []
    for row in runs:
        status = "damaged" if "damaged" in row else row.get("status", "")
        tasks = row.get("tasks", {})
        labels = row.get("labels", {})
        rows.append(
            (
                clean(row["run_id"], 80),
                clock(row["created"]) if "created" in row else "",
                (status, colours.get(status, "yellow")),
                clock(row["last"]) if row.get("last") else "",
                " ".join(f"{number:,} {action}" for action, number in tasks.items()),
                clean(row.get("origin", ""), 80),
                clean(" ".join(f"{name}={value}" for name, value in labels.items()), 200),
            )
        )
    if rows:
        print_table(("run", "created", "status", "last", "steps", "fork of", "labels"), rows)
