"""Laws of one plan: what it may depend on, and what it may not."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from runstore.dag import Dag, structure
from runstore.paths import NodePath
from runstore.plan import Plan, Planner, Step
from runstore.plan.history import History
from runstore.records import Start
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.laws.lived import lived
from tests.planning.generate import dags, make, shuffled
from tests.planning.judged import Judged
from tests.planning.simulation import Simulation
from tests.transfer.lives import live, memory, told


def said(step: Step) -> tuple[Any, ...]:
    work = step.work
    does = (work.number, dict(work.params), repr(work.consumed)) if work else None
    return step.path, step.kind, step.action, step.reason, step.evidence, step.detail, does


def table(plan: Plan) -> dict[str, tuple[Any, ...]]:
    return {step.path: said(step) for step in plan.steps}


@reaches(0.2)
@given(dags(), SEEDS, SEEDS)
@example(make(0, 12), 4, 0)
def test_the_order_of_declaration_means_nothing(dag: Dag, seed: int, order: int) -> None:
    other = shuffled(dag, order)
    reached(times=other.to_json() != dag.to_json())
    assert structure.digest(other) == structure.digest(dag)
    assert structure.diff(dag, other) == []
    sim = lived(dag, seed, last=False)
    one, two = Planner(dag).plan(sim.history), Planner(other).plan(sim.history)
    assert table(one) == table(two)
    assert (one.status, one.values) == (two.status, two.values)


@reaches(0.2)
@given(dags(), SEEDS)
def test_a_plan_of_some_paths_agrees_with_the_whole_plan(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    planner = Planner(dag)
    whole = table(planner.plan(sim.history))
    reached(times=len(whole) > 5)
    choose = random.Random(seed)
    for path in whole:
        assert table(planner.plan(sim.history, paths=[path]))[path] == whole[path]
    some = choose.sample(sorted(whole), min(len(whole), 3))
    part = table(planner.plan(sim.history, paths=some))
    assert {path: part[path] for path in some} == {path: whole[path] for path in some}


@reaches(0.3)
@given(dags(), SEEDS, st.randoms(use_true_random=False))
def test_a_plan_of_an_item_needs_nothing_of_its_siblings(
    dag: Dag, seed: int, choose: random.Random
) -> None:
    """What stands at other items of a map is not looked at."""
    gather = {"name": "gather", "kind": "task", "after": ["each"]}
    each = {"name": "each", "kind": "map", "over": "l0", "as": "item", "body": dag.to_json()}
    sim = lived(Dag.from_json({"nodes": [gather, each]}), seed, last=False)
    planner = Planner(sim.dag)
    items = [path for path in sim.history.paths() if path.startswith("each[")]
    if not items:
        return
    path = choose.choice(items)
    mine = NodePath.parse(path).segments[0]
    before = table(planner.plan(sim.history, paths=[path]))
    if path not in before:  # an item that is in the list no more
        return
    reached()
    history = History(sim.history.run, sim.history.invocations.values())
    for end in sim.history.adopted.values():
        history.adopt(end)
    for other, attempts in sim.history.attempts.items():
        first = NodePath.parse(other).segments[0]
        sibling = first.name == mine.name and str(first) != str(mine)
        for attempt in attempts:
            if not sibling or choose.random() < 0.5:
                history.add(attempt)
    assert table(planner.plan(history, paths=[path]))[path] == before[path]


class Twice(Judged):
    """Plans with a planner that is kept, and afresh, before every attempt."""

    compared = 0

    def begin(self, step: Step, invocation: str) -> Start:
        self.compared += 1
        records = [a for attempts in self.history.attempts.values() for a in attempts]
        history = History(self.history.run, [*self.history.invocations.values(), *records])
        kept = self.planner.plan(self.history, invocation)
        fresh = Planner(self.dag).plan(history, invocation)
        assert table(kept) == table(fresh)
        assert (kept.status, kept.values) == (fresh.status, fresh.values)
        return super().begin(step, invocation)


@reaches(0.5)
@given(dags(), SEEDS)
def test_a_planner_that_plans_again_says_what_a_new_one_says(dag: Dag, seed: int) -> None:
    choose = random.Random(seed)
    sim = Twice(dag, judging=False)
    for turn in range(3):
        paths = sorted(sim.history.paths())
        some = choose.sample(paths, min(len(paths), 2))
        sim.go(
            fail=some,
            force=some[: choose.randint(0, 2)],
            code=choose.choice([0, turn]),
            stop=choose.choice([None, choose.randint(0, 8)]),
        )
    sim.go()
    reached(times=sim.compared > 3)


MAP = {
    "nodes": [
        {"name": "mp", "kind": "map", "over": "xs", "as": "x", "body": {"nodes": [
            {"name": "t", "kind": "task", "params": ["x"], "returns": ["y"]},
            {"name": "u", "kind": "task", "after": ["t"], "params": ["y"]},
        ]}},
    ]
}  # fmt: skip


@settings(max_examples=scaled(0.6))
@given(st.lists(st.integers(0, 3), min_size=2, max_size=5), SEEDS)
def test_attempts_at_other_items_leave_an_item_alone(xs: list[int], seed: int) -> None:
    choose = random.Random(seed)
    sim = Simulation(Dag.from_json(MAP), {"xs": xs})
    planner = Planner(sim.dag)
    invocation = sim.invoke()
    for _ in range(choose.randint(1, 12)):
        before = table(planner.plan(sim.history, invocation))
        ready = planner.plan(sim.history, invocation).ready
        if not ready:
            break
        step = choose.choice(ready)
        item = step.path.partition("/")[0]
        start = sim.begin(step, invocation)
        sim.end(start, choose.choice(["succeeded", "failed"]), {"y": choose.randint(0, 1)})
        after = table(planner.plan(sim.history, invocation))
        others = [p for p in before if p != "mp" and p.partition("/")[0] != item]
        assert {p: after[p] for p in others} == {p: before[p] for p in others}


@settings(max_examples=scaled(0.4))
@given(dags(), dags(), SEEDS, SEEDS, st.sampled_from(["a run", "A run/ä", "a run/ä/x", "a run/a"]))
def test_other_runs_do_not_matter(
    dag: Dag, other: Dag, seed: int, unlike: int, run_id: str
) -> None:
    """Not those of alike names, of the same steps, or of the same everything."""
    store = memory()
    run = live(store, dag, seed)
    before = told(run)
    live(store, other, unlike, run_id=run_id)
    live(store, dag, seed, run_id=f"{run_id} too")
    assert told(run) == before
