"""Design, section 3: parameters flow by name."""

from __future__ import annotations

import pytest

from runstore.errors import DagError
from tests.planning.build import Run, cond, dag, loop, mp, par, t

HANDLES = {"trigger": "one_failed", "handles": True}


def test_the_nearest_that_succeeded_gives() -> None:
    sim = Run(t("a", gives="x"), t("b", "a", gives="x"), t("c", "b", "x", "y"))
    sim.go()
    assert sim.last.values == {"x": "b", "y": "c"}
    assert sim.history.latest("c").consumed.params.keys() == {"x"}  # type: ignore[union-attr]


def test_else_the_next_nearest_then_the_run() -> None:
    sim = Run(
        t("a", gives="x"), t("b", "a", gives="x"), t("c", "b", "x", trigger="all_done"), x="run"
    )
    seen = []
    for fail in (["b"], ["a"], []):
        sim.go(fail=fail, force=["a", "b"], skip=["c"])
        seen.append(sim.last["c"].work.params["x"])  # type: ignore[union-attr]
    assert seen == ["a", "run", "b"]


def test_the_enclosing_scope_gives_what_the_body_does_not() -> None:
    sim = Run(
        t("a", gives="x"),
        par("p", "a", branches={"l": [mp("m", "xs", "i", t("b", reads="x i z"))]}),
        xs=[7], z="run",
    )  # fmt: skip
    sim.go(skip=["p:l/m[7]/b"])
    assert sim.last["p:l/m[7]/b"].work.params == {"x": "a", "i": 7, "z": "run"}  # type: ignore[union-attr]


def test_as_wins_over_any_other_source_in_the_body() -> None:
    inner = par("p", "b", branches={"l": [t("c", reads="x")]})
    sim = Run(t("a", gives="x"), mp("m", "xs", "x", t("b", reads="x"), inner, after="a"),
              xs=[7], x="run")  # fmt: skip
    sim.go(skip=["m[7]/b"])
    sim.last = sim.plan(sim.invocation)
    assert sim.last["m[7]/b"].work.params == {"x": 7}  # type: ignore[union-attr]
    sim.go(skip=["m[7]/p:l/c"])
    assert sim.last["m[7]/p:l/c"].work.params == {"x": 7}  # type: ignore[union-attr]


def test_a_map_gives_lists_in_item_order_with_null_for_what_is_missing() -> None:
    body = [cond("c", "x", branches={"1": [t("a", gives="y")]}, default="2")]
    body[0]["branches"]["2"] = {"nodes": []}
    sim = Run(mp("m", "xs", "x", *body), xs=[2, 1, 2, 1])
    sim.go()
    assert sim.last.values["y"] == [None, "m[1]/c:1/a", None, "m[1#2]/c:1/a"]


def test_a_loop_gives_the_latest_value_of_each_name() -> None:
    body = [
        t("s", reads="i v", gives="d v"),
        cond("c", "i", "s", branches={"0": [t("once", gives="w")], "n": []}, default="n"),
    ]
    sim = Run(loop("lo", "d", *body, **{"as": "i"}), v=0)
    sim.give = {"lo@0/s": {"v": 10, "d": False}, "lo@1/s": {"v": 11, "d": True}}
    assert sim.go() == ["lo@0/s", "lo@0/c:0/once", "lo@1/s"]
    assert sim.last.values == {"v": 11, "d": True, "w": "lo@0/c:0/once"}
    again = [sim.history.latest(f"lo@{i}/s").consumed.params["v"] for i in (0, 1)]  # type: ignore[union-attr]
    assert again[0] != again[1]


@pytest.mark.parametrize(("value", "takes"), [
    ("yes", "yes"), (True, "true"), (None, "null"), (3, "3"), ("3", "3"), (1.0, "1"),
    ([1, {"b": 1, "a": 2}], '[1,{"a":2,"b":1}]'),
])  # fmt: skip
def test_on_chooses_by_text(value: object, takes: str) -> None:
    branches = {takes: [t("a")], "other": []}
    sim = Run(cond("c", "v", branches=branches, default="other"), v=value)
    ran = sim.go()
    assert len(ran) == 1
    assert sim.last.status == "succeeded"


def test_a_value_that_names_no_branch_fails_naming_it_and_the_branches() -> None:
    sim = Run(cond("c", "v", branches={"yes": [t("a")], "no": []}), v="maybe")
    assert sim.go() == []
    assert sim.of("c") == ("FAILED", "no branch matches")
    assert all(word in sim.last["c"].detail for word in ('"maybe"', "'yes'", "'no'"))


@pytest.mark.parametrize("value", [None, 3, "[1]", {"a": 1}])
def test_over_that_is_no_list_fails_naming_the_value(value: object) -> None:
    sim = Run(mp("m", "v", "x", t("a")), v=value)
    assert sim.go() == []
    assert sim.of("m") == ("FAILED", "not a list")
    assert "'v'" in sim.last["m"].detail
    assert sim.of("m/a") == ("OMIT", "upstream failed")


