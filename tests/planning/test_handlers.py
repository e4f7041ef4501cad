"""Design, section 3: what a handler handles, and for how long a handled failure is settled."""

from __future__ import annotations

from tests.planning.build import Run, cond, loop, mp, par, t

HANDLES = {"trigger": "one_failed", "handles": True}
HANDLED = ("SKIP", "failure handled")


def test_a_handled_failure_is_settled_until_it_is_forced() -> None:
    sim = Run(t("a"), t("h", "a", **HANDLES))
    assert sim.go(fail=["a"]) == ["a", "h"]
    assert sim.last.status == "succeeded"
    assert sim.of("a") == HANDLED
    assert sim.go() == []
    assert sim.of("a") == HANDLED
    assert sim.go(force=["a"]) == ["a"]
    assert sim.of("h") == ("OMIT", "trigger not met")


def test_it_consumes_the_failure_so_a_new_one_is_handled_anew() -> None:
    sim = Run(t("a"), t("h", "a", **HANDLES))
    sim.go(fail=["a"])
    assert sim.go(force=["a"], fail=["a"]) == ["a", "h"]
    assert sim.last.status == "succeeded"


def test_a_handler_that_fails_handles_nothing() -> None:
    sim = Run(t("a"), t("h", "a", **HANDLES))
    assert sim.go(fail=["a", "h"]) == ["a", "h"]
    assert sim.last.status == "failed"
    assert sim.go() == ["a"]
    assert sim.of("h") == ("OMIT", "trigger not met")
    assert sim.last.status == "succeeded"


def test_the_latest_attempt_of_the_handler_decides() -> None:
    sim = Run(t("a"), t("h", "a", **HANDLES))
    sim.go(fail=["a"])
    assert sim.go(force=["h"], fail=["h", "a"]) == ["h", "a", "h"][: len(sim.ran)]
    assert sim.last.status == "failed"


def test_while_a_handler_is_in_progress_what_it_handles_waits() -> None:
    sim = Run(t("a"), t("h", "a", **HANDLES), t("other", "a", trigger="one_failed"))
    sim.go(fail=["a"], die="h")
    assert sim.of("a") == ("WAIT", "in progress elsewhere")
    assert sim.of("h")[0] == "WAIT"
    # The handler is dead, so nothing was handled: the step runs again.
    assert sim.go() == ["a"]


def test_a_handler_that_is_stale_runs_again_and_the_failure_stays_settled() -> None:
    sim = Run(t("src", gives="v"), t("a", "src"), t("h", "a src", "v", **HANDLES))
    sim.give["src"] = {"v": 1}
    sim.go(fail=["a"])
    sim = Run(t("src", gives="v"), t("a"), t("h", "a src", "v", **HANDLES))
    sim.give["src"] = {"v": 1}
    sim.go(fail=["a"])
    sim.give["src"] = {"v": 2}
    assert sim.go(force=["src"]) == ["src", "h"]
    assert sim.of("a") == HANDLED


def test_a_failure_that_consumed_something_else_is_reopened() -> None:
    sim = Run(t("src", gives="v"), t("a", "src", "v"), t("h", "a", **HANDLES))
    sim.give["src"] = {"v": 1}
    sim.go(fail=["a"])
    sim.give["src"] = {"v": 2}
    assert sim.go(force=["src"]) == ["src", "a"]
    assert sim.last.status == "succeeded"


def test_it_handles_what_made_a_listed_node_upstream_failed() -> None:
    sim = Run(t("a"), t("b", "a"), t("c", "b"), t("h", "c", **HANDLES))
    assert sim.go(fail=["a"]) == ["a", "h"]
    assert sim.last.status == "succeeded"
    assert sim.of("c") == ("OMIT", "upstream failed")


def test_also_by_way_of_a_value_that_is_missing() -> None:
    # x runs whatever comes of a; b lacks what a did not give, so a's failure is why it cannot run.
    sim = Run(
        t("a", gives="v"), t("x", "a", trigger="all_done"), t("b", "x", "v"),
        t("h", "b", **HANDLES),
    )  # fmt: skip
    assert sim.go(fail=["a"]) == ["a", "x", "h"]
    assert sim.of("b") == ("OMIT", "upstream failed")
    assert sim.of("a") == HANDLED
    assert sim.last.status == "succeeded"
    assert sim.go() == []


