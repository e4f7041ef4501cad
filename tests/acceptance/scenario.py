"""Runs one acceptance scenario against one store, and looks at the raw records for what happened.

What a scenario means is in the README beside the cases. The tasks of a scenario are expressions;
here they become functions that are attached to the DAG's nodes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import force_setattr

import runstore
from runstore.canonical import dumps
from runstore.dag import Dag, walk
from runstore.errors import RunstoreError
from runstore.executor import Result
from runstore.paths import template
from runstore.plan import Action, Plan, Planner
from runstore.records import keys
from runstore.store import Attempt, Run, Store

RUN_ID = "scenario"
FORK_ID = "scenario-fork"


class Told(Exception):
    """A task that was told to fail."""


@dataclasses.dataclass
class State:
    """What a scenario says at one of its invocations: later ones inherit."""

    dag: Mapping[str, Any]
    parameters: Mapping[str, Any]
    tasks: Mapping[str, Any]
    run_id: str = RUN_ID

    def at(self, invocation: Mapping[str, Any]) -> State:
        run_id = FORK_ID if invocation["mode"] == "fork" else self.run_id
        return State(
            invocation.get("dag", self.dag),
            invocation.get("parameters", self.parameters),
            invocation.get("tasks", self.tasks),
            run_id,
        )


def build(state: State, invocation: Mapping[str, Any]) -> Dag:
    """The DAG with a function behind each task.

    :raises DagError: for a scenario whose DAG is none.
    """
    dag = Dag.from_json(state.dag)
    for path, node in walk(dag):
        if node.kind == "task":
            force_setattr(node, "_function", _function(path, node.returns, state, invocation, dag))
    return dag


def _function(
    path: str, names: Sequence[str], state: State, invocation: Mapping[str, Any], dag: Dag
) -> Any:
    returns = state.tasks.get(path, {}).get("returns", {})

    def function(attempt: Attempt, **params: Any) -> dict[str, Any] | Any:
        if attempt.path in invocation.get("fail", ()):
            raise Told(f"{attempt.path} was told to fail")
        if attempt.path == invocation.get("kill"):
            _die_when_alone(attempt.run, dag, attempt.path, invocation["expect"].get("ran") or ())
        values = {
            name: eval(returns[name], {}, dict(params)) if name in returns else None
            for name in names
        }
        if attempt.path in invocation.get("fail_after_return", ()):
            raise Told(f"{attempt.path} was told to fail")
        return values[names[0]] if len(names) == 1 else values or None

    return function


def _die_when_alone(run: Run, dag: Dag, path: str, ran: Collection[str]) -> None:
    """SIGKILL, once everything else that can finish has finished.

    What waits for this one is not asked for: a failure waits for the handler that is at it, so who
    waits until nothing else waits would wait for ever. For the same reason what is to run beside a
    handler may not be ready any more, nor have begun yet: it is waited for by name.
    """
    planner = Planner(dag)
    while True:
        history = run.history()
        known = (attempt for attempts in history.attempts.values() for attempt in attempts)
        mine = {each.path for each in known if each.invocation == run.invocation}
        alone = {start.path for start in history.open()} == {path} and mine.issuperset(ran)
        if alone and not planner.plan(history, run.invocation).ready:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)


def perform(state: State, invocation: Mapping[str, Any], store: Store) -> Result:
    """One invocation, in this process."""
    dag = build(state, invocation)
    workers = invocation.get("workers", 4)
    offered = invocation.get("parameters", {})
    match invocation["mode"]:
        case "start":
            return runstore.start(
                dag, state.parameters, store=store, run_id=state.run_id, workers=workers,
                environment={},
            )  # fmt: skip
        case "retry":
            return runstore.retry(
                state.run_id, dag, offered, store=store, workers=workers,
                force=invocation.get("force", ()),
            )  # fmt: skip
        case "fork":
            return runstore.fork(
                RUN_ID, dag, offered, store=store, workers=workers, new_run_id=FORK_ID
            )
    raise AssertionError(invocation["mode"])


def play(
    scenario: Mapping[str, Any],
    url: str,
    *,
    between: Callable[[str], str] | None = None,
    elsewhere: Callable[[int, State], Seen | None] | None = None,
) -> None:
    """The whole scenario on a fresh prefix of a store; an AssertionError if it is not as expected.

    ``between`` is called between invocations with the store's URL; the next one uses what it gives.
    ``elsewhere`` may perform one, by its position, and say what came of it; else it is done here.
    """
    store = runstore.open_store(url)
    state = State(scenario["dag"], scenario["parameters"], scenario["tasks"])
    for at, invocation in enumerate(scenario["invocations"]):
        if at and between is not None:
            url = between(url)
            store = runstore.open_store(url)
        state = state.at(invocation)
        before = begun(store, state.run_id)
        objects = len(list(store.storage.list("")))
        seen = Seen()
        if elsewhere is not None and (performed := elsewhere(at, state)) is not None:
            seen = performed
        elif "kill" in invocation:
            seen.status = _in_a_process(scenario, at, url)
        else:
            try:
                result = perform(state, invocation, store)
            except RunstoreError as error:
                seen = Seen("refused", type(error).__name__, [str(error)])
            else:
                seen = Seen(result.status, "", [], result.warnings, result.plan, result.values())
        seen.ran = sorted(path for path, _ in begun(store, state.run_id) - before)
        seen.new_records = len(list(store.storage.list(""))) - objects
        check(f"{scenario['name']}, invocation {at + 1}", invocation["expect"], seen, store, state)


def _in_a_process(scenario: Mapping[str, Any], at: int, url: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, str(at), url],
        input=json.dumps(scenario),
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return "killed"


@dataclasses.dataclass
class Seen:
    """What came of an invocation. ``unseen``: what can be expected, but cannot be seen of it."""

    status: str = ""
    error: str = ""
    texts: list[str] = dataclasses.field(default_factory=list)
    warnings: Sequence[str] = ()
    plan: Plan | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ran: list[str] = dataclasses.field(default_factory=list)
    new_records: int = 0
    unseen: Collection[str] = ()


# -- the oracle: raw objects, parsed with nothing but json ---------------------------------------


def _bodies(store: Store, run_id: str) -> list[dict[str, Any]]:
    listed = store.storage.list(keys.run_folder(run_id))
    wanted = [key for key in listed if f"/{keys.ATTEMPTS}" in key]
    return [json.loads(store.storage.read(key))["record"] for key in wanted]


def begun(store: Store, run_id: str) -> set[tuple[str, int]]:
    """(path, number) of each attempt that was begun."""
    return {
        (body["path"], body["attempt"])
        for body in _bodies(store, run_id)
        if body["kind"] == "start"
    }


def attempts(store: Store, run_id: str) -> dict[str, list[str]]:
    """Path -> outcomes of its attempts, in order."""
    ended = {(b["path"], b["attempt"]): b for b in _bodies(store, run_id) if b["kind"] == "end"}
    out: dict[str, list[str]] = {}
    for path, number in sorted(begun(store, run_id)):
        end = ended.get((path, number))
        out.setdefault(path, []).append(end["outcome"] if end else "in progress")
    return out


def _errors(store: Store, run_id: str) -> list[str]:
    return [
        f"{body['path']} {body['error']['type']} {body['error']['message']}"
        for body in _bodies(store, run_id)
        if body["kind"] == "end" and body.get("error")
    ]


def has_words(text: str, words: Sequence[str]) -> list[str]:
    """The words that a text lacks, as whole words."""
    return [w for w in words if not re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text)]


def check(where: str, expect: Mapping[str, Any], seen: Seen, store: Store, state: State) -> None:
    shown = "\n".join([where, *seen.texts, *seen.warnings])
    expect = {what: value for what, value in expect.items() if what not in seen.unseen}
    assert seen.status == expect["status"], shown
    if expect.get("ran") is not None:
        assert seen.ran == sorted(expect["ran"]), shown
    if "error" in expect:
        assert seen.error == expect["error"], shown
    if "attempts" in expect:
        found = attempts(store, state.run_id)
        for path, outcomes in expect["attempts"].items():
            assert found.get(path, []) == outcomes, f"{shown}: {path}"
    if "origin_attempts" in expect:
        found = attempts(store, RUN_ID)
        for path, outcomes in expect["origin_attempts"].items():
            assert found.get(path, []) == outcomes, f"{shown}: {path} of the origin"
    if "not_taken" in expect:
        assert seen.plan is not None
        omitted = [step.path for step in seen.plan if step.action is Action.OMIT]
        omitted += [template(path) for path in omitted]
        assert set(expect["not_taken"]) <= set(omitted), f"{shown}: {omitted}"
    for name, value in expect.get("values", {}).items():
        assert name in seen.values, f"{shown}: {name}"
        assert dumps(seen.values[name]) == dumps(value), f"{shown}: {name}"
    if "names" in expect:
        texts = list(seen.texts)
        if seen.plan is not None:
            texts += [step.detail for step in seen.plan if step.action is Action.FAILED]
            texts += _errors(store, state.run_id)
        assert not has_words("\n".join(texts), expect["names"]), f"{shown}: {texts}"
    if "warns" in expect:
        assert not has_words("\n".join(seen.warnings), expect["warns"]), shown
    if "new_records" in expect:
        assert seen.new_records == expect["new_records"], shown


def main() -> None:
    """In the process that is to die: the invocation ``argv[1]`` of the scenario on stdin."""
    scenario = json.load(sys.stdin)
    last = int(sys.argv[1])
    state = State(scenario["dag"], scenario["parameters"], scenario["tasks"])
    for invocation in scenario["invocations"][: last + 1]:
        state = state.at(invocation)
    perform(state, scenario["invocations"][last], runstore.open_store(sys.argv[2]))


if __name__ == "__main__":
    main()
