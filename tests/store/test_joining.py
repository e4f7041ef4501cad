"""Invocations: begun by one, joined by many; and what a pod reads of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import runstore
from benchmarks.counting import Counting
from runstore import Dag, Task
from runstore.errors import InputError, RefusedError
from runstore.records import Consumed, keys
from runstore.storage.memory import MemoryStorage
from runstore.store import Store

DAG = Dag([Task(name="a", returns=("x",)), Task(name="b", params=("x",), after=("a",))])
NEW = Dag([*DAG.nodes, Task(name="c")])


def new(name):
    return Store(MemoryStorage(name)).create_run(DAG, run_id="r")


def modes(run):
    return sorted(each.mode for each in run.history().invocations.values())


def test_pods_join_one_invocation():
    run = new("pods")
    begun = run.begin_invocation("start")
    store = Store(run.storage)
    store.get_run("r", invocation=begun.id).begin("a").succeed({"x": 1})
    pod = store.get_run("r")
    assert pod.join(begun.id).digest == begun.digest
    assert pod.begin("b").start.invocation == begun.id
    assert list(run.history().invocations) == [begun.id]


def test_who_joins_plans_with_the_pipeline_of_the_invocation():
    run = new("changed")
    begun = run.begin_invocation("retry", dag=NEW)
    pod = Store(run.storage).get_run("r", invocation=begun.id)
    assert pod.step("c").action == run.step("c").action == "RUN"
    pod.begin("c").succeed()
    run.begin_invocation("retry")
    with pytest.raises(RefusedError, match="no step 'c'"):
        run.step("c")


@pytest.mark.parametrize("name", ["Not An Id", "", "../x", 5, "a" * 65])
def test_what_is_no_invocation_cannot_be_joined(name):
    with pytest.raises(InputError, match=r"Invocation\.id"):
        new(f"no id {name}").join(name)


def test_nor_can_one_that_nobody_began():
    run = new("unknown")
    with pytest.raises(RefusedError, match="no invocation 'x'"):
        Store(run.storage).get_run("r", invocation="x")
    assert run.invocation is None


def test_a_pod_reads_those_invocations_that_are_named_or_force():
    run = new("many")
    run.begin_invocation("start")
    run.begin("a").succeed({"x": 1})
    for _ in range(30):
        run.begin_invocation("retry")
    forcing = run.begin_invocation("retry", force={"b": 0})
    changed = run.begin_invocation("retry", dag=NEW)
    counting = Counting(run.storage)
    pod = Store(counting).get_run("r")
    counting.read_keys.clear()
    assert pod.step("b").action == "RUN"
    read = [key for key in counting.read_keys if "/invocations/" in key]
    assert len(read) == 2
    assert any(forcing.id in key for key in read)
    # Whether a success was made with another structure is not overlooked.
    other = Dag([Task(name="a", returns=("x",), type="other"), DAG.nodes[1]])
    run.begin_invocation("retry", dag=other)
    run.begin("a", number=2, consumed=Consumed()).succeed({"x": 1})
    assert pod.step("a").reason == run.plan(DAG).steps[0].reason == "stale"
    # Nor is a force, in the whole history or in a part of it.
    again = run.begin_invocation("retry", force={"a": 2})
    assert again.id.endswith("-force")
    assert not changed.id.endswith("-force")
    assert run.history(["a"]).forces == run.history().forces == {"a": 2, "b": 0}


def test_threads_that_begin_at_once_begin_one_invocation_and_it_is_a_start():
    run = new("threads")
    gate = threading.Barrier(8)

    def begin(number):
        gate.wait()
        return run.begin("a", number=number, consumed=Consumed()).start.invocation

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(1, 9)))) == 1
    assert modes(run) == ["start"]
    Store(run.storage).get_run("r").begin("b", number=1, consumed=Consumed())
    assert modes(run) == ["retry", "start"]


def test_of_many_that_join_or_begin_one_begins_it(tmp_path):
    """Also where the one that is late has made the run: others may have begun by then."""
    store = runstore.open_store(tmp_path)
    made = store.create_run(DAG, run_id="r")
    other = store.get_run("r")
    assert other.join_or_begin("group").number == 1
    assert made.join_or_begin("group").digest == other.join_or_begin("group").digest
    assert len(list(made.storage.list(made.prefix + keys.INVOCATIONS))) == 1
    assert made.begin("a").start.invocation == "group"
