"""Design, sections 7 and 8; FORMAT.md, section 11: absence never means success."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings

from runstore.dag import Dag
from runstore.plan import Action, Planner, Reason
from runstore.plan.history import Damaged, History
from runstore.records import End, Holder, Invocation, Start
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.laws.lived import lived
from tests.planning.generate import dags
from tests.planning.judged import Judged


def records(sim: Judged) -> list[Any]:
    """What the store would hold: a start for every attempt, an end for those that ended."""
    found: list[Any] = list(sim.history.invocations.values())
    for attempts in sim.history.attempts.values():
        for attempt in attempts:
            found.append(attempt)
            if isinstance(attempt, Start) or (isinstance(attempt, Damaged) and over(attempt)):
                continue
            nothing = End("r", attempt.path or "", attempt.attempt, "n", "?", "lost")
            end = attempt if isinstance(attempt, End) else nothing
            found.append(
                Start(
                    "r", end.path, end.attempt, "n", end.invocation, Holder("h"), "",
                    end.consumed, None, end.start or "",
                )
            )  # fmt: skip
    return found


def over(damaged: Damaged) -> bool:
    """Whether it is all there is of an attempt."""
    return damaged.kind == "start"


def ended(sim: Judged, gone: Any) -> bool:
    """Whether a record is of an attempt that ended: then another record of it is left."""
    known = sim.history.attempts[gone.path]
    last = next(each for each in known if each.attempt == gone.attempt)
    return isinstance(last, End) or (isinstance(last, Damaged) and last.kind == "end")


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


@reaches(0.1)
@settings(max_examples=scaled(0.4))
@given(dags(9), SEEDS)
def test_removing_any_record_never_turns_run_into_skip(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=bool(seed % 2))
    before = skipped(sim.dag, sim.history)
    reached(times=len(before) > 1)
    for gone, history in without(sim):
        if isinstance(gone, Invocation):
            continue  # a force is a fact of its own: without it there is nothing to run again
        if not ended(sim, gone):
            continue  # nobody is at it then: what waited goes on from what was before
        for path in skipped(sim.dag, history):
            assert path in before, (path, gone.path, gone.attempt, type(gone).__name__)


@reaches(0.1)
@settings(max_examples=scaled(0.4))
@given(dags(9), SEEDS)
def test_removing_the_only_success_leaves_no_skip(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=bool(seed % 2))
    reached(times=len(skipped(sim.dag, sim.history)) > 1)
    for gone, history in without(sim):
        for path, reason in skipped(sim.dag, history).items():
            latest = history.latest(path)
            if reason is not Reason.HANDLED:
                assert isinstance(latest, End)
                assert latest.outcome == "succeeded"
                assert latest is not gone


@reaches(0.1)
@settings(max_examples=scaled(0.4))
@given(dags(9), SEEDS)
def test_an_end_without_its_start_still_counts(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed)
    before = skipped(sim.dag, sim.history)
    reached(times=len(before) > 1)
    for gone, history in without(sim):
        if isinstance(gone, Start) and ended(sim, gone):
            assert skipped(sim.dag, history) == before


@reaches(0.1)
@settings(max_examples=scaled(0.4))
@given(dags(9), SEEDS)
def test_the_order_of_records_means_nothing(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    every = records(sim)
    reached(times=len(every) > 5)
    history = History(sim.history.run, (*reversed(every), *every))
    for end in sim.history.adopted.values():
        history.adopt(end)
    one, other = Planner(sim.dag).plan(sim.history), Planner(sim.dag).plan(history)
    assert one.to_json() == other.to_json()
