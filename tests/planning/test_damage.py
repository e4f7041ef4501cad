"""Records that cannot be read, and outputs that are missing from the store."""

from __future__ import annotations

import pytest

from runstore.paths import NodePath, Segment
from runstore.plan import Plan, Planner
from runstore.plan.history import Damaged, History
from runstore.records import End
from runstore.records.keys import encode
from tests.planning.build import Run, blob, cond, loop, mp, t


def damaged(path: str, number: int, kind: str) -> Damaged:
    return Damaged("key", "does not match its digest", path, number, kind)


def unreadable_latest(path: str, number: int, kind: str) -> Damaged:
    return Damaged("key", "is empty", None, number, kind, encode(path))


def planned(sim: Run, *more: Damaged) -> Plan:
    for record in more:
        sim.history.add(record)
    return sim.plan()


@pytest.mark.parametrize("make", [damaged, unreadable_latest])
def test_a_damaged_end_is_an_end_that_did_not_succeed(make: object) -> None:
    sim = Run(t("a"), t("b", "a"))
    sim.go()
    step = planned(sim, make("a", 2, "end"))["a"]  # type: ignore[operator]
    assert (step.action, step.reason) == ("RUN", "output missing or damaged")
    assert step.work is not None
    assert step.work.number == 3
    assert step.evidence is not None
    assert step.evidence[1:] == (2, "damaged", "")


@pytest.mark.parametrize("make", [damaged, unreadable_latest])
def test_a_damaged_start_is_an_attempt_in_progress(make: object) -> None:
    sim = Run(t("a"))
    sim.go()
    step = planned(sim, make("a", 2, "start"))["a"]  # type: ignore[operator]
    assert (step.action, step.reason) == ("WAIT", "in progress elsewhere")


@pytest.mark.parametrize("make", [damaged, unreadable_latest])
def test_an_end_says_more_than_what_is_damaged_of_its_attempt(make: object) -> None:
    sim = Run(t("a"))
    sim.go()
    assert planned(sim, make("a", 1, "start"))["a"].reason == "succeeded"  # type: ignore[operator]


@pytest.mark.parametrize("make", [damaged, unreadable_latest])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_damaged_records_of_an_attempt_the_end_counts(make: object, turned: bool) -> None:
    sim = Run(t("a"))
    both = [make("a", 1, kind) for kind in ("start", "end")]  # type: ignore[operator]
    step = planned(sim, *(reversed(both) if turned else both))["a"]
    assert (step.action, step.reason) == ("RUN", "output missing or damaged")


@pytest.mark.parametrize("make", [damaged, unreadable_latest])
def test_a_damaged_end_closes_the_attempt_that_began(make: object) -> None:
    sim = Run(t("a"))
    sim.go(die="a")
    step = planned(sim, make("a", 1, "end"))["a"]  # type: ignore[operator]
    assert (step.action, step.reason) == ("RUN", "output missing or damaged")


def test_a_long_path_is_found_by_its_key_alone() -> None:
    item = "x" * 300
    path = str(NodePath((Segment.for_item("m", item), Segment("b"))))
    sim = Run(mp("m", "xs", "x", t("b")), xs=[item])
    sim.go()
    step = planned(sim, unreadable_latest(path, 2, "end"))[path]
    assert step.action == "RUN"
    assert step.work is not None
    assert step.work.number == 3


def test_a_damaged_handler_handles_nothing() -> None:
    sim = Run(t("a"), t("h", "a", trigger="one_failed", handles=True))
    sim.go(fail=["a"])
    assert planned(sim, unreadable_latest("h", 2, "end"))["a"].action == "RUN"


def test_a_fork_is_not_served_what_it_took_over_if_its_own_attempt_is_damaged() -> None:
    sim = Run(t("a"))
    sim.go()
    end = sim.history.latest("a")
    assert isinstance(end, End)
    history = History(sim.history.run)
    history.adopt(end)
    assert Planner(sim.dag).plan(history)["a"].action == "SKIP"
    history.add(unreadable_latest("a", 1, "end"))
    assert Planner(sim.dag).plan(history)["a"].action == "RUN"


# -- missing blobs ---------------------------------------------------------------------------------


def lose(sim: Run, content: str) -> None:
    sim.history.missing.add(blob(content).sha256)


def test_a_missing_output_is_made_again_if_something_to_run_may_need_it() -> None:
    sim = Run(t("a", gives="v"), t("b", "a", "v"), t("c", "b"))
    sim.give["a"] = {"v": blob("1")}
    sim.go(skip=["c"])
    lose(sim, "1")
    assert [sim.plan()[p].action for p in "abc"] == ["RUN", "WAIT", "WAIT"]
    assert sim.plan()["a"].reason == "output missing or damaged"


def test_it_is_not_missed_by_what_is_done() -> None:
    sim = Run(t("a", gives="v"), t("b", "a", "v"), t("x"))
    sim.give["a"] = {"v": blob("1")}
    sim.go(skip=["x"])
    lose(sim, "1")
    assert [sim.plan()[p].action for p in ("a", "b", "x")] == ["SKIP", "SKIP", "RUN"]


def test_to_make_it_again_others_may_have_to_be_made_again() -> None:
    sim = Run(t("a", gives="v"), t("b", "a", "v", "w"), t("c", "b", "w"))
    sim.give = {"a": {"v": blob("1")}, "b": {"w": blob("2")}}
    sim.go(skip=["c"])
    lose(sim, "1")
    lose(sim, "2")
    assert [sim.plan()[p].action for p in "abc"] == ["RUN", "WAIT", "WAIT"]


def test_artifacts_in_composites_and_around_them() -> None:
    sim = Run(mp("m", "xs", "x", t("a"), t("b", "a")), t("c", "m"), xs=[1, 2])
    sim.save["m/a"] = {"f": "1"}
    sim.go(skip=["c", "m[2]/b"])
    lose(sim, "1")
    acts = {step.path: step.action for step in sim.plan().steps if step.kind == "task"}
    assert acts["m[2]/a"] == "RUN"
    assert acts["m[1]/a"] == "SKIP"  # nothing that is to run yet can load that one


def test_an_iteration_before() -> None:
    sim = Run(loop("lo", "d", t("a", reads="w", gives="w d")), w=0)
    sim.give = {"lo@0/a": {"w": blob("1"), "d": False}}
    sim.go(die="lo@1/a")
    sim.invoke()
    lose(sim, "1")
    assert sim.plan()["lo@0/a"].reason == "output missing or damaged"


@pytest.mark.parametrize("kind", ["map", "conditional"])
def test_a_deciding_value_that_is_missing(kind: str) -> None:
    it = mp("it", "v", "x", t("b")) if kind == "map" else cond("it", "v", branches={"1": [t("b")]})
    sim = Run(t("a", gives="v"), {**it, "after": ["a"]})
    sim.give["a"] = {"v": blob("[1]")}
    sim.go()
    expected = {"map": "items unknown", "conditional": "branch undecided"}[kind]
    assert sim.of("it") == ("WAIT", expected)  # it was not read
    lose(sim, "[1]")
    assert sim.plan()["a"].reason == "output missing or damaged"


def test_items_that_stand_in_blobs_at_any_depth() -> None:
    inner = mp("n", "ys", "y", t("a", gives="z"))
    sim = Run(mp("m", "xs", "x", inner), mp("o", "z", "zs", t("b", reads="zs"), after="m"),
              xs=[1], ys=[1])  # fmt: skip
    sim.give["m/n/a"] = {"z": blob("7")}
    sim.history.values[blob("7").sha256] = 7
    assert sim.go() == ["m[1]/n[1]/a", "o[[7]]/b"]
