"""Design, section 8: a success counts only if it consumed what its upstream has now, by content."""

from __future__ import annotations

import pytest

from tests.planning.build import Run, blob, cond, loop, mp, par, t

STALE = ("RUN", "stale")


def test_early_cut_off() -> None:
    sim = Run(t("a", gives="x"), t("b", "a", "x"))
    sim.go()
    assert sim.go(force=["a"]) == ["a"]
    assert sim.of("b") == ("SKIP", "succeeded, and its upstream ran again with the same result")


def test_another_value_makes_what_read_it_stale_and_says_which() -> None:
    sim = Run(t("a", gives="x y"), t("b", "a", "x"), t("c", "a", "y"))
    sim.go()
    sim.give["a"] = {"x": "other"}
    sim.go(force=["a"], skip=["b"])
    assert sim.of("b") == STALE
    assert "'x'" in sim.last["b"].detail
    assert sim.last["b"].evidence is not None
    assert sim.of("c")[0] == "SKIP"  # y is what it was


def test_an_order_only_dependency_counts_by_its_values_else_by_its_end() -> None:
    sim = Run(t("a", gives="x"), t("none"), t("b", "a"), t("c", "none"))
    sim.go()
    assert sim.go(force=["a", "none"]) == ["a", "none", "c"]
    sim.give["a"] = {"x": 2}
    assert sim.go(force=["a"]) == ["a", "b"]


def test_also_when_whoever_ran_it_died_before_going_on() -> None:
    sim = Run(t("a"), t("b", "a"))
    sim.go()
    sim.go(force=["a"], die="b")
    assert sim.go() == ["b"]


def test_only_a_possible_source_is_no_order_only_dependency() -> None:
    # b surely gives x, so a is no source of it; the reader follows a for order.
    sim = Run(t("a", gives="x y"), t("b", "a", gives="x"), t("c", "a b", "x"))
    inside = par("p", "a b", branches={"l": [t("c", reads="x")]})
    nested = Run(t("a", gives="x y"), t("b", "a", gives="x"), inside)
    for run, path in ((sim, "c"), (nested, "p:l/c")):
        run.go()
        run.give["a"] = {"y": "other"}
        assert run.go(force=["a"]) == ["a", "b", path]


def test_a_name_that_the_item_binds_comes_from_no_upstream() -> None:
    # Outside the map `a` gives x, inside x is the item: what opens the body follows `a` for order.
    deep = par("p", branches={"l": [t("c", reads="x")]})
    choice = cond("q", "x", branches={"7": [t("d")]})
    sim = Run(
        t("a", gives="x y"), mp("m", "xs", "x", t("b", reads="x"), deep, choice, after="a"),
        xs=[7],
    )  # fmt: skip
    sim.go()
    sim.give["a"] = {"y": "other"}
    assert sorted(sim.go(force=["a"])) == ["a", "m[7]/b", "m[7]/p:l/c", "m[7]/q:7/d"]


@pytest.mark.parametrize("trigger", ["one_failed", "all_done"])
def test_one_failed_and_all_done_consume_every_upstream(trigger: str) -> None:
    sim = Run(t("a", gives="x y"), t("bad"), t("c", "a bad", "x", trigger=trigger))
    sim.go(fail=["bad"])
    sim.give["a"] = {"y": "other"}
    assert sim.go(force=["a"], fail=["bad"]) == ["a", "bad", "c"]
    assert "c" in sim.go(force=["a"], fail=["bad"])  # the failure of bad is a new one


def test_openers_have_the_composites_upstream() -> None:
    sim = Run(
        t("a"), mp("m", "xs", "x", t("b", reads="x"), t("c", "b"), after="a"),
        cond("k", "v", "a", branches={"1": [t("b")]}), par("p", "a", branches={"l": [t("b")]}),
        loop("lo", "d", t("b", gives="d"), after="a"), xs=[1], v=1,
    )  # fmt: skip
    sim.give["lo/b"] = {"d": True}
    openers = ["k:1/b", "lo@0/b", "m[1]/b", "p:l/b"]
    sim.go()
    ran = sim.go(force=["a"])
    assert sorted(ran) == sorted(["a", *openers, "m[1]/c"])


def test_less_what_the_item_and_the_choice_carry() -> None:
    sim = Run(
        t("src", gives="xs k"), mp("m", "xs", "x", t("b", reads="x"), after="src"),
        cond("c", "k", "src", branches={"1": [t("d")]}),
    )  # fmt: skip
    sim.give["src"] = {"xs": [1], "k": 1}
    sim.go()
    sim.give["src"] = {"xs": [2, 1], "k": 1}
    assert sim.go(force=["src"]) == ["src", "m[2]/b"]


def test_an_iteration_follows_the_one_before() -> None:
    sim = Run(loop("lo", "d", t("a"), t("b", "a", gives="d"), after=""))
    sim.give = {"lo@0/b": {"d": False}, "lo@1/b": {"d": True}}
    sim.go()
    assert sim.go(force=["lo@0/a"]) == ["lo@0/a", "lo@0/b", "lo@1/a", "lo@1/b"]


