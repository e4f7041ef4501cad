"""Design, section 8: what is left when nothing is ready, and that it is what the oracle says."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.dag import Dag
from runstore.history import History
from runstore.paths import template
from runstore.plan import Action, Planner, Reason
from runstore.records import End
from tests.planning.generate import dags
from tests.planning.judged import Judged

SEEDS = st.integers(0, 10**6)


def known(sim: Judged) -> list[str]:
    return [step.path for step in Planner(sim.dag).plan(sim.history).steps if step.kind == "task"]


def some(choose: random.Random, among: list[str], most: int) -> list[str]:
    return choose.sample(among, min(len(among), choose.randint(0, most)))


def lived(dag: Dag, seed: int, *, last: bool = True) -> Judged:
    """A run with a history: failures, deaths, forces, changed code, forks with other parameters."""
    choose = random.Random(seed)
    sim = Judged(dag)
    for turn in range(choose.randint(1, 4)):
        force = [
            path + choose.choice(["", "+"])
            for path in some(choose, list(sim.history.paths()), choose.choice([0, 2]))
        ]
        sim.go(
            fail=some(choose, known(sim), choose.choice([0, 3])),
            force=force,
            code=choose.choice([0, 0, turn]),
            stop=choose.choice([None, None, choose.randint(0, 8)]),
            order=choose.choice([None, seed]),
        )
        if choose.random() < 0.15:
            sim = sim.fork({"v0": choose.randint(0, 2), "l0": choose.choice([[1, 2], ["1", 1]])})
    if last:
        sim.go()
    return sim


@settings(max_examples=250, deadline=None, derandomize=True)
@given(dags(), SEEDS)
def test_what_is_left_is_settled_and_consumed_what_its_upstream_has_now(
    dag: Dag, seed: int
) -> None:
    # Judged.judge() compares every step, the status and every value with the oracle's.
    lived(dag, seed)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(dags(), SEEDS)
def test_a_second_retry_of_a_succeeded_run_finds_nothing(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed)
    before = sim.go()
    if before.status == "succeeded":
        again = sim.go()
        assert not sim.ran
        assert again.status == "succeeded"
        assert not again.ready


@settings(max_examples=80, deadline=None, derandomize=True)
@given(dags(), SEEDS)
def test_what_never_succeeded_is_never_skipped_as_succeeded(dag: Dag, seed: int) -> None:
    sim = lived(dag, seed, last=False)
    for step in Planner(sim.dag).plan(sim.history).steps:
        if step.kind == "task" and step.action is Action.SKIP:
            assert isinstance(step.record, End)
            if step.reason is Reason.HANDLED:
                assert step.record.outcome == "failed"
            else:
                assert step.record.outcome == "succeeded"
                latest = sim.history.latest(step.path)
                assert isinstance(latest, End)
                assert step.record.digest == latest.digest


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
        graph = node.bodies.get(branch.replace("%2F", "/"), Dag.EMPTY)
        at += part + "/"
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(dags(), SEEDS, st.integers(0, 12), SEEDS)
def test_a_death_changes_nothing(dag: Dag, seed: int, stop: int, order: int) -> None:
    """Stop inside any attempt and resume: the values of a run that was never interrupted, and no
    success made twice but for what follows a step that failed (or was lost)."""
    whole = Judged(dag)
    whole.go()
    fail = some(random.Random(seed), list(whole.history.paths()), 2)
    whole = Judged(dag)
    expected = whole.go(fail=fail)
    sim = Judged(dag)
    sim.go(fail=fail, stop=stop, order=order)
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


@settings(max_examples=80, deadline=None, derandomize=True)
@given(dags(), SEEDS, SEEDS)
def test_the_order_of_execution_does_not_matter(dag: Dag, seed: int, order: int) -> None:
    def run(order: int | None) -> tuple[object, ...]:
        sim = Judged(dag)
        fail = some(random.Random(seed), known(sim), 2)
        first = sim.go(fail=fail, order=order)
        second = sim.go(order=None if order is None else order + 1)
        made = {path: [e.outcome for e in sim.history.ends(path)] for path in sim.history.paths()}
        return first.status, first.values, second.status, second.values, made

    assert run(None) == run(order)


@settings(max_examples=60, deadline=None, derandomize=True)
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
