"""Design, section 8: what to run again although it succeeded, and where to stop."""

from __future__ import annotations

import pytest

from runstore.errors import ForceError
from runstore.plan import expand, select
from tests.planning.build import Run, cond, loop, mp, par, t


def nested() -> Run:
    sim = Run(
        t("a"),
        mp("m", "xs", "x", t("b", reads="x", gives="y"), t("c", "b", "y", "z")),
        par("p", branches={"l": [t("d", gives="q")], "r": [t("e", gives="w")]}),
        cond("k", "v", branches={"1": [t("f", gives="u")]}),
        t("end", "m p", "z"),
        xs=["a*", "ab", "a/b"], v=1,
    )  # fmt: skip
    sim.go()
    return sim


@pytest.mark.parametrize(("pattern", "runs"), [
    ("a", ["a"]),
    ('m["ab"]/c', ['m["ab"]/c']),
    ("m/c", ['m["a*"]/c', 'm["a/b"]/c', 'm["ab"]/c']),
    ("p", ["p:l/d", "p:r/e"]),
    ("p:l", ["p:l/d"]),
    ('m["ab"]', ['m["ab"]/b', 'm["ab"]/c']),
    ('m["a*"]/c', ['m["a*"]/c']),  # an exact path is tried first
    ('m["a?"]/c', ['m["a*"]/c', 'm["ab"]/c']),
    ('m["*"]/c', ['m["a*"]/c', 'm["a/b"]/c', 'm["ab"]/c']),
    ("*/d", ["p:l/d"]),
    ("m/?", ['m["a*"]/b', 'm["a*"]/c', 'm["a/b"]/b', 'm["a/b"]/c', 'm["ab"]/b', 'm["ab"]/c']),
    ("p:?", ["p:l/d", "p:r/e"]),  # a glob that matches a composite, or a branch: all in it
    ("k*", ["k:1/f"]),
    ("m/b+", ['m["a*"]/b', 'm["a*"]/c', 'm["a/b"]/b', 'm["a/b"]/c', 'm["ab"]/b', 'm["ab"]/c',
              "end"]),
    ('m["ab"]/b+', ['m["ab"]/b', 'm["ab"]/c', "end"]),
    ("p:l/d+", ["p:l/d", "end"]),
    ("*r/e+", ["p:r/e", "end"]),
])  # fmt: skip
def test_patterns(pattern: str, runs: list[str]) -> None:
    assert sorted(nested().go(force=[pattern])) == sorted(runs)


@pytest.mark.parametrize("pattern", [
    "nothing", "m[1]", 'm["zz"]/b', "p:x", "zz*", "", "+", "nothing+", "[", 'm["', "p:l/d/x",
    "m@0/b",
])  # fmt: skip
def test_what_matches_nothing_is_an_error_that_names_it(pattern: str) -> None:
    sim = nested()
    with pytest.raises(ForceError) as caught:
        sim.go(force=[pattern])
    assert repr(pattern) in str(caught.value)
    assert caught.value.pattern == pattern  # type: ignore[attr-defined]


def test_a_force_is_recorded_with_the_latest_attempt_of_each_path() -> None:
    sim = nested()
    sim.go(force=["a"])
    assert dict(sim.history.forces) == {"a": 1}
    assert expand(["a", "p"], sim.dag, sim.history, sim.plan()) == {"a": 2, "p:l/d": 1, "p:r/e": 1}


def test_what_never_ran_needs_no_force() -> None:
    sim = Run(t("a"), t("b", "a"))
    sim.go(fail=["a"])
    assert expand(["b", "a"], sim.dag, sim.history, sim.plan()) == {"a": 1}


def test_a_force_outlives_a_crash() -> None:
    sim = nested()
    sim.go(force=["a", "p"], die="a")
    assert sorted(sim.ran) == ["a", "p:l/d", "p:r/e"]
    assert sim.go() == ["a"]
    sim.go(force=["m/b+"], skip=["end"])
    assert sim.of("end") == ("RUN", "forced")
    assert sim.go() == ["end"]
    assert sim.go() == []


