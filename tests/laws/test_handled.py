"""Design, section 3: what handlers settle, in DAGs that are full of them."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.dag import Dag
from runstore.plan import Action, Planner
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.laws.lived import lived
from tests.laws.test_plans import table
from tests.planning.generate import troubled
from tests.planning.judged import Judged

dags = st.builds(troubled, SEEDS)


@reaches(
    failure_handled=0.3, composite_handler=0.1, handler_with_nothing_to_do=0.05, lost=0.03,
    cancelled=0.005, forced=0.1, fork=0.1, stale=0.05,
    lost_before_a_handler_with_nothing_to_do=0.03,
)  # fmt: skip
@given(dags, SEEDS)
def test_every_plan_is_what_the_oracle_says(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, judging=True)
    for what in sim.met:
        reached(what)


@reaches(0.3, handled=0.1)
@settings(max_examples=scaled(0.5))
@given(dags, SEEDS)
def test_a_plan_of_some_paths_agrees_with_the_whole_plan(dag: Dag, seed: int) -> None:
    """Whether a failure is handled shows in its handler, and in what that one follows."""
    sim = lived(dag, seed, last=False)
    planner = Planner(dag)
    plan = planner.plan(sim.history)
    whole = table(plan)
    reached(times=len(whole) > 5)
    reached("handled", times=any(step.reason == "failure handled" for step in plan))
    for path in whole:
        assert table(planner.plan(sim.history, paths=[path]))[path] == whole[path]


@reaches(0.2)
@settings(max_examples=scaled(0.5))
@given(dags, SEEDS)
def test_a_run_comes_to_an_end(dag: Dag, seed: int) -> None:
    """Nothing waits for what waits for it, and a run that succeeded is left alone."""
    sim = lived(dag, seed)
    plan = sim.plan()
    if plan.waiting:
        assert any(each.kind == "start" for each in sim.history.damaged)
        return
    plan = sim.planner.plan(sim.history, f"i{sim.invocations:04}")
    assert {step.action for step in plan.steps} <= {Action.SKIP, Action.OMIT, Action.FAILED}
    if plan.status == "succeeded":
        reached(times=any(step.reason == "failure handled" for step in plan))
        sim.go()
        assert not sim.ran


@reaches(0.3)
@settings(max_examples=scaled(0.5))
@given(dags, SEEDS, SEEDS)
def test_the_order_of_execution_does_not_matter(dag: Dag, seed: int, order: int) -> None:
    def run(order: int | None) -> tuple[object, ...]:
        sim = Judged(dag, judging=False)
        paths = [step.path for step in sim.plan().steps if step.kind == "task"]
        fail = random.Random(seed).sample(paths, min(len(paths), 3))
        first = sim.go(fail=fail, order=order)
        second = sim.go(order=order)
        made = {path: [e.outcome for e in sim.history.ends(path)] for path in sim.history.paths()}
        return first.status, first.values, second.status, second.values, made

    straight = run(None)
    reached(times="failed" in str(straight[-1]))
    assert straight == run(order)
