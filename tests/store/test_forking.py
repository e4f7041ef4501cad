"""What a fork takes over: only what was made with the structure it has, from the pack it names."""

from __future__ import annotations

import pytest
from msgspec.structs import force_setattr

from runstore import Dag, Task
from runstore.errors import StructureChangedError
from runstore.records import Consumed, End
from runstore.records.codec import to_body
from runstore.records.framing import frame, to_pack
from runstore.storage.memory import MemoryStorage
from runstore.store import Store, compare
from tests.places import NONCE, prefix

OLD = Dag([Task(name="a", returns=("x",)), Task(name="b", returns=("y",))])
NEW = Dag([Task(name="a", returns=("x", "z")), Task(name="b", returns=("y",))])


def made_with_both(name):
    """``a`` succeeded with the new structure, ``b`` with the old one."""
    store = Store(MemoryStorage(name))
    run = store.create_run(OLD, run_id="r")
    run.begin_invocation("start")
    run.begin("b", number=1, consumed=Consumed()).succeed({"y": 1})
    run.begin_invocation("retry", dag=NEW)
    run.begin("a").succeed({"x": 1, "z": 2})
    return store, run


def test_a_success_of_another_structure_stays_behind():
    store, run = made_with_both("old")
    forked = store.fork_run(run, OLD, run_id="f")
    assert list(forked.history().adopted) == ["b"]
    assert forked.step("a").action == "RUN"


def test_a_structure_that_was_allowed_before_needs_no_leave_and_is_taken_over():
    store, run = made_with_both("new")
    forked = store.fork_run(run, NEW, run_id="f")
    assert sorted(forked.history().adopted) == ["a", "b"]
    with pytest.raises(StructureChangedError):
        store.fork_run(run, Dag([Task(name="c")]), run_id="g")
    # And a fork of it, which has no record of those invocations.
    again = store.fork_run(forked, NEW, run_id="h")
    assert sorted(again.history().adopted) == ["a", "b"]
    back = store.fork_run(forked, OLD, run_id="i", keep_unchanged=True)
    assert list(back.history().adopted) == ["b"]
    assert compare(run, NEW, run.history()) == []


def test_what_its_invocation_no_longer_tells_stays_behind():
    store, run = made_with_both("gone")
    for key in list(store.storage.list(prefix(store.storage) + "invocations/")):
        if b'"mode":"retry"' in store.storage.read(key):
            del store.storage._objects[key]
    assert list(store.fork_run(run, OLD, run_id="f").history().adopted) == ["b"]


def forged(run_id="r", path="a"):
    end = End("other", path, 1, "0" * 32, "i", "succeeded", Consumed(), outputs={"x": 1, "y": 1})
    force_setattr(end, "run_nonce", NONCE)
    return to_pack(run_id, NONCE, [frame(to_body(end))[0]])[0]


@pytest.mark.parametrize("run_id", ["f", "r"])
def test_only_the_pack_that_is_of_its_name_is_taken_over(run_id):
    store, run = made_with_both(f"forged {run_id}")
    forked = store.fork_run(run, OLD, run_id="f")
    (key,) = store.storage.list(prefix(store.storage, "f") + "packs/")
    store.storage._objects[key] = forged(run_id)
    history = forked.history()
    assert not history.adopted
    assert not history.attempts
    assert any("not of its name" in each.problem for each in history.damaged)
    assert forked.step("a").action == "RUN"


def test_a_pack_of_another_run_is_not_taken_over():
    store, run = made_with_both("another run")
    data = forged("r")
    digest = data[11:75].decode()
    store.fork_run(run, OLD, run_id="f")
    store.storage.create(prefix(store.storage, "f") + f"packs/{digest}.json", data)
    record = store.get_run("f").record
    force_setattr(record, "origin", {"run_id": "r", "pack": digest})
    del store.storage._objects["runs/f/run.json"]
    store.storage.create("runs/f/run.json", frame(to_body(record))[0])
    history = store.get_run("f").history()
    assert not history.adopted
    assert any("belongs to run 'r'" in each.problem for each in history.damaged)


def test_damage_in_the_frame_of_the_pack_costs_nothing():
    store, run = made_with_both("frame")
    forked = store.fork_run(run, NEW, run_id="f")
    (key,) = store.storage.list(prefix(store.storage, "f") + "packs/")
    whole = store.storage.read(key)
    for at in (2, 20, 80, whole.index(b'"run_id":"f"') + 10):
        store.storage._objects[key] = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        history = forked.history()
        assert sorted(history.adopted) == ["a", "b"], at
        assert history.damaged
