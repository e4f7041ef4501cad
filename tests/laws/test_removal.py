"""Design, sections 7 and 8; FORMAT.md, section 11: absence never means success."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings

from runstore.dag import Dag
from runstore.history import History
from runstore.plan import Action, Planner, Reason
from runstore.records import End, Holder, Invocation, Start
from tests.laws.test_execution import SEEDS, lived
from tests.planning.generate import dags
from tests.planning.judged import Judged


def records(sim: Judged) -> list[Any]:
    """What the store would hold: a start for every attempt, an end for those that ended."""
    found: list[Any] = list(sim.history.invocations.values())
    for attempts in sim.history.attempts.values():
        for attempt in attempts:
            assert isinstance(attempt, Start | End)
            found.append(attempt)
            if isinstance(attempt, End):
                found.append(
                    Start(
                        "r", attempt.path, attempt.attempt, "n", attempt.invocation,
                        Holder("h"), "", attempt.consumed, None, attempt.start or "",
                    )
                )  # fmt: skip
    return found


def without(sim: Judged) -> Iterator[tuple[Any, History]]:
    every = records(sim)
    for gone in every:
        history = History(sim.history.run, (record for record in every if record is not gone))
        for end in sim.history.adopted.values():
            history.adopt(end)
        yield gone, history


def skipped(dag: Dag, history: History) -> dict[str, Reason]:
    plan = Planner(dag).plan(history)
    return {
        step.path: step.reason
        for step in plan.steps
        if step.action is Action.SKIP and step.kind == "task"
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(dags(9), SEEDS)
def test_removing_any_record_never_turns_run_into_skip(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=bool(seed % 2))
    before = skipped(sim.dag, sim.history)
    for gone, history in without(sim):
        if isinstance(gone, Invocation):
            continue  # a force is a fact of its own: without it there is nothing to run again
        for path in skipped(sim.dag, history):
            assert path in before, (path, gone.path, gone.attempt, type(gone).__name__)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(dags(9), SEEDS)
def test_removing_the_only_success_leaves_no_skip(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=bool(seed % 2))
    for gone, history in without(sim):
        for path, reason in skipped(sim.dag, history).items():
            latest = history.latest(path)
            assert isinstance(latest, End)
            if reason is not Reason.HANDLED:
                assert latest.outcome == "succeeded"
                assert latest is not gone


@settings(max_examples=40, deadline=None, derandomize=True)
@given(dags(9), SEEDS)
def test_an_end_without_its_start_still_counts(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed)
    before = skipped(sim.dag, sim.history)
    for gone, history in without(sim):
        if isinstance(gone, Start):
            assert skipped(sim.dag, history) == before


@settings(max_examples=40, deadline=None, derandomize=True)
@given(dags(9), SEEDS)
def test_the_order_of_records_means_nothing(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    every = records(sim)
    history = History(sim.history.run, (*reversed(every), *every))
    for end in sim.history.adopted.values():
        history.adopt(end)
    one, other = Planner(sim.dag).plan(sim.history), Planner(sim.dag).plan(history)
    assert one.to_json() == other.to_json()