def test_a_failure_it_does_not_list_stays() -> None:
    sim = Run(t("a"), t("z"), t("h", "a", **HANDLES))
    sim.go(fail=["a", "z"])
    assert sim.last.status == "failed"
    assert sim.go() == ["z"]


def test_a_composite_handler_counts_when_all_in_it_is_settled_well() -> None:
    sim = Run(t("a"), par("h", "a", branches={"l": [t("x")], "r": [t("y")]}, **HANDLES))
    sim.go(fail=["a", "h:r/y"])
    assert sim.last.status == "failed"
    assert sorted(sim.go(fail=["a"])) == ["a", "h:l/x", "h:r/y"]
    assert sim.last.status == "succeeded"
    assert sim.go() == []
    assert sim.of("a") == HANDLED


def test_a_composite_handler_in_progress_holds_what_it_handles() -> None:
    sim = Run(t("a"), par("h", "a", branches={"l": [t("x")]}, **HANDLES))
    sim.go(fail=["a"], die="h:l/x")
    assert sim.of("a") == ("WAIT", "in progress elsewhere")


def test_a_handler_deep_in_a_composite_handler_consumes_the_failure_too() -> None:
    # x reads what a gives when it succeeds; only the failure itself tells it of a new one.
    inner = par("p", branches={"l": [mp("m", "xs", "i", t("x", reads="v i"))]})
    sim = Run(
        t("a", gives="v"), par("h", "a", branches={"b": [inner]}, **HANDLES), v=0, xs=[1]
    )  # fmt: skip
    again = ["a", "h:b/p:l/m[1]/x"]
    assert sim.go(fail=["a"]) == again
    assert sim.go(force=["a"], fail=["a"]) == again


def test_a_composite_that_was_handled_is_left_alone_on_a_retry() -> None:
    for it in (
        mp("it", "xs", "x", t("b", reads="x")),
        par("it", branches={"l": [t("b")], "r": [t("c")]}),
        cond("it", "v", branches={"1": [t("b")]}),
        loop("it", "d", t("b", gives="d")),
    ):
        sim = Run(it, t("h", "it", **HANDLES), xs=[1, 2], v=1)
        sim.give["it/b"] = {"d": True}
        bad = {"map": "it[1]/b", "parallel": "it:l/b", "conditional": "it:1/b", "loop": "it@0/b"}
        sim.go(fail=[bad[it["kind"]]])
        assert sim.last.status == "succeeded", it["kind"]
        assert sim.of("it") == sim.of(bad[it["kind"]]) == HANDLED
        assert sim.go() == []
        assert sim.go(force=["it"])[0].startswith("it")
        assert sim.of("h") == ("OMIT", "trigger not met")


def test_handlers_nest() -> None:
    body = par("p", branches={"b": [t("a"), t("h", "a", **HANDLES), t("z")]})
    sim = Run(body, t("outer", "p", **HANDLES), t("after", "p", trigger="one_success"))
    sim.go(fail=["p:b/a"])
    assert sim.of("p") == ("SKIP", "succeeded")
    assert sim.of("p:b/a") == HANDLED
    assert sim.of("outer") == ("OMIT", "trigger not met")
    sim.go(force=["p:b/z"], fail=["p:b/z"])
    assert sim.last.status == "succeeded"
    assert sim.of("p") == sim.of("p:b/z") == HANDLED
    assert sim.go() == []


def test_a_chain_of_handlers() -> None:
    sim = Run(t("a"), t("h1", "a", **HANDLES), t("h2", "h1", **HANDLES))
    assert sim.go(fail=["a", "h1"]) == ["a", "h1", "h2"]
    # h2 handled h1's failure, which leaves a's unhandled.
    assert sim.last.status == "failed"
    assert sim.of("h1") == HANDLED


def test_looking_ahead_makes_nothing_again() -> None:
    # The handler is not to run, so what it might load is not wanted: only `a` is.
    from tests.planning.build import blob

    sim = Run(t("made", gives="v"), t("a"), t("h", "a made", "v", **HANDLES))
    sim.give["made"] = {"v": blob("large")}
    sim.go(fail=["a"], skip=["h"])
    sim.history.missing.add(blob("large").sha256)
    sim.last = sim.plan(sim.invoke())
    assert sim.of("a") == ("RUN", "failed")
    assert sim.of("made") == ("SKIP", "succeeded")
