"""The oracle says what the design says, by itself; and its word counts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from runstore.plan import Step
from runstore.records import End
from tests.planning.build import cond, dag, t
from tests.planning.judged import Judged

HERE = Path(__file__).parent


def test_nothing_of_it_comes_from_the_planner() -> None:
    for name in ("oracle", "composites", "world"):
        tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
        found = {
            each.module if isinstance(each, ast.ImportFrom) else each.names[0].name
            for each in ast.walk(tree)
            if isinstance(each, ast.Import | ast.ImportFrom)
        }
        planner = {each for each in found if each and each.startswith("runstore.plan")}
        # What is known of a run, without a decision.
        assert planner <= {"runstore.plan.history"}


@pytest.mark.parametrize("notify", ["yes", "no"])
def test_what_was_lost_runs_again_though_a_handler_with_nothing_to_do_follows(notify: str) -> None:
    handler = {"trigger": "one_failed", "handles": True}
    tell = cond("h", "notify", "a b", branches={"yes": [t("tell")], "no": []}, **handler)
    sim = Judged(dag(t("a"), t("b"), tell), {"notify": notify})
    sim.go(fail=["a"], stop=1)
    oracle = sim.oracle()
    assert oracle.said["b"] == ("WAIT", "in progress elsewhere")
    invocation = sim.invoke()
    said = sim.oracle(invocation).said
    assert (said["a"], said["b"]) == (("RUN", "failed"), ("RUN", "lost"))
    sim.go(fail=["a"])
    assert sim.oracle().said["a"] == ("SKIP", "failure handled")


def test_a_plan_that_says_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = Judged(dag(t("a", gives="v"), t("b", "a", "v")), {})
    sim.go()
    end = sim.history.latest("b")
    assert isinstance(end, End)
    sim.saw[end.start or ""].params["v"] = "another value"
    with pytest.raises(AssertionError, match="stale"):
        sim.plan()
    assert isinstance(sim.planner.plan(sim.history)["b"], Step)
