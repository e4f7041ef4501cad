"""Planning the same history again looks at what changed, and says what a fresh planner says."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from benchmarks.figures import chain, mapped
from runstore.dag import Dag, Map, Task
from runstore.plan import Planner
from runstore.plan.evaluate import Evaluation
from runstore.store import open_store


def grown(tmp_path, dag):
    """A run whose history grows by one end after the other; yields after each."""
    run = open_store(tmp_path / "s", durable=False).create_run(dag, {})
    run.begin_invocation("start")
    planner = Planner(dag)
    history = run.history()
    while ready := planner.plan(history, run.invocation).ready:
        step = ready[0]
        values = {name: [1, 2, 3] for name in step.work.task.returns}
        history.add(run.begin(step).succeed(values))
        yield run, planner, history


@pytest.mark.parametrize("dag", [chain(12), mapped(3, 2)], ids=["chain", "map of chains"])
def test_the_same_as_a_fresh_planner_over_a_fresh_history(tmp_path, dag):
    for run, planner, history in grown(tmp_path, dag):
        again = planner.plan(history, run.invocation)
        fresh = Planner(dag).plan(run.history(), run.invocation)
        assert again.to_json() == fresh.to_json()
        assert again.values == fresh.values


def test_a_step_of_a_chain_is_decided_once(tmp_path, monkeypatch):
    decided = []
    task = Evaluation.task
    monkeypatch.setattr(
        Evaluation,
        "task",
        lambda self, v, *rest: decided.append(v.name) or task(self, v, *rest),
    )
    count = 30
    assert sum(1 for _ in grown(tmp_path, chain(count))) == count
    # Each when it is ready, and when it is done; without what is kept: count * count / 2.
    assert len(decided) == 2 * count


def test_a_map_that_is_done_is_not_looked_into_again(tmp_path, monkeypatch):
    each = Map(name="each", over="items", **{"as": "i"}, body=Dag([Task(name="w", params=("i",))]))
    last = [Task(name=f"n{i}", after=(f"n{i - 1}",) if i else ("each",)) for i in range(5)]
    dag = Dag([Task(name="list", returns=("items",)), replace(each, after=("list",)), *last])
    items = []

    def counted(find):
        def look(self, frame):
            items.append(frame.prefix)
            return find(self, frame)

        return look

    for name in ("graph", "leaf"):  # a body of tasks alone, as an item's, is a leaf
        monkeypatch.setattr(Evaluation, name, counted(getattr(Evaluation, name)))
    for _, _, history in grown(tmp_path, dag):
        if history.latest("n0"):
            items.clear()
            break
    run, planner = None, Planner(dag)
    planner.plan(history, run)
    first = len(items)
    history.add(history.latest("n0"))
    planner.plan(history, run)
    assert first == 4  # the DAG, and each item
    assert len(items) == first + 1  # the DAG alone


def test_a_force_or_a_newer_attempt_undoes_what_was_kept(tmp_path):
    dag = chain(4)
    *_, (run, planner, history) = grown(tmp_path, dag)
    assert planner.plan(history).status == "succeeded"
    invocation = run.begin_invocation("retry", force={"n1": 1})
    history.add(invocation)
    assert [step.path for step in planner.plan(history).ready] == ["n1"]
    step = planner.plan(history).ready[0]
    history.add(run.begin(step).fail("no"))
    fresh = Planner(dag).plan(run.history())
    assert planner.plan(history).to_json() == fresh.to_json()
    assert [step.path for step in fresh.ready] == ["n1"]
