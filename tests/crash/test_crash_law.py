"""Stop an execution at any storage operation and resume: the run is as if nothing had happened.

For every k: the k-th operation kills the invocation, or fails, before or after it took effect. Then
the run is resumed until done, and compared with one that was not interrupted.
"""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

from runstore import retry, start
from runstore.errors import RunNotFailedError, RunNotFoundError, StorageError
from runstore.records import End
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from tests.crash.breaking import Breaking, Death, How
from tests.crash.pipelines import CASES, Case
from tests.verified import verified

HOWS: list[How] = ["dies before", "dies after", "fails before", "fails after"]


def begin(case: Case, storage):
    return start(
        case.dag, case.parameters, store=Store(storage), run_id="r", workers=1, environment={}
    )


def resume(case: Case, storage):
    """Do what a person would, until the run is settled; the store as it is then."""
    for _ in range(3):
        try:
            return retry("r", case.dag, store=Store(storage), workers=1, takeover="all")
        except RunNotFailedError:
            return None
        except RunNotFoundError:
            return begin(case, storage)
    raise AssertionError


def report(case: Case, storage):
    """What there is to compare: actions, values, and the outcomes at each path."""
    run = Store(storage).get_run("r")
    history = run.history()
    assert not list(history.open())
    assert not history.damaged
    # As the invocation that was last: what it tried is settled.
    assert history.latest_invocation is not None
    run.invocation = history.latest_invocation.id
    plan = run.plan(case.dag, history=history)
    outcomes = {
        path: [end.outcome for end in history.ends(path) if isinstance(end, End)]
        for path in history.paths()
    }
    values = {name: run.blobs.load(value) for name, value in plan.values.items()}
    problems = [found for found in verified(run) if found[1]]
    return plan, values, outcomes, problems


def check(case: Case, expected, storage, how: str) -> None:
    plan, values, outcomes, problems = report(case, storage)
    reference, right, once, _ = expected
    assert plan.status == reference.status
    assert {s.path: s.action for s in plan.steps} == {s.path: s.action for s in reference.steps}
    assert values == right
    assert problems == []
    assert outcomes.keys() == once.keys()
    interrupted = sum(
        1
        for path, made in outcomes.items()
        for outcome in made
        if outcome not in ("succeeded",) and outcome not in once[path]
    )
    assert interrupted <= 1, "one interruption costs one attempt"
    if case.clean:
        for path, made in outcomes.items():
            tally = Counter(made)
            assert tally["succeeded"] == 1, f"{path} was made again: {made}"
        return
    for path, made in outcomes.items():
        tally = Counter(made)
        # A failed step is tried again by each retry, and what follows it consumes a new failure.
        assert tally["succeeded"] <= (2 if path in FOLLOWS else 1), f"{path}: {made}"
        assert len(made) <= 3


FOLLOWS = {
    "repaired",
    "always",
    "alert",
    "inner:a/rescue:r/note",
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", CASES)
def test_interrupted_anywhere_and_resumed(name, how):
    case = CASES[name]
    counting = Breaking(MemoryStorage("counting"))
    assert begin(case, counting).status == ("succeeded" if name != "alarmed" else "failed")
    expected = report(case, counting.storage)
    assert expected[3] == []
    total = counting.count
    assert total > 12
    met: Counter[str] = Counter()
    for at in range(total):
        inner = MemoryStorage("broken")
        breaking = Breaking(inner, at, how)
        try:
            begin(case, breaking)
        except (Death, StorageError):
            met["raised"] += 1
        assert breaking.broke, f"operation {at} of {total} was not met"
        met[breaking.broke.split()[0]] += 1
        resume(case, inner)
        try:
            check(case, expected, inner, how)
        except AssertionError as error:
            raise AssertionError(f"{how} {breaking.broke} ({at}/{total}): {error}") from error
    # Threads do not keep an order: an operation may be met twice, and another one not at all.
    assert 2 * met["create"] > len(list(counting.storage.list("runs/")))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["flow", "handled"])
def test_the_retry_is_interrupted_too(name, how):
    """Die in the middle, then die again at any operation of the retry, then resume."""
    case = CASES[name]
    counting = Breaking(MemoryStorage("counting"))
    begin(case, counting)
    expected = report(case, counting.storage)
    half = counting.count // 2
    at = 0
    while True:
        inner = MemoryStorage("broken")
        with pytest.raises(Death):
            begin(case, Breaking(inner, half, "dies after"))
        breaking = Breaking(inner, at, how)
        with contextlib.suppress(Death, StorageError):
            resume(case, breaking)
        if not breaking.broke:
            break
        resume(case, inner)
        plan, values, outcomes, problems = report(case, inner)
        assert plan.status == expected[0].status
        assert values == expected[1]
        assert problems == []
        for path, made in outcomes.items():
            limit = 1 if case.clean or path not in FOLLOWS else 3
            assert made.count("succeeded") <= limit, f"{breaking.broke}: {path}: {made}"
        at += 1
    assert at > 12
