"""How things stand at a path: nothing counts as done while something in it is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given

from runstore.dag import Dag
from runstore.plan import Action, Planner
from runstore.plan.standing import Standing
from runstore.plan.steps import cuts, within
from tests.exploration import SEEDS, reached, reaches
from tests.laws.lived import lived
from tests.planning.build import Run, cond, loop, mp, t
from tests.planning.generate import dags


@pytest.mark.parametrize(
    ("inner", "gives", "reason"),
    [
        (cond("in", "v", "t", branches={"yes": [t("ship")]}), "odd", "no branch matches"),
        (loop("in", "v", t("s", gives="v"), after="t", max_iterations=1), False, "loop limit"),
        (mp("in", "v", "k", t("s"), after="t"), 3, "not a list"),
    ],
)  # fmt: skip
def test_an_item_has_failed_if_a_composite_in_it_has_though_no_task_has(inner, gives, reason):
    sim = Run(mp("each", "items", "i", t("t", gives="v"), inner), items=[1, 2])
    sim.give = {"each/t": {"v": gives}, "each/in/s": {"v": gives}}
    sim.go()
    for paths in (["each[1]"], ["each[1]", "each[2]"]):
        standing = Standing.of(sim.last, paths)
        assert (standing.kind, str(standing.step.reason)) == ("failed", reason)


DONE = {"succeeded": {Action.SKIP, Action.OMIT}, "omitted": {Action.OMIT}}


@reaches(0.2)
@given(dags(), SEEDS)
def test_what_stands_as_done_has_nothing_in_it_that_is_not(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    choose = random.Random(seed)
    for invocation in (None, f"i{sim.invocations:04}"):
        plan = Planner(dag).plan(sim.history, invocation)
        places = sorted({step.path[:at] for step in plan.steps for at in cuts(step.path)})
        for path in places:
            standing = Standing(plan, path)
            actions = {step.action for step in plan.steps if within(step.path, path)}
            reached(times=standing.kind == "succeeded" and len(actions) > 1)
            assert actions <= DONE.get(standing.kind, actions), (path, standing.kind)
        if places:
            some = choose.sample(places, min(len(places), 3))
            kinds = [Standing(plan, path).kind for path in some]
            whole = Standing.of(plan, some).kind
            assert whole in kinds
            assert whole in DONE or not all(kind in DONE for kind in kinds)