@pytest.mark.parametrize("how", ["parallel", "map", "conditional", "empty map", "loop"])
def test_also_where_a_composite_opens_it(how: str) -> None:
    inner = {
        "parallel": par("p", branches={"l": [t("a")]}),
        "map": mp("p", "xs", "x", t("a")),
        "conditional": cond("p", "one", branches={"1": [t("a")]}),
        "empty map": mp("p", "none", "x", t("a")),
        "loop": loop("p", "e", t("a", gives="e")),
    }[how]
    sim = Run(
        loop("lo", "d", inner, t("b", "p", gives="d"), t("z", gives="q")),
        xs=[1], one=1, none=[],
    )  # fmt: skip
    sim.give = {"lo@0/b": {"d": False}, "lo@1/b": {"d": True}, "lo/p/a": {"e": True}}
    sim.go()
    sim.give["lo@0/z"] = {"q": "other"}
    ran = sim.go(force=["lo@0/z"])
    assert "lo@1/b" in ran or how != "empty map"
    assert any(path.startswith("lo@1/p") for path in ran) or how == "empty map"


def test_an_empty_map_hides_nothing() -> None:
    sim = Run(t("a"), mp("m", "xs", "x", t("b"), after="a"), t("c", "m"), xs=[])
    sim.go()
    assert sim.go(force=["a"]) == ["a", "c"]


def test_an_omitted_node_hides_nothing_and_shows_no_older_record() -> None:
    sim = Run(t("a"), t("alert", "a", trigger="one_failed"), t("end", "alert", trigger="all_done"))
    sim.go(fail=["a"])
    assert sim.go() == ["a", "end"]
    assert sim.go(force=["a"]) == ["a", "end"]
    assert sim.go() == []


def test_cutoff_false_runs_whenever_anything_further_up_ran_again() -> None:
    eager = {"config": {"cutoff": False}}
    sim = Run(t("a", gives="x"), t("b", "a", "x", "y"), t("c", "b", "y", **eager))
    sim.go()
    assert sim.go(force=["a"]) == ["a", "c"]
    assert sim.go() == []
    # It is configuration: to take it away makes nothing stale.
    from tests.planning.build import dag

    sim.dag = dag(t("a", gives="x"), t("b", "a", "x", "y"), t("c", "b", "y"))
    assert sim.go() == []


def test_cutoff_false_sees_every_iteration_before_and_what_is_around() -> None:
    eager = t("e", config={"cutoff": False})
    body = [
        t("a", reads="i", gives="d"),
        cond("c", "i", "a", branches={"0": [], "1": [], "2": [eager]}),
    ]
    sim = Run(t("first", gives="f"), loop("lo", "d", *body, after="first", **{"as": "i"}))
    sim.give = {"lo/a": {"d": False}, "lo@2/a": {"d": True}, "first": {"f": 1}}
    sim.go()
    assert sim.go(force=["lo@0/a"]) == ["lo@0/a", "lo@2/c:2/e"]
    assert sim.go(force=["first"]) == ["first", "lo@2/c:2/e"]


def test_artifacts_count_by_content_and_are_no_order_only_dependency_then() -> None:
    sim = Run(t("a", gives="x"), t("b", "a"), t("c", "a"))
    sim.save["a"], sim.load["b"] = {"f.csv": "1"}, ["f.csv"]
    sim.go()
    sim.give["a"] = {"x": "other"}
    assert sim.go(force=["a"]) == ["a", "c"]  # b loaded f.csv, which is what it was
    sim.save["a"] = {"f.csv": "2"}
    sim.go(force=["a"], skip=["b", "c"])
    assert sim.of("b") == STALE
    assert "f.csv" in sim.last["b"].detail


def test_the_nearest_artifact_is_seen_and_two_of_a_name_are_not() -> None:
    sim = Run(t("a"), t("b", "a"), t("c", "b"), t("x"), t("d", "c x"))
    sim.save = {name: {"f": name} for name in "abx"}
    sim.go(skip=["c", "d"])
    assert sim.last["c"].work.artifacts()["f"] == (blob("b"), "b")  # type: ignore[union-attr]
    sim.go(skip=["d"])
    assert sim.last["d"].work.artifacts()["f"][1] == "?"  # type: ignore[union-attr]


def test_the_same_in_two_branches_and_after_a_node_that_follows_both() -> None:
    both = {"l": [t("a")], "r": [t("b")]}
    sim = Run(par("p", branches=both), t("c", "p"), t("over", "p"), t("d", "over p"))
    sim.save = {"p:l/a": {"f": "1"}, "p:r/b": {"f": "2"}, "over": {"f": "3"}}
    sim.go(skip=["c", "d"])
    assert sim.last["c"].work.artifacts()["f"][1] == "?"  # type: ignore[union-attr]
    assert sim.last["d"].work.artifacts()["f"] == (blob("3"), "over")  # type: ignore[union-attr]


def test_what_is_unclear_in_a_composite_is_hidden_by_none_that_does_not_follow_it() -> None:
    both = {"l": [t("a")], "r": [t("b")]}
    sim = Run(par("p", branches=both), t("x"), t("c", "p x"), t("y", "p"), t("d", "p y"))
    sim.save = {"p:l/a": {"f": "1"}, "p:r/b": {"f": "2"}, "x": {"f": "3"}, "y": {"f": "4"}}
    sim.go(skip=["c", "d"])
    assert sim.last["c"].work.artifacts()["f"][1] == "?"  # type: ignore[union-attr]
    assert sim.last["d"].work.artifacts()["f"] == (blob("4"), "y")  # type: ignore[union-attr]


def test_what_a_map_saved_is_addressed_with_the_item() -> None:
    sim = Run(mp("m", "xs", "x", t("a")), t("c", "m"), xs=[1, 2])
    sim.save["m/a"] = {"f": "1"}
    sim.go(skip=["c"])
    assert sorted(sim.last["c"].work.artifacts()) == ["m[1]/f", "m[2]/f"]  # type: ignore[union-attr]
