"""Design, section 3: what holds a failure that a handler is at, and until when a handler counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runstore.plan import Planner
from runstore.plan.history import Damaged
from runstore.records.keys import encode
from tests.planning.build import Run, cond, mp, par, t

HANDLES: Mapping[str, Any] = {"trigger": "one_failed", "handles": True}
HANDLED = ("SKIP", "failure handled")
HELD = ("WAIT", "in progress elsewhere")


def begin(sim: Run, path: str) -> Any:
    """Somebody begins an attempt, and is at it from now on."""
    step = next(s for s in sim.plan(sim.invocation).ready if s.path == path)
    return sim.begin(step, sim.invocation)


def retry(sim: Run, *alive: str, force: list[str] | None = None) -> None:
    """The next invocation begins; those at the paths named are not dead."""
    sim.invocation = sim.invoke(force or [], alive=alive)
    sim.last = sim.plan(sim.invocation)


def test_a_composite_holds_what_it_handles_while_it_waits_for_what_was_lost() -> None:
    sim = Run(t("a"), t("b"), par("h", "a b", branches={"l": [t("x")]}, **HANDLES))
    sim.invocation = sim.invoke()
    a, b = begin(sim, "a"), begin(sim, "b")
    sim.end(a, "failed", {})
    sim.end(b, "lost", {})
    x = begin(sim, "h:l/x")
    retry(sim, "h:l/x")
    assert [sim.of(path) for path in ("a", "b")] == [HELD, ("RUN", "lost")]
    sim.end(x, "succeeded", {})
    sim.last = sim.plan(sim.invocation)
    # Now nobody is at it; and not all in it is settled well, since it waits for b.
    assert [sim.of(path)[0] for path in ("a", "b", "h:l/x")] == ["RUN", "RUN", "WAIT"]


@pytest.mark.parametrize("after", ["x", ""])
def test_a_composite_holds_while_any_step_in_it_is_in_progress(after: str) -> None:
    inner = [t("x"), t("y", after), t("z", "y")]
    sim = Run(t("a"), par("h", "a", branches={"b": [par("p", branches={"l": inner})]}, **HANDLES))
    sim.invocation = sim.invoke()
    sim.end(begin(sim, "a"), "failed", {})
    sim.end(begin(sim, "h:b/p:l/x"), "succeeded", {})
    y = begin(sim, "h:b/p:l/y")
    retry(sim, "h:b/p:l/y", force=["h:b/p:l/x"])
    assert sim.of("a") == HELD
    sim.end(y, "lost", {})
    assert sim.plan(sim.invocation)["a"].action == "RUN"


def test_an_item_that_fell_out_of_the_list_still_holds() -> None:
    sim = Run(t("a"), mp("h", "xs", "x", t("i", reads="x"), after="a", **HANDLES), xs=[1, 2])
    sim.invocation = sim.invoke()
    sim.end(begin(sim, "a"), "failed", {})
    sim.end(begin(sim, "h[1]/i"), "succeeded", {})
    begin(sim, "h[2]/i")
    sim.history.run.parameters["xs"] = [1]
    assert sim.plan(sim.invocation)["a"].action == "WAIT"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_torn_start_of_a_handler_holds_all_that_it_may_be_at(inside: bool, named: bool) -> None:
    handler = (
        par("h", "a", branches={"l": [t("x")]}, **HANDLES) if inside else t("h", "a", **HANDLES)
    )
    path = "h:l/x" if inside else "h"
    sim = Run(t("a"), handler)
    sim.go(fail=["a"], skip=[path])
    torn = Damaged("key", "is torn", path, 1, "start")
    if not named:
        torn = Damaged("key", "is torn", None, 1, "start", encode(path))
    sim.history.add(torn)
    retry(sim)
    assert sim.of("a") == HELD
    sim.history.add(Damaged("key", "is torn", path, 1, "end"))
    assert sim.plan(sim.invocation)["a"].action == "RUN"


def test_a_composite_does_not_count_while_it_waits_for_what_nobody_handled() -> None:
    # c is to be made again behind z; so nobody knows whether all in h is settled well.
    for inside in ([], [t("x")]):
        sim = Run(
            t("a"), t("z"), t("c", "z", trigger="all_done"),
            par("h", "a c", branches={"l": inside}, **HANDLES),
        )  # fmt: skip
        sim.go(fail=["a", "z"])
        assert sim.of("a") == HANDLED
        retry(sim)
        assert [sim.of(path)[0] for path in "azc"] == ["RUN", "RUN", "WAIT"]


def test_nor_one_that_waits_for_what_such_a_one_would_have_settled() -> None:
    # h2 waits for a by way of c; a is to run, since h1 waits for z.
    sim = Run(
        t("a"), t("b"), t("z"), t("d", "z", trigger="all_done"), t("c", "a", trigger="all_done"),
        par("h1", "a d", branches={}, **HANDLES), par("h2", "b c", branches={}, **HANDLES),
    )  # fmt: skip
    sim.go(fail=["a", "b", "z"])
    assert [sim.of(path) for path in "ab"] == [HANDLED, HANDLED]
    retry(sim)
    assert [sim.of(path)[0] for path in ("a", "b", "z")] == ["RUN", "RUN", "RUN"]
    # Of a part of the run the same is said.
    for path in ("a", "b", "z"):
        part = Planner(sim.dag).plan(sim.history, sim.invocation, paths=[path])
        assert part[path].action == "RUN"


def test_of_a_part_the_same_is_said_when_another_handler_decides() -> None:
    # Whether a is handled rests on h, which waits for z unless k handled that.
    sim = Run(
        t("a"), t("z"), t("c", "z", trigger="all_done"),
        par("h", "a c", branches={"l": [t("x")]}, **HANDLES), t("k", "z", **HANDLES),
    )  # fmt: skip
    sim.go(fail=["a", "z"])
    assert sim.last.status == "succeeded"
    assert sim.go() == []
    for path in ("a", "z"):
        assert Planner(sim.dag).plan(sim.history, paths=[path])[path].reason == "failure handled"


def test_while_one_handler_is_at_a_failure_a_composite_behind_it_does_not_count() -> None:
    sim = Run(t("a"), t("d"), t("h1", "a", **HANDLES), par("h2", "a d", branches={}, **HANDLES))
    sim.invocation = sim.invoke()
    sim.end(begin(sim, "a"), "failed", {})
    sim.end(begin(sim, "d"), "failed", {})
    h1 = begin(sim, "h1")
    sim.last = sim.plan(sim.invocation)
    assert [sim.of("a"), sim.of("d")[0]] == [HELD, "FAILED"]
    sim.end(h1, "succeeded", {})
    sim.last = sim.plan(sim.invocation)
    assert [sim.of("a"), sim.of("d")] == [HANDLED, HANDLED]


def test_what_was_handled_by_way_of_a_node_stays_settled_when_that_node_is_to_run() -> None:
    # g is forced, so c may get what it needs; that is no reason to run f, which h has handled.
    sim = Run(t("f"), t("g"), t("c", "f g", trigger="one_success"), t("h", "c", **HANDLES))
    assert sorted(sim.go(fail=["f", "g"])) == ["f", "g", "h"]
    assert sorted(sim.go(force=["g"])) == ["c", "g"]
    assert sim.of("f") == HANDLED
    assert sim.of("h") == ("OMIT", "trigger not met")
    assert sim.last.status == "succeeded"


def test_a_choice_that_has_nothing_to_do_any_more_handles_at_once() -> None:
    tell = cond("h", "notify", "a s", branches={"yes": [t("tell")], "no": []}, **HANDLES)
    sim = Run(t("s", gives="notify"), t("a"), tell)
    sim.give = {"s": {"notify": "yes"}}
    sim.go(fail=["a", "h:yes/tell"])
    assert sim.last.status == "failed"
    sim.give = {"s": {"notify": "no"}}
    assert sim.go(force=["s"]) == ["s"]
    assert sim.of("a") == HANDLED
    assert sim.last.status == "succeeded"
    assert sim.go() == []