def test_a_loop_that_never_ends_fails_and_goes_on_with_a_higher_limit() -> None:
    def nodes(limit: int) -> dict[str, object]:
        return loop("lo", "d", t("a", gives="d"), max_iterations=limit)

    sim = Run(nodes(2))
    sim.give = {"lo/a": {"d": 1}, "lo@2/a": {"d": True}}  # 1 is not true
    assert sim.go() == ["lo@0/a", "lo@1/a"]
    assert sim.of("lo") == ("FAILED", "loop limit")
    assert "max_iterations (2)" in sim.last["lo"].detail
    sim.dag = dag(nodes(3))
    assert sim.go() == ["lo@2/a"]
    assert sim.last.status == "succeeded"


def maybe(**more: object) -> list[dict[str, object]]:
    return [
        cond("c", "side", branches={"with": [t("w", gives="v")], "without": [t("n")]}),
        t("read", "c", "v"),
    ]


def test_a_missing_value_fails_its_reader_without_an_attempt() -> None:
    sim = Run(*maybe(), side="without")
    assert sim.go() == ["c:without/n"]
    assert sim.of("read") == ("FAILED", "parameter missing")
    assert "'v'" in sim.last["read"].detail
    assert sim.last.status == "failed"


def test_a_missing_value_is_upstream_failed_if_anything_further_up_failed() -> None:
    sim = Run(t("a"), *(maybe()[:1]), t("x", "a c", trigger="all_done"), t("read", "x", "v"),
              side="without")  # fmt: skip
    sim.go(fail=["a"])
    assert sim.of("x") == ("SKIP", "succeeded")
    assert sim.of("read") == ("OMIT", "upstream failed")


def test_a_composite_whose_value_is_missing_fails_and_nothing_in_it_runs() -> None:
    first = maybe()[0]
    sim = Run(first, mp("m", "v", "i", par("p", branches={"l": [t("b")]}), after="c"),
              side="without")  # fmt: skip
    sim.go()
    assert sim.of("m") == ("FAILED", "parameter missing")
    assert sim.of("m/p") == sim.of("m/p:l/b") == ("OMIT", "upstream failed")


def test_two_sources_that_do_not_follow_one_another_are_refused() -> None:
    with pytest.raises(DagError) as caught:
        dag(t("one", gives="x"), t("two", gives="x"), t("reader", "one two", "x"))
    assert all(word in str(caught.value) for word in ("'x'", "'one'", "'two'", "'reader'"))


def test_but_one_that_follows_both_is_the_nearest_of_all() -> None:
    both = [t("one", gives="x"), t("two", gives="x"), t("both", "one two", gives="x")]
    for after in ("both", "both one", "one both two"):
        sim = Run(*both, t("reader", after, "x", "y"))
        sim.go(skip=["reader"])
        assert sim.last["reader"].work.params == {"x": "both"}  # type: ignore[union-attr]
    # Also past a node that follows the two and gives nothing, and out of a body.
    sim = Run(*both, t("gap", "one two"), t("reader", "gap both", "x"))
    sim.go()
    sim = Run(par("p", branches={"l": both}), t("reader", "p", "x"))
    sim.go(skip=["reader"])
    assert sim.last["reader"].work.params == {"x": "p:l/both"}  # type: ignore[union-attr]


def test_unless_it_may_not_give() -> None:
    with pytest.raises(DagError, match="'x'"):
        dag(
            t("one", gives="x"), t("two", gives="x"),
            t("both", "one two", gives="x", trigger="one_failed"),
            t("reader", "both one two", "x", trigger="all_done"),
        )  # fmt: skip


@pytest.mark.parametrize("how", ["outside", "until", "later"])
def test_the_same_inside_a_body_if_anybody_reads_it(how: str) -> None:
    pair = [t("one", gives="x"), t("two", gives="x")]
    fine = par("p", branches={"l": pair})
    dag(fine)  # nobody reads it
    wrong = {
        "outside": (fine, t("r", "p", "x")),
        "until": (loop("lo", "x", *pair),),
        "later": (loop("lo", "d", *pair, t("r", reads="x", gives="d")),),
    }
    with pytest.raises(DagError, match="'x'"):
        dag(*wrong[how])


def test_iteration_0_must_find_its_parameters_without_the_others() -> None:
    built = dag(loop("lo", "d", t("a", reads="n", gives="d"), t("b", "a", gives="n")))
    with pytest.raises(DagError, match="'n'"):
        built.check([])
    built.check(["n"])


def test_what_is_said_does_not_rest_on_the_order_of_declaration() -> None:
    for one, two in (("x", "y"), ("y", "x")):
        branches = {one: [t("a")], two: []}
        gives = cond("c", "k", branches={"1": [t("g", gives="x y")], "2": []})
        sim = Run(gives, t("r", "c", f"{one} {two}"), cond("d", "k", branches=branches), k=2)
        sim.go()
        assert "'x'" in sim.last["r"].detail
        assert sim.last["d"].detail.index("'x'") < sim.last["d"].detail.index("'y'")
