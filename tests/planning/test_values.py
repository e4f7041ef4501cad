"""Plans and steps are values: whatever is done to one, the next is what it would have been."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from runstore.plan import Action, Plan, Planner, Reason
from runstore.records import Blob
from tests.planning.build import Run, blob, cond, mp, par, t

HANDLES: Any = {"trigger": "one_failed", "handles": True}


def lived() -> Run:
    """A run that has all that a plan can hold: values, files, a failure, one that is handled, a
    step to run, and one in progress."""
    sim = Run(
        t("src", gives="xs deep"),
        mp("m", "xs", "x", t("w", reads="x deep", gives="y"), after="src"),
        t("bad"), t("h", "bad", **HANDLES), t("last", "m", "y deep given"),
        t("eager", "src", config={"cutoff": False}),
        cond("c", "given", branches={"1": [t("i")]}, default="1"),
        par("p", branches={"l": [t("busy")]}), given={"a": [1, {"b": 2}]},
    )  # fmt: skip
    sim.give["src"] = {"xs": [1, 2], "deep": {"list": [1, [2, {"x": 3}]]}}
    sim.save["src"], sim.load["m/w"] = {"f": "content"}, ["f"]
    sim.go(fail=["bad", "m[2]/w"], skip=["last"], die="p:l/busy")
    return sim


def document(plan: Plan) -> str:
    """All of a plan, as text: what is to be the same again."""
    said = [
        (step.to_json(), repr(step.record), step.work and (
            dict(step.work.params), repr(step.work.consumed), dict(step.work.artifacts())))
        for step in plan
    ]  # fmt: skip
    return repr((plan.status, dict(plan.values), said)) + json.dumps(plan.to_json())


def spoil(thing: Any, seen: set[int] | None = None) -> Iterator[Callable[[], Any]]:
    """Every way to change something that is reached from a plan."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, str | int | float | None):
        return
    seen.add(id(thing))
    yield from (lambda: thing.append(1), lambda: thing.update(x=1), lambda: thing.pop(0))
    if hasattr(thing, "items"):
        for key, value in list(thing.items()):
            yield lambda key=key: thing.__setitem__(key, "spoilt")
            yield lambda key=key: thing.__delitem__(key)
            yield from spoil(value, seen)
    elif isinstance(thing, list | tuple):
        for at, value in enumerate(list(thing)):
            yield lambda at=at: thing.__setitem__(at, "spoilt")
            yield from spoil(value, seen)
    else:
        for name in getattr(type(thing), "__struct_fields__", ()):
            yield lambda name=name: setattr(thing, name, "spoilt")
            if name not in ("_known", "_digests", "task"):
                yield from spoil(getattr(thing, name), seen)
        for name in ("record", "consumed", "evidence", "ready"):
            if hasattr(type(thing), name):
                yield from spoil(getattr(thing, name), seen)


@pytest.mark.parametrize("kept", [False, True], ids=["looked at again", "kept"])
def test_nothing_that_is_done_to_a_plan_changes_the_next(kept: bool) -> None:
    sim = lived()
    if kept:  # with no handler in it, what is done is kept from one plan to the next
        sim = Run(t("a", gives="v"), t("b", "a", "v", "w"), t("c", "b", "w"))
        sim.give = {"a": {"v": [[1]]}, "b": {"w": {"x": [1]}}}
        sim.go(skip=["c"])
    planner = Planner(sim.dag)
    right = document(planner.plan(sim.history))
    plan = planner.plan(sim.history)
    tried = 0
    for edit in [*spoil(plan), *(e for step in plan for e in spoil(step))]:
        tried += 1
        with suppress(TypeError, AttributeError, KeyError, IndexError, ValueError):
            edit()
        if tried % 20 == 0:
            assert document(planner.plan(sim.history)) == right
    assert tried > (50 if kept else 300)
    assert document(planner.plan(sim.history)) == right
    assert document(Planner(sim.dag).plan(sim.history)) == right


def test_plans_and_steps_refuse_to_be_changed() -> None:
    plan = lived().plan()
    step = plan["last"]
    for thing, name in ((plan, "status"), (plan, "steps"), (step, "action"), (step, "reason")):
        with pytest.raises(AttributeError):
            setattr(thing, name, "other")
    work = plan.ready[0].work
    assert work is not None
    with pytest.raises(AttributeError):
        work.number = 7  # type: ignore[misc]
    with pytest.raises(TypeError):
        work.params["x"] = 1  # type: ignore[index]
    assert not isinstance(plan.steps, list)


def test_what_a_plan_gives_is_equal_to_what_is_recorded() -> None:
    sim = lived()
    plan = sim.plan()
    assert plan["src"].record is not sim.history.latest("src")
    assert repr(plan["src"].record) == repr(sim.history.latest("src"))
    assert plan["m[2]/w"].action is Action.RUN
    assert plan["bad"].reason is Reason.HANDLED
    work = plan["m[2]/w"].work
    assert work is not None
    assert work.params == {"x": 2, "deep": {"list": [1, [2, {"x": 3}]]}}
    assert work.artifacts() == {"f": (blob("content"), "src")}


def test_forces_of_a_history_cannot_be_changed() -> None:
    sim = lived()
    sim.invoke(force=["src"])
    with pytest.raises(TypeError):
        sim.history.forces["bad"] = 1  # type: ignore[index]


def test_values_in_blobs_stay_what_they_are() -> None:
    sim = Run(mp("m", "xs", "x", t("w", reads="x", gives="y")), t("last", "m", "y"), xs=[1, 2])
    sim.give["m/w"] = {"y": blob("large")}
    sim.go(skip=["last"])
    sim.last = sim.plan()
    work = sim.last["last"].work
    assert work is not None
    assert work.params["y"] == [blob("large"), blob("large")]
    assert isinstance(work.params["y"][0], Blob)
