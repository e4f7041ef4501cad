"""Design, section 3: only what failed can be handled. What was lost or cancelled runs again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runstore.plan import Planner, Reason
from tests.planning.build import Run, cond, g, loop, mp, par, t

HANDLES: Mapping[str, Any] = {"trigger": "one_failed", "handles": True}
HANDLED = ("SKIP", "failure handled")

TASK = t("h", "a b", **HANDLES)
NOTHING_TO_DO = cond("h", "notify", "a b", branches={"yes": [t("tell")], "no": []}, **HANDLES)
EMPTY = par("h", "a b", branches={}, **HANDLES)


def interrupt(sim: Run, path: str, outcome: str, fail: str = "a") -> None:
    """An invocation in which ``fail`` fails and ``path`` is lost or cancelled, after all else."""
    sim.go(fail=[fail], die=path)
    (start,) = sim.history.open()
    sim.end(start, outcome, {})


@pytest.mark.parametrize("outcome", ["lost", "cancelled"])
@pytest.mark.parametrize("handler", [TASK, NOTHING_TO_DO, EMPTY], ids=["task", "choice", "empty"])
def test_what_was_interrupted_runs_again(handler: dict[str, Any], outcome: str) -> None:
    sim = Run(t("a"), t("b", gives="r"), handler, notify="no")
    interrupt(sim, "b", outcome)
    assert sorted(sim.go()) == ["a", "b"]
    assert sim.last.status == "succeeded"
    assert sim.last.values["r"] == "b"
    assert sim.go() == []


@pytest.mark.parametrize("outcome", ["lost", "cancelled"])
@pytest.mark.parametrize("handler", [TASK, NOTHING_TO_DO, EMPTY], ids=["task", "choice", "empty"])
def test_within_its_invocation_it_is_settled_and_not_handled(
    handler: dict[str, Any], outcome: str
) -> None:
    sim = Run(t("a"), t("b", gives="r"), handler, notify="no")
    interrupt(sim, "b", outcome)
    sim.last = sim.plan(sim.invocation)
    for step in sim.last.ready:  # the task, which handles what failed
        sim.finish(step, sim.begin(step, sim.invocation))
    sim.last = sim.plan(sim.invocation)
    assert sim.of("a") == HANDLED
    assert sim.of("b") == ("FAILED", "failed in this invocation")
    assert outcome in sim.last["b"].detail
    assert sim.last.status == "failed"
    # A later one leaves alone what a task has handled; a composite counts when all in it can.
    ran = sim.go()
    assert "b" in ran
    assert sim.last.status == "succeeded"
    assert sim.last.values["r"] == "b"
    assert ("a" in ran) == (handler is not TASK)


INSIDE = {
    "map": (mp("c", "xs", "x", t("i", reads="x")), "c[1]/i", "c[2]/i"),
    "parallel": (par("c", branches={"l": [t("i")], "r": [t("j")]}), "c:l/i", "c:r/j"),
    "conditional": (cond("c", "one", branches={"1": [t("i"), t("j")]}), "c:1/i", "c:1/j"),
    "loop": (loop("c", "d", t("i"), t("j", gives="d")), "c@0/i", "c@0/j"),
    "nested": (
        par("c", branches={"b": [mp("m", "xs", "x", t("i", reads="x"))]}),
        "c:b/m[1]/i",
        "c:b/m[2]/i",
    ),
}


@pytest.mark.parametrize("outcome", ["lost", "cancelled"])
@pytest.mark.parametrize("handler", ["task", "empty"])
@pytest.mark.parametrize("how", INSIDE)
def test_a_composite_is_not_handled_while_something_in_it_was_interrupted(
    how: str, handler: str, outcome: str
) -> None:
    composite, failed, interrupted = INSIDE[how]
    tail = {"task": t("h", "c", **HANDLES), "empty": par("h", "c", branches={}, **HANDLES)}
    sim = Run(composite, tail[handler], xs=[1, 2], one=1)
    sim.give["c/j"] = {"d": True}
    interrupt(sim, interrupted, outcome, failed)
    # In the invocation in which it happened.
    for step in sim.plan(sim.invocation).ready:
        sim.finish(step, sim.begin(step, sim.invocation))
    plan = sim.plan(sim.invocation)
    assert plan.status == "failed"
    assert all(step.reason is not Reason.HANDLED for step in plan)
    assert sorted(sim.go()) == [failed, interrupted]
    assert sim.last.status == "succeeded"


def test_nor_by_a_handler_inside_that_handles_what_failed_beside_it() -> None:
    body = [t("a"), t("b"), t("h", "a b", **HANDLES)]
    sim = Run(par("p", branches={"b": body}), par("outer", "p", branches={}, **HANDLES))
    sim.go(fail=["p:b/a"], skip=["p:b/h"], die="p:b/b")
    assert sorted(sim.go(fail=["p:b/a"])) == ["p:b/a", "p:b/b", "p:b/h"]
    assert sim.last.status == "succeeded"
    assert sim.of("p") == ("SKIP", "succeeded")


def test_what_is_upstream_failed_because_of_it_is_run_too() -> None:
    sim = Run(t("b"), t("c", "b", gives="r"), par("h", "c", branches={}, **HANDLES))
    sim.go(die="b")
    (start,) = sim.history.open()
    sim.end(start, "cancelled", {})
    assert sim.plan(sim.invocation).status == "failed"
    assert sim.go() == ["b", "c"]
    assert sim.last.status == "succeeded"


@pytest.mark.parametrize("trigger", ["all_done", "one_failed"])
def test_what_follows_it_waits_until_it_ran(trigger: str) -> None:
    sim = Run(t("b"), t("c", "b", trigger=trigger), t("d", "c", trigger="all_done"))
    sim.go(die="b")
    sim.invoke()
    assert {step.path: step.action.value for step in sim.plan()} == {
        "b": "RUN", "c": "WAIT", "d": "WAIT",
    }  # fmt: skip


def test_a_handler_that_was_interrupted_handled_nothing() -> None:
    for handler in (t("h", "a", **HANDLES), par("h", "a", branches={"l": [t("x")]}, **HANDLES)):
        sim = Run(t("a"), handler)
        sim.go(fail=["a"], die="h" if handler["kind"] == "task" else "h:l/x")
        assert sim.go() == ["a"]
        assert sim.last.status == "succeeded"


def test_a_handled_failure_stays_settled_beside_what_was_lost() -> None:
    sim = Run(t("a"), t("z"), t("h", "a", **HANDLES))
    sim.go(fail=["a"], die="z")
    assert sim.go() == ["z"]
    assert sim.of("a") == HANDLED
    assert sim.last.status == "succeeded"


def test_the_same_in_a_run_that_took_over_the_failure() -> None:
    # A fork takes over handled failures; it cannot take over what was lost.
    sim = Run(t("a"), t("b"), NOTHING_TO_DO, notify="no")
    interrupt(sim, "b", "lost")
    sim.invoke()
    handled = [s.path for s in Planner(sim.dag).plan(sim.history) if s.reason is Reason.HANDLED]
    assert handled == []


def test_a_loop_goes_on_after_an_iteration_that_was_lost() -> None:
    body = g(t("a"), t("h", "a", **HANDLES), t("b", gives="d"))["nodes"]
    sim = Run(loop("lo", "d", *body), par("h", "lo", branches={}, **HANDLES))
    sim.give = {"lo@0/b": {"d": False}, "lo@1/b": {"d": True}}
    sim.go(fail=["lo@0/a"], die="lo@1/b")
    assert sim.go() == ["lo@1/b"]
    assert sim.last.status == "succeeded"
