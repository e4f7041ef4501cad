"""Plans as a whole: changed structures, progress, evidence, parts of a plan, depth."""

from __future__ import annotations

import gc

import pytest
from msgspec.structs import force_setattr

from runstore.dag import Dag, Map, Parallel, Task, structure, walk
from runstore.plan import Action, Planner, Reason
from runstore.plan.history import History
from runstore.records import Consumed, End, RunRecord
from tests.planning.build import Run, dag, g, loop, mp, par, t
from tests.planning.simulation import Simulation


def test_the_words_of_reasons_are_pinned() -> None:
    # Programs match on them: members are only ever added.
    assert [reason.value for reason in Reason] == [
        "succeeded", "succeeded, and its upstream ran again with the same result",
        "failure handled", "never ran", "failed", "lost", "cancelled",
        "retry of a failed attempt", "stale", "forced",
        "output missing or damaged", "upstream pending", "branch undecided", "items unknown",
        "in progress elsewhere", "branch not taken", "trigger not met", "upstream failed",
        "failed in this invocation", "parameter missing", "no branch matches", "loop limit",
        "not a list",
    ]  # fmt: skip


def test_keep_unchanged_counts_what_is_unchanged_by_the_rules_of_section_8() -> None:
    sim = Run(t("a", gives="x"), t("b", "a", "x"), t("z"))
    sim.go()
    sim.dag = dag(t("a", gives="x", type="shell"), t("b", "a", "x"), t("z"), t("new"))
    assert sorted(sim.go()) == ["a", "new"]  # b read the same x: kept
    assert sim.go() == []
    # Back again: what was made under the other structure counts no more.
    sim.dag = dag(t("a", gives="x"), t("b", "a", "x"), t("z"))
    assert sim.go() == ["a"]


def test_a_changed_step_says_so() -> None:
    sim = Run(t("a"))
    sim.go()
    sim.dag = dag(t("a", type="shell"))
    step = sim.plan()["a"]
    assert (step.action, step.reason) == ("RUN", "stale")
    assert "structure" in step.detail


def test_the_same_node_in_a_composite_of_another_shape() -> None:
    sim = Run(par("p", branches={"l": [t("a"), t("b", "a")]}))
    sim.go()
    sim.dag = dag(par("p", branches={"l": [t("a"), t("b", "a"), t("c")], "r": [t("d")]}))
    assert sorted(sim.go()) == ["p:l/c", "p:r/d"]


def test_a_planner_that_is_kept_knows_each_run_and_invocation_for_itself() -> None:
    planner = Planner(dag(t("a")))
    for i in range(50):
        sim = Simulation(dag(t("a", type="shell")) if i % 2 else dag(t("a")))
        force_setattr(sim.history.run, "run_id", f"r{i}")
        invocation = sim.invoke()
        sim.work(invocation, lambda step: {})
        assert planner.plan(sim.history)["a"].action == ("RUN" if i % 2 else "SKIP")
        del sim
        gc.collect()


def test_the_latest_attempt_decides() -> None:
    sim = Run(t("a"))
    sim.go()
    sim.go(force=["a"], fail=["a"])
    assert sim.of("a") == ("FAILED", "failed in this invocation")
    step = sim.plan()["a"]
    assert (step.action, step.reason) == ("RUN", "failed")
    assert str(step.evidence) == "attempt 2 failed"
    sim.go(die="a")
    sim.invoke()
    assert sim.plan()["a"].reason == "lost"


def test_attempts_in_progress_wait_older_ones_too() -> None:
    sim = Run(t("a"), t("b", "a"))
    invocation = sim.invoke()
    start = sim.begin(sim.plan(invocation)["a"], invocation)
    plan = sim.plan("another")
    assert (plan["a"].action, plan["a"].reason) == ("WAIT", "in progress elsewhere")
    assert "since" in plan["a"].detail
    assert [step.path for step in plan.waiting] == ["a"]
    assert plan.status == "pending"
    sim.end(start, "cancelled", {})
    assert sim.plan("another")["a"].reason == "cancelled"


def test_while_a_deciding_value_is_made_again_what_depends_on_it_waits() -> None:
    sim = Run(t("a", gives="xs"), mp("m", "xs", "x", t("b"), after="a"))
    sim.give["a"] = {"xs": [1]}
    sim.go()
    sim.go(force=["a"], die="a")
    assert sim.of("m") == sim.of("m/b") == ("WAIT", "upstream pending")


def test_values_at_the_end_and_before() -> None:
    sim = Run(t("a", gives="x"), t("b", "a", gives="y"), x=0, z=1)
    assert sim.plan().values == {"x": 0, "z": 1}
    sim.go(fail=["b"])
    assert sim.last.values == {"x": "a", "z": 1}


# -- parts -----------------------------------------------------------------------------------------


HANDLES = {"trigger": "one_failed", "handles": True}


