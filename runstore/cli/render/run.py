"""How ``runstore show`` looks to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runstore.cli.render.collapse import Fold, fold
from runstore.cli.render.console import say
from runstore.cli.render.tables import print_table
from runstore.cli.render.text import (
    amount,
    clean,
    clock,
    command_line,
    error_line,
    json_text,
    lasted,
    named,
    seconds,
    short,
)

if TYPE_CHECKING:
    from runstore.cli.render.tables import Cell

__all__ = ["print_run"]

_STYLES = {"succeeded": "green", "failed": "bold red", "in progress": "cyan", "damaged": "bold red"}


def print_run(facts: Mapping[str, Any], everything: bool) -> None:
    """Print to stdout what :mod:`runstore.cli.commands.show` found."""
    say(f"run         {named(facts['run_id'], 1_000)}")
    if "created" in facts:  # else the record of the run is damaged
        say(f"created     {clock(facts['created'])}")
        say(f"structure   {facts['structure']}")
    if facts.get("origin"):
        say(f"fork of     {named(facts['origin']['run_id'], 1_000)}")
    if facts.get("single_writer"):
        say("store       single-writer: one process at a time may write to it")
    if facts.get("store"):
        say(f"store       {clean(facts['store'], 400)}")
    _pairs("labels", facts.get("labels", {}))
    _pairs("parameters", {n: _json(v) for n, v in facts["parameters"].items()})
    _pairs("values", {n: _json(v) for n, v in facts["values"].items()})
    if facts["invocations"]:
        say("", "invocations")
        print_table(
            ("  mode", "when", "by", "command, or source"),
            [_invocation(each) for each in facts["invocations"]],
        )
    if facts["attempts"]:
        say("", "attempts")
        attempts = facts["attempts"]
        rows = map(_attempt, attempts) if everything else _folded(attempts)
        print_table(("  path", "attempt", "outcome", "when", "took", "error"), list(rows))
    artifacts = [
        (
            f"  {named(name)}",
            amount(blob["size"]),
            blob["sha256"][:12],
            short(each["path"]),
            str(each["attempt"]),
        )
        for each in facts["attempts"]
        for name, blob in each.get("artifacts", {}).items()
    ]
    if artifacts:
        say("", "artifacts")
        print_table(("  name", "size", "sha256", "saved by", "attempt"), artifacts)


def _json(value: Any) -> str:
    if value == "***":
        return "***"
    return named(json_text(value), 100)


def _pairs(title: str, pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        say(f"{title:<12}{named(name)} = {named(value)}")
        title = ""


def _invocation(each: Mapping[str, Any]) -> list[Cell]:
    by = each.get("by", {})
    who = f"pod {by['pod']}" if by.get("pod") else f"process {by.get('pid')} on {by.get('host')}"
    what = command_line(*each.get("command", ()))
    if each.get("source"):  # of an import, or a pull
        what = ", ".join(f"{name} {value}" for name, value in each["source"].items())
    return [f"  {each['mode']}", clock(each.get("time", "")), who, named(what, 200)]


def _attempt(each: Mapping[str, Any]) -> list[Cell]:
    outcome = each["outcome"]
    took = lasted(each.get("began", ""), each.get("ended", ""))
    told = error_line(each.get("error")) or each.get("problem", "") or each.get("by", "")
    if each.get("ended_by"):
        told += f" (ended by {each['ended_by']})"
    return [
        f"  {short(each['path'])}",
        str(each["attempt"]),
        (outcome, _STYLES.get(outcome, "yellow")),
        clock(each["began"]) if each.get("began") else "",
        "" if took is None else seconds(took),
        clean(told, 300),
    ]


def _folded(attempts: list[Mapping[str, Any]]) -> Iterator[list[Cell]]:
    for given in fold(
        (each["path"], "succeeded" if each["outcome"] == "succeeded" else None, each)
        for each in attempts
    ):
        if isinstance(given, Fold):
            done = f"{given.items:,} items done"
            yield [f"  {short(given.path)}[*]", "", ("succeeded", "green"), "", "", done]
        else:
            yield _attempt(given)
