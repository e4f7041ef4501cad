"""``runstore show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from runstore.cli.options import all_steps, format_option, store_option
from runstore.cli.render.console import say_json
from runstore.cli.store_url import StoreLocation

if TYPE_CHECKING:
    from runstore.plan.history import Attempt, History
    from runstore.store import Run

__all__ = ["command"]

_WHO = ("host", "pid", "pod", "user")


@click.command("show")
@click.argument("run_id")
@format_option
@all_steps
@store_option
def command(run_id: str, style: str, everything: bool, store: StoreLocation) -> int:
    """Show run RUN_ID: what it was made with, what it gave, its invocations and attempts."""
    from runstore.cli.arguments import existing_run
    from runstore.cli.render.damage import tell_damage

    run = existing_run(store, run_id, salvage=True)
    history = run.history()
    facts = _facts(run, history)
    if style == "json":
        say_json(facts)
    else:
        from runstore.cli.render.run import print_run

        print_run(facts, everything)
    return tell_damage(run, history, store)


def _facts(run: Run, history: History) -> dict[str, Any]:
    """All that is shown; the format of ``--format json``."""
    from runstore.errors import RunstoreError
    from runstore.store import Store

    record = run.record
    facts: dict[str, Any] = {"run_id": record.run_id}
    facts |= _sparse({"created": record.created, "structure": record.structure})
    try:
        marker = Store(run.storage).marker()
        facts["single_writer"] = marker.single_writer if marker else False
    except RunstoreError as error:
        facts["store"] = error.problem
    if record.origin:
        facts["origin"] = dict(record.origin)
    if record.labels:
        facts["labels"] = dict(record.labels)
    facts["parameters"] = {name: _value(value) for name, value in record.parameters.items()}
    facts["invocations"] = [
        _invocation(each)
        for each in sorted(history.invocations.values(), key=lambda one: (one.number, one.id))
    ]
    facts["attempts"] = sorted(
        (_attempt(path, *each) for path in history.paths() for each in history.numbered(path)),
        key=lambda attempt: (attempt.get("began", "~"), attempt["path"], attempt["attempt"]),
    )
    try:
        facts["values"] = {
            name: _value(value)
            for name, value in run.plan(history=history).values.items()
            if name not in record.parameters or record.parameters[name] != value
        }
    except RunstoreError as error:
        facts["values"] = {}
        facts["plan"] = str(error)
    problems = {each.key: each.problem for each in reversed(history.damaged)}
    facts["damaged"] = [{"key": key, "problem": problems[key]} for key in sorted(problems)]
    return facts


def _value(value: Any) -> Any:
    import msgspec

    from runstore.records import Blob, Secret

    if type(value) is Secret:
        return "***"
    return msgspec.to_builtins(value) if type(value) is Blob else value


def _invocation(invocation: Any) -> dict[str, Any]:
    by = invocation.by
    return _sparse(
        {
            "id": invocation.id,
            "mode": invocation.mode,
            "time": invocation.time,
            "by": {} if by is None else _sparse({n: getattr(by, n) for n in _WHO}),
            "source": dict(invocation.source or {}),
            "command": list(invocation.command),
            "code": dict(invocation.code or {}),
            "force": dict(invocation.force),
            "ignored": list(invocation.ignored),
            "structure": invocation.structure,
        }
    )


def _attempt(path: str, number: int, record: Attempt) -> dict[str, Any]:
    from runstore.records import End, Start

    out: dict[str, Any] = {"path": path, "attempt": number}
    if isinstance(record, End):
        out["outcome"] = record.outcome
        out |= _sparse({"began": record.began, "ended": record.ended})
        if record.error:
            out["error"] = {k: v for k, v in record.error.items() if k in ("type", "message")}
        out |= _sparse(
            {
                "outputs": {n: _value(v) for n, v in record.outputs.items()},
                "artifacts": {
                    n: {"sha256": b.sha256, "size": b.size} for n, b in record.artifacts.items()
                },
                "metrics": dict(record.metrics),
                "log": record.log.size if record.log else None,
                "ended_by": str(record.ended_by) if record.ended_by else None,
            }
        )
    elif isinstance(record, Start):
        out |= {"outcome": "in progress", "began": record.time, "by": str(record.by)}
    else:
        out |= {"outcome": "damaged", "problem": record.problem}
    return out


def _sparse(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "", {}, [])}