def test_names_that_need_escaping() -> None:
    sim = Run(t("a*b"), t("a+"), t("axb"), t("x/y"))
    sim.go()
    assert sim.go(force=["a%2Ab"]) == ["a%2Ab"]
    assert sorted(sim.go(force=["a*b"])) == ["a%2Ab", "axb"]
    assert sim.go(force=["a%2B"]) == ["a%2B"]
    assert sim.go(force=["x%2Fy"]) == ["x%2Fy"]


def test_after_a_path_come_the_later_iterations() -> None:
    sim = Run(
        loop("lo", "d", t("s", reads="i"), t("u", "s", "i", "d"), **{"as": "i"}), t("z", "lo")
    )
    sim.give = {"lo/u": {"d": False}, "lo@2/u": {"d": True}}
    sim.go()
    assert sim.go(force=["lo@1/u+"]) == ["lo@1/u", "lo@2/s", "lo@2/u", "z"]
    assert sim.go(force=["lo@1/s"]) == ["lo@1/s", "lo@1/u", "lo@2/s", "lo@2/u", "z"][: len(sim.ran)]


def test_a_changed_choice_leaves_records_that_may_still_be_forced() -> None:
    sim = Run(t("a", gives="v"), cond("k", "v", "a", branches={"1": [t("b")], "2": [t("c")]}))
    sim.give["a"] = {"v": 1}
    sim.go()
    sim.give["a"] = {"v": 2}
    assert sim.go(force=["a"]) == ["a", "k:2/c"]
    assert sim.go(force=["k:1/b"]) == []


def chosen(sim: Run, *, only: tuple[str, ...] = (), until: tuple[str, ...] = ()) -> set[str]:
    test = select(only, until, sim.dag, sim.history, sim.plan())
    paths = [step.path for step in sim.plan().steps if step.kind == "task"]
    return {path for path in paths if test(path)}


def test_only_and_until() -> None:
    sim = Run(
        t("a"), mp("m", "xs", "x", t("b"), t("c", "b"), after="a"), t("d", "m"), t("e", "a"),
        xs=[1, 2],
    )  # fmt: skip
    assert chosen(sim, only=("a",)) == {"a"}
    assert chosen(sim, until=("m",)) == {"a", "m/b", "m/c"}
    assert chosen(sim, until=("m/b",)) == {"a", "m/b"}
    assert chosen(sim, until=("d",)) == {"a", "m/b", "m/c", "d"}
    assert chosen(sim, only=("e", "m"), until=("m",)) == {"m/b", "m/c"}
    sim.go(skip=["d", "m[1]/b", "m[2]/b"])
    assert chosen(sim, until=("m[1]/c",)) == {"a", "m[1]/b", "m[1]/c"}
    assert chosen(sim, only=("m[2]+",)) == {"m[2]/b", "m[2]/c", "d"}
    with pytest.raises(ForceError, match="zz"):
        chosen(sim, until=("zz",))


def test_an_item_or_iteration_that_is_yet_to_come_may_be_chosen() -> None:
    sim = Run(t("a", gives="xs"), mp("m", "xs", "x", t("b"), after="a"),
              loop("lo", "d", t("s", gives="d"), after="m"))  # fmt: skip
    test = select((), ("lo@1/s",), sim.dag, sim.history, sim.plan())
    assert [test(p) for p in ("a", "m[1]/b", "lo@0/s", "lo@1/s", "lo@2/s")] == [True] * 4 + [False]
    test = select(("m[1]/b",), (), sim.dag, sim.history, sim.plan())
    assert [test(path) for path in ("a", "m[1]/b", "m[2]/b")] == [False, True, False]
    with pytest.raises(ForceError):
        select((), ("lo@1/zz",), sim.dag, sim.history, sim.plan())
