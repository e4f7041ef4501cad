"""Design, section 8: what is left when nothing is ready, and that it is what the oracle says."""

from __future__ import annotations

import random

from hypothesis import given, settings

from runstore.dag import Dag
from runstore.paths import template
from runstore.plan import Action, Planner, Reason
from runstore.plan.history import History
from runstore.records import End
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.laws.lived import known, lived, some
from tests.planning.generate import dags
from tests.planning.judged import Judged


@reaches(
    lost=0.05, cancelled=0.005, stale=0.1, forced=0.1, fork=0.1, deep=0.08, loop_limit=0.04,
    parameter_missing=0.005, failure_handled=0.04,
    output_missing_or_damaged=0.03, loaded_from_around=0.03, in_progress_elsewhere=0.4,
    an_equal_item=0.01,
)  # fmt: skip
@given(dags(), SEEDS)
def test_every_plan_is_what_the_oracle_says(dag: Dag, seed: int) -> None:
    """And so what is left is settled, and what is skipped consumed what its upstream has now."""
    sim = lived(dag, seed, judging=True)
    for what in sim.met:
        reached(what)


@reaches(0.15)
@given(dags(), SEEDS)
def test_executing_what_is_ready_leaves_only_what_is_settled(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed)
    plan = sim.plan()
    torn = [each for each in sim.history.damaged if each.kind == "start"]
    waiting = {step.path for step in plan.waiting}
    if waiting:  # Nobody can tell of a torn start whether its process lives.
        assert torn
        return
    reached(times=len(plan.steps) > 5)
    plan = sim.planner.plan(sim.history, f"i{sim.invocations:04}")
    assert {step.action for step in plan.steps} <= {Action.SKIP, Action.OMIT, Action.FAILED}


@reaches(0.4)
@given(dags(), SEEDS)
def test_a_second_retry_of_a_succeeded_run_finds_nothing(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed)
    for _ in range(3):  # Each goes a step further past what failed.
        if sim.go().status == "succeeded":
            break
    else:
        return
    reached()
    again = sim.go()
    assert not sim.ran
    assert again.status == "succeeded"
    assert not again.ready


@reaches(0.4, failed=0.04, handled=0.01)
@given(dags(), SEEDS)
def test_what_never_succeeded_is_never_skipped_as_succeeded(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    plan = sim.plan()
    skipped = [s for s in plan.steps if s.kind == "task" and s.action is Action.SKIP]
    for step in skipped:
        if step.reason is Reason.HANDLED:
            assert step.record is None or step.record.outcome == "failed"  # type: ignore[union-attr]
        else:
            assert isinstance(step.record, End)
            assert step.record.outcome == "succeeded"
            found = sim.history.attempts.get(step.path) or [sim.history.adopted[step.path]]
            assert step.record.digest == found[-1].digest  # type: ignore[union-attr]
    reached(times=bool(skipped))
    for what in ("failed", "lost"):
        reached(what, times=any(step.reason.value == what for step in plan.steps))
    reached("handled", times=any(step.reason is Reason.HANDLED for step in skipped))


def every_end(sim: Judged) -> list[End]:
    return [end for path in sim.history.paths() for end in sim.history.ends(path)]


def above(dag: Dag, path: str) -> set[str]:
    """Templates of all that a path transitively follows, or stands in with."""
    found: set[str] = set()
    graph, at = dag, ""
    for part in template(path).split("/"):
        name, _, branch = part.partition(":")
        stack = [name]
        while stack:
            node = graph.nodes[graph.wiring.index[stack.pop()]]
            for up in node.after:
                if at + up not in found:
                    found.add(at + up)
                    stack.append(up)
        node = graph.nodes[graph.wiring.index[name]]
        if node.kind == "loop":
            found.add(at + name)
        graph = node.bodies.get(branch.replace("%2F", "/"), Dag())
        at += part + "/"
    return found


@reaches(0.4)
@given(dags(), SEEDS, SEEDS, SEEDS)
def test_a_death_changes_nothing(dag: Dag, seed: int, stop: int, order: int) -> None:
    """Stop inside any attempt and resume: the values of a run that was never interrupted, and no
    success made twice but for what follows a step that failed (or was lost)."""
    whole = Judged(dag, judging=False)
    whole.go()
    choose = random.Random(seed)
    fail = choose.sample(list(whole.history.paths()), min(2, len(whole.history.attempts)))
    whole = Judged(dag, judging=False)
    expected = whole.go(fail=fail)
    sim = Judged(dag, judging=False)
    stop %= max(1, sum(len(sim_ends) for sim_ends in whole.history.attempts.values()))
    sim.go(fail=fail, stop=stop, order=order)
    reached(times=bool(list(sim.history.open())))
    reached("after a failure", times=any(e.outcome == "failed" for e in every_end(sim)))
    resumed = sim.go(fail=fail)
    assert resumed.values == expected.values
    assert resumed.status == expected.status
    tried = set(whole.history.paths())
    # An alert of a failure that a handler settled only later may stand aside by then, and back.
    assert tried <= set(sim.history.paths())
    troubled = {
        template(path)
        for path in sim.history.paths()
        if any(end.outcome != "succeeded" for end in sim.history.ends(path))
    }
    for path in sim.history.paths():
        made = [end for end in sim.history.ends(path) if end.outcome == "succeeded"]
        if len(made) > 1:
            ups = above(dag, path)
            assert any(
                bad == up or bad.startswith((f"{up}/", f"{up}:")) for bad in troubled for up in ups
            ), path


@reaches(0.2)
@given(dags(), SEEDS, SEEDS)
def test_the_order_of_execution_does_not_matter(dag: Dag, seed: int, order: int) -> None:
    def run(order: int | None) -> tuple[object, ...]:
        sim = Judged(dag, judging=False)
        fail = some(random.Random(seed), known(sim), 2)
        first = sim.go(fail=fail, order=order)
        second = sim.go(order=None if order is None else order + 1)
        made = {path: [e.outcome for e in sim.history.ends(path)] for path in sim.history.paths()}
        return first.status, first.values, second.status, second.values, made

    straight = run(None)
    reached(times=len(straight[-1]) > 2)  # type: ignore[arg-type]
    assert straight == run(order)


@reaches(0.1)
@settings(max_examples=scaled(0.6))
@given(dags(), SEEDS)
def test_a_plan_is_pure(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    history: History = sim.history
    document = dag.to_json()
    before = (
        {path: list(found) for path, found in history.attempts.items()},
        {path: [repr(record) for record in found] for path, found in history.attempts.items()},
        dict(history.adopted), dict(history.forces), repr(history.run), list(history.damaged),
    )  # fmt: skip
    reached(times=len(history.attempts) > 2)
    one = Planner(sim.dag).plan(history, "i0001")
    other = Planner(sim.dag).plan(history, "i0001")
    assert one.to_json() == other.to_json()
    assert one.values == other.values
    after = (
        {path: list(found) for path, found in history.attempts.items()},
        {path: [repr(record) for record in found] for path, found in history.attempts.items()},
        dict(history.adopted), dict(history.forces), repr(history.run), list(history.damaged),
    )  # fmt: skip
    assert before == after
    assert dag.to_json() == document