@pytest.mark.parametrize("paths", [
    ["m[1]/b", "z"], ["z", "m[1]/b"], ["m", "m[1]/b"], ["m[1]/b", "m[2]/c"], ["m/b", "m[1]/b"],
    ["lo@1/s"], ["lo@0/q"], ["x"], ["m[2]/c"], ["p:l/i", "p"], ["w"],
])  # fmt: skip
def test_a_plan_of_some_paths_agrees_with_the_whole_plan(paths: list[str]) -> None:
    sim = Run(
        mp("m", "xs", "i", t("b"), t("c", "b")), t("z", "m"),
        loop("lo", "d", t("q"), t("s", reads="n", gives="d"), **{"as": "n"}),
        t("x"), t("y", "x"), t("h", "y", **HANDLES),
        par("p", branches={"l": [t("i")], "r": [t("j")]}), t("k", "p", **HANDLES),
        par("w", branches={"l": [mp("v", "xs", "i", t("e"))]}), xs=[1, 2],
    )  # fmt: skip
    sim.give = {"lo@0/s": {"d": False}, "lo@1/s": {"d": True}}
    sim.go(fail=["x", "p:r/j", "m[2]/b"])
    whole, part = sim.plan(), sim.plan(paths=paths)
    for path in paths:
        if path not in ("m/b",):
            assert part[path].to_json() == whole[path].to_json(), path


def test_a_plan_of_an_item_knows_nothing_of_the_others() -> None:
    sim = Run(mp("m", "xs", "i", t("b"), t("c", "b")), t("z", "m"), xs=[1, 2, 3])
    plan = sim.plan(paths=["m[2]/c"])
    assert [step.path for step in plan.steps] == ["m", "m[2]/b", "m[2]/c"]


# -- size ------------------------------------------------------------------------------------------


def test_a_thousand_levels() -> None:
    body = Dag([Task(name="t", params=("x",), returns=("y",))])
    for level in range(1000):
        inner = (
            Map(name="m", over="xs", as_=f"x{level}", body=body)
            if level % 2
            else Parallel(name="p", branches={"b": body})
        )
        body = Dag([inner, Task(name="z", after=(inner.name,))])
    document = body.to_json()
    assert structure.digest(Dag.from_json(document)) == structure.digest(body)
    assert structure.diff(body, body) == []
    assert sum(1 for _ in walk(body)) == 2001
    run = RunRecord("r", "n", "", document, "", {"xs": [1], "x": 0}, {}, None, "run")
    sim = Simulation(body)
    sim.history = History(run)
    planner = Planner(body)
    [first] = planner.plan(sim.history, "i").ready
    assert first.path.count("/") == 1000
    sim.end(sim.begin(first, "i"), "succeeded", {"y": 1})
    [second] = planner.plan(sim.history, "i").ready
    assert second.path.count("/") == 999
    assert planner.plan(sim.history, "i", paths=[second.path])[second.path].action == "RUN"


def test_a_long_loop_and_a_wide_map() -> None:
    sim = Run(loop("lo", "d", t("s", reads="i", gives="d"), max_iterations=300, **{"as": "i"}),
              mp("m", "xs", "x", t("a", reads="x", gives="y")), xs=list(range(300)))  # fmt: skip
    sim.give = {"lo/s": {"d": False}, "lo@299/s": {"d": True}}
    invocation = sim.invoke()
    planner = Planner(sim.dag)
    while ready := planner.plan(sim.history, invocation).ready:
        for step in ready:
            sim.finish(step, sim.begin(step, invocation))
    assert planner.plan(sim.history, invocation).status == "succeeded"
    assert len(planner.plan(sim.history, invocation).values["y"]) == 300


def test_a_step_is_one_line_of_text_and_a_plan_one_for_each() -> None:
    run = Run(t("a", gives="x"), t("b", "a", "x"), t("c", "b"))
    run.go(fail=["b"])
    assert str(run.plan()).splitlines() == [
        "run r: pending",
        "a: SKIP, succeeded (attempt 1 succeeded)",
        "b: RUN, failed (attempt 1 failed)",
        "c: WAIT, upstream pending",
    ]


def test_an_empty_dag_has_succeeded() -> None:
    assert Simulation(Dag.from_json(g())).work("i", lambda step: {}).status == "succeeded"


def test_what_a_fork_took_over_is_judged_by_the_structure_of_the_fork():
    old, new = (Dag([Task(name="a", returns=returns)]) for returns in (("x",), ("x", "y")))
    run = RunRecord("fork", "n", "", old.to_json(), "", {}, {}, {"run_id": "origin"}, "d")
    history = History(run)
    history.adopt(
        End("origin", "a", 3, "n", "of-the-origin", "succeeded", Consumed(), outputs={"x": 1})
    )
    assert Planner(old).plan(history)["a"].action is Action.SKIP
    step = Planner(new).plan(history)["a"]
    assert (step.action, step.reason) == (Action.RUN, Reason.STALE)
