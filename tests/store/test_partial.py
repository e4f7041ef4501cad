"""A partial history: what it says of a path is what the whole one says, and it reads no pack."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

import runstore
from benchmarks.counting import Counting
from runstore.dag import Dag, Map, Task
from runstore.records import End, keys
from runstore.store import Run, Store
from runstore.upkeep import pack_run
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.planning.generate import dags
from tests.transfer.lives import RUN_ID, invoke, live, memory

DAG = Dag(
    [
        Task(name="list", returns=("items",)),
        Map(
            name="each",
            over="items",
            **{"as": "item"},
            body=Dag([Task(name="work", params=("item",), returns=("score",))]),
            after=("list",),
        ),
    ]
)


def asked(run: Run, path: str) -> tuple[dict[str, object], Counting]:
    """What is said of a path by who reads only what it needs, and what that took."""
    counting = Counting(run.storage)
    step = Store(counting).get_run(run.run_id).step(path)
    return step.to_json(), counting


@reaches(0.2)
@settings(max_examples=scaled(0.6))
@given(dags(12, 10), SEEDS, st.booleans(), st.booleans())
def test_it_says_what_the_whole_history_says(dag, seed, pack, fork):
    run = live(memory(), dag, seed)
    if pack:
        pack_run(run)
    if fork:
        run = Store(run.storage).fork_run(run, dag, run_id="fork")
        invoke(run, random.Random(seed), "fork")
        if pack:
            pack_run(run)
    own = keys.pack_key(run.prefix, (run.record.origin or {}).get("pack", "0" * 64))
    several = 0
    for step in Store(run.storage).get_run(run.run_id).plan().steps:
        if step.kind != "task" or "[" in step.path or ":" in step.path or "@" in step.path:
            continue
        said, counting = asked(run, step.path)
        several += 1
        assert said == step.to_json()
        read = run.history([step.path])
        assert read.damaged == []
        if not any(read.open()):  # of those a pack may have the end
            assert {key for key in counting.read_keys if "/packs/" in key} <= {own}
    reached(times=several > 1)


def test_its_requests_do_not_grow_with_items_packs_and_invocations():
    requests = []
    for items, lives in ((2, 2), (50, 2), (50, 9)):
        run = memory().create_run(DAG, run_id=RUN_ID)
        for life in range(lives):
            run.begin_invocation("retry" if life else "start")
            run.writer.pack.begin()
            if not life:
                run.begin("list").succeed({"items": list(range(items))})
            for step in run.plan().ready:
                run.begin(step).fail("not yet")
            run.writer.pack.write()
        assert len(list(run.storage.list(run.prefix + keys.PACKS))) >= lives
        said, counting = asked(run, "each[0]/work")
        assert (said["reason"], said["attempt"]) == ("failed", lives + 1)
        requests.append(counting.requests)
    assert requests[0] == requests[1] == requests[2]


def test_what_a_fork_took_over_is_read_once():
    """Of an open attempt a pack may have the end, so packs are read: its origin's was already."""
    origin = memory().create_run(DAG, run_id=RUN_ID)
    origin.begin("list").succeed({"items": [1]})
    run = Store(origin.storage).fork_run(origin, DAG, run_id="fork")
    run.begin("each[1]/work")
    read = run.history(["each[1]/work"])
    assert read.damaged == []
    assert [start.path for start in read.open()] == ["each[1]/work"]


def test_a_damaged_end_is_taken_from_a_pack(tmp_path):
    run = runstore.open_store(str(tmp_path)).create_run(DAG, run_id="r")
    run.begin_invocation("start")
    run.writer.pack.begin()
    run.begin("list").succeed({"items": [1, 2]})
    run.begin("each[1]/work").succeed({"score": 1})
    run.writer.pack.write()
    key = keys.attempt_key(run.prefix, "each[1]/work", 1, "end")
    (tmp_path / key).write_bytes(b"{}")
    said, counting = asked(run, "each[1]/work")
    assert said["reason"] == "succeeded"
    assert any("/packs/" in key for key in counting.read_keys)


def test_an_older_attempt_is_found_in_the_pack_that_alone_holds_it():
    run = memory().create_run(DAG, run_id=RUN_ID)
    run.begin_invocation("start")
    run.begin("list").fail("first")
    run.begin_invocation("retry")
    run.begin("list").succeed({"items": [1]})
    pack_run(run)
    del run.storage._objects[keys.attempt_key(run.prefix, "list", 1, "end")]  # type: ignore[attr-defined]
    first = run.recorded("list", 1)
    assert isinstance(first, End)
    assert first.outcome == "failed"


def test_an_end_that_was_lost_is_taken_from_a_pack_and_not_declared_lost(tmp_path):
    run = runstore.open_store(str(tmp_path)).create_run(DAG, run_id="r")
    run.begin_invocation("start")
    run.writer.pack.begin()
    run.begin("list").succeed({"items": [1, 2]})
    run.begin("each[1]/work").succeed({"score": 1})
    run.writer.pack.write()
    (tmp_path / keys.attempt_key(run.prefix, "each[1]/work", 1, "end")).unlink()
    said, _ = asked(run, "each[1]/work")
    assert said["reason"] == "succeeded"
    assert run.take_over(run.history(["each[1]/work"]), "all") == []
    assert run.plan()["each[1]/work"].reason == "succeeded"


def test_a_pack_does_not_open_an_attempt_again_that_a_later_one_superseded():
    """The end of that attempt is not read, as it decides nothing, and the pack has its start alone:
    it was written while the attempt was open."""
    dag = Dag([Task(name="other"), Task(name="a"), Task(name="b", after=("a",))])
    run = memory().create_run(dag, run_id=RUN_ID)
    run.begin_invocation("start")
    run.writer.pack.begin()
    run.begin("other").succeed()
    run.begin("a")
    assert run.writer.pack.write()
    again = Store(run.storage).get_run(RUN_ID)
    again.begin_invocation("retry")
    assert again.take_over(again.history(), "all") == []
    again.begin("a").succeed()
    again.begin("b")  # it is open, so packs are read, too
    for path, reason in (("a", "succeeded"), ("b", "in progress elsewhere")):
        said, _ = asked(run, path)
        assert said["reason"] == reason
        assert said == Store(run.storage).get_run(RUN_ID).plan()[path].to_json()
    damaged = keys.attempt_key(run.prefix, "b", 1, "start")
    run.storage._objects[damaged] = b"{}"  # type: ignore[attr-defined]
    said, _ = asked(run, "b")
    assert said["reason"] == "in progress elsewhere"
