"""Design, section 3: the trigger comes first, whatever attempts a node has."""

from __future__ import annotations

import pytest

from tests.planning.build import Run, cond, t

OMIT_UP = ("OMIT", "upstream failed")
OMIT = ("OMIT", "trigger not met")

TABLE = [
    # upstream: s(ucceeded), f(ailed), u(pstream failed), n(ot taken); what each trigger makes of it
    ("s", "RUN", "RUN", OMIT, "RUN"),
    ("f", OMIT_UP, OMIT_UP, "RUN", "RUN"),
    ("u", OMIT_UP, OMIT_UP, "RUN", "RUN"),
    ("n", OMIT, OMIT, OMIT, "RUN"),
    ("ss", "RUN", "RUN", OMIT, "RUN"),
    ("sf", OMIT_UP, "RUN", "RUN", "RUN"),
    ("su", OMIT_UP, "RUN", "RUN", "RUN"),
    ("sn", OMIT, "RUN", OMIT, "RUN"),
    ("fn", OMIT_UP, OMIT_UP, "RUN", "RUN"),
    ("un", OMIT_UP, OMIT_UP, "RUN", "RUN"),
    ("nn", OMIT, OMIT, OMIT, "RUN"),
    ("sfn", OMIT_UP, "RUN", "RUN", "RUN"),
]


def run(upstream: str, trigger: str) -> Run:
    nodes = [t("root")]
    for i, what in enumerate(upstream):
        if what == "u":
            nodes += [t(f"bad{i}", "root"), t(f"up{i}", f"bad{i}")]
        elif what == "n":
            nodes.append(t(f"up{i}", "root", trigger="one_failed"))
        else:
            nodes.append(t(f"up{i}", "root"))
    ups = " ".join(f"up{i}" for i in range(len(upstream)))
    sim = Run(*nodes, t("it", ups, trigger=trigger))
    sim.go(fail=[f"up{i}" for i in range(9)] if "f" in upstream else [], skip=["it"])
    if "u" in upstream:
        sim = Run(*nodes, t("it", ups, trigger=trigger))
        sim.go(
            fail=[f"{'bad' if w == 'u' else 'up'}{i}" for i, w in enumerate(upstream) if w in "fu"],
            skip=["it"],
        )
    elif "f" in upstream:
        sim = Run(*nodes, t("it", ups, trigger=trigger))
        sim.go(fail=[f"up{i}" for i, w in enumerate(upstream) if w == "f"], skip=["it"])
    return sim


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_triggers(row: tuple[object, ...]) -> None:
    upstream = str(row[0])
    for trigger, expected in zip(
        ("all_success", "one_success", "one_failed", "all_done"), row[1:], strict=True
    ):
        sim = run(upstream, trigger)
        if expected == "RUN":
            assert sim.of("it") == ("RUN", "never ran"), trigger
        else:
            assert sim.of("it") == expected, trigger


@pytest.mark.parametrize("trigger", ["all_success", "one_success", "one_failed", "all_done"])
def test_a_node_waits_until_all_upstream_is_settled(trigger: str) -> None:
    sim = Run(t("a"), t("b"), t("slow"), t("it", "a b slow", trigger=trigger))
    sim.go(fail=["b"], skip=["slow"])
    assert sim.of("it") == ("WAIT", "upstream pending")


def test_a_node_that_is_not_triggered_is_omitted_whatever_attempts_it_has() -> None:
    sim = Run(t("a"), t("alert", "a", trigger="one_failed"))
    assert sim.go(fail=["a"]) == ["a", "alert"]
    assert sim.go() == ["a"]
    assert sim.of("alert") == ("OMIT", "trigger not met")


def test_what_needs_a_node_that_was_not_taken_is_not_taken() -> None:
    sim = Run(
        t("a"), t("alert", "a", trigger="one_failed"), t("b", "alert"), t("c", "b"),
        t("d", "c", trigger="one_success"), t("e", "d", trigger="all_done"),
    )  # fmt: skip
    sim.go()
    assert [sim.of(name) for name in "bcd"] == [OMIT] * 3
    assert sim.of("e") == ("SKIP", "succeeded")
    assert sim.last.status == "succeeded"


def test_branches_that_were_not_taken_say_so() -> None:
    sim = Run(cond("c", "x", branches={"1": [t("a")], "2": [t("b"), t("d", "b")]}), x=1)
    sim.go()
    assert sim.of("c:1/a") == ("SKIP", "succeeded")
    assert sim.of("c:2/b") == sim.of("c:2/d") == ("OMIT", "branch not taken")


def test_independent_parts_go_on_after_a_failure() -> None:
    sim = Run(t("a"), t("b", "a"), t("x"), t("y", "x"))
    assert sorted(sim.go(fail=["a"])) == ["a", "x", "y"]
    assert sim.last.status == "failed"
    assert sim.of("a") == ("FAILED", "failed in this invocation")


def test_an_alert_fires_on_a_failure_further_up_and_runs_again_for_a_new_one() -> None:
    sim = Run(t("a"), t("b", "a"), t("alert", "b", trigger="one_failed", config={}))
    assert sim.go(fail=["a"]) == ["a", "alert"]
    assert sim.go(fail=["a"]) == ["a", "alert"]
    assert sim.last.status == "failed"
