"""One node for a scheduler: what it asks of the store, counted; and who may have it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

import runstore
from benchmarks.counting import Counting
from runstore.dag import Dag, Map
from runstore.errors import RunRemovedError
from runstore.executor.node import Request, run_node
from runstore.executor.pool import Pool
from runstore.executor.reporter import Silent
from runstore.executor.scheduler import Loop
from runstore.pipeline import Pipeline
from runstore.plan import Planner, Reason
from runstore.records import Holder
from runstore.store import Store
from runstore.upkeep import pack_run, remove_run
from tests.transfer.lives import memory


def pipeline(items: int) -> Pipeline:
    def listed():
        return list(range(items))

    def work(item, factor):
        return item * factor

    def total(score):
        return sum(score)

    return Pipeline(
        Dag(
            [
                runstore.task(listed, returns="items"),
                runstore.task(lambda: 2, name="factors", returns="factor"),
                Map(
                    name="each", over="items", as_="item", after=("listed", "factors"),
                    body=Dag([runstore.task(work, returns="score")]),
                ),
                runstore.task(total, after="each", returns="sum"),
            ]
        )
    )  # fmt: skip


def exec_(storage, address, made: Pipeline, **more) -> tuple[str, Counting]:
    """What came of it, and what a process of its own asked for it."""
    counting = Counting(storage, url="s3://as-of-a-bucket")
    result = run_node(Request("r", address, pipeline=made, **more), Store(counting))
    return result.status, counting


def kinds(counting: Counting) -> dict[str, Counter[str]]:
    """What was created, listed and read, by the folder it stands in."""

    def folder(key: str) -> str:
        return key.split("/")[3] if key.count("/") > 2 else key.rpartition("/")[2]

    return {
        "created": Counter(map(folder, counting.created)),
        "listed": Counter(map(folder, counting.listed)),
        "read": Counter(map(folder, counting.read_keys)),
    }


@pytest.mark.parametrize("index", [False, True])
def test_its_requests_do_not_grow_with_the_run(index):
    asked = []
    for items, retries in ((3, 1), (60, 1), (60, 9)):
        made = pipeline(items)
        store = memory()
        run = store.create_run(made.dag, run_id="r")
        for _ in range(retries):
            run.begin_invocation()
            for path in ("listed", "factors"):
                if run.step(path).work:
                    runstore.retry("r", made, store=store, only=[path])
            for step in run.plan().ready:
                if step.path != "each[1]/work":
                    run.begin(step).fail("not yet")
        pack_run(run)
        first, _ = exec_(run.storage, "each[0]/work", made)  # its group's first
        address = ("each/work", {"indices": [1]}) if index else ("each[1]/work", {})
        status, counting = exec_(run.storage, address[0], made, **address[1])
        assert (first, status) == ("succeeded", "succeeded")
        assert kinds(counting) == {
            "created": {"attempts": 2},
            # Of the node, and of the two that it follows; and which invocations forced something.
            "listed": {"attempts": 3, "invocations": 1},
            # run.json once more, to see that it is there still; from then on a stat does.
            # Of invocations, its own and those under which what it follows was made.
            "read": {"run.json": 2, "attempts": 2, "invocations": 3},
        }
        asked.append(counting.requests)
        status, counting = exec_(run.storage, address[0], made, **address[1])
        assert status == "succeeded"
        assert counting.requests["create"] == 0
        assert kinds(counting)["listed"] == {"attempts": 3, "invocations": 1}
        assert kinds(counting)["read"]["attempts"] == 3
    assert asked[0] == asked[1] == asked[2]


def test_whoever_needs_all_items_lists_them():
    made = pipeline(20)
    store = memory()
    runstore.start(made, store=store, run_id="r")
    status, counting = exec_(store.storage, "total", made)
    assert status == "succeeded"
    assert kinds(counting)["listed"]["attempts"] <= 4
    assert kinds(counting)["read"]["attempts"] == 23


def test_a_run_that_was_removed_is_said_to_be(tmp_path: Path):
    store = runstore.open_store(tmp_path)

    def gone():
        remove_run(store.storage, "r", force=True)

    made = Pipeline(Dag([runstore.task(gone)]))
    store.create_run(made.dag, run_id="r")
    with pytest.raises(RunRemovedError):
        run_node(Request("r", "gone", pipeline=made), store)
    assert not list(tmp_path.rglob("run.json"))


class Cluster:
    """Says of pods what a cluster would."""

    def __init__(self, alive: dict[str, bool]) -> None:
        self.alive = alive
        self.asked: list[Holder] = []

    def is_alive(self, holder: Holder) -> bool | None:
        self.asked.append(holder)
        return self.alive.get(holder.pod or "")


@pytest.mark.parametrize(
    ("alive", "status"),
    [({"p-1": False}, "succeeded"), ({"p-1": True}, "waiting"), ({}, "waiting")],
)
def test_a_cluster_tells_whether_a_pod_lives(alive, status, monkeypatch):
    made = pipeline(2)
    storage = memory().storage
    run = Store(storage).create_run(made.dag, run_id="r")
    in_pod = Holder("node-7", 1, pod="p-1", pod_uid="u-1")
    monkeypatch.setattr("runstore.store.writer.current_process", lambda: in_pod)
    run.begin("listed")
    monkeypatch.undo()
    cluster = Cluster(alive)
    got, _ = exec_(storage, "listed", made, liveness=cluster)
    assert got == status
    assert cluster.asked == [in_pod]
    # An attempt elsewhere in the run is none of its business.
    assert exec_(storage, "factors", made, liveness=cluster)[0] == "succeeded"
    assert cluster.asked == [in_pod]


def test_a_handler_runs_for_what_failed_under_the_same_invocation():
    def bad():
        raise ValueError("no")

    dag = Dag(
        [
            runstore.task(bad),
            runstore.task(
                lambda: None, name="mend", after="bad", trigger="one_failed", handles=True
            ),
            runstore.task(lambda: None, name="after", after="mend"),
        ]
    )
    made, storage = Pipeline(dag), memory().storage
    Store(storage).create_run(dag, run_id="r")
    assert exec_(storage, "bad", made)[0] == "failed"
    assert exec_(storage, "mend", made, invocation="another")[0] == "waiting"
    assert exec_(storage, "mend", made)[0] == "succeeded"
    assert exec_(storage, "after", made)[0] == "succeeded"
    status, counting = exec_(storage, "bad", made)
    # It failed, and that is settled; whoever asks for it by name means it.
    assert status == "succeeded"
    assert counting.requests["create"] == 0
    assert Store(storage).get_run("r").plan().status == "succeeded"


def test_waiting_ends_where_what_comes_before_ends():
    made, storage = pipeline(2), memory().storage
    Store(storage).create_run(made.dag, run_id="r")
    status, counting = exec_(storage, "each", made, wait=timedelta(seconds=0.5))
    assert status == "waiting"
    assert counting.requests["create"] == 0
    status, _ = exec_(storage, "each/work", made, indices=[0])
    assert status == "waiting"  # its list is not there yet
    for path in ("listed", "factors", "each", "total"):
        assert exec_(storage, path, made)[0] == "succeeded"


def test_a_signal_that_comes_while_the_last_plan_is_made_is_heard(monkeypatch):
    real, plans = Loop._replan, []

    def replan(self):
        plans.append(1)
        if len(plans) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(Loop, "_replan", replan)
    made = Pipeline(Dag([runstore.task(lambda: 1, name="a", returns="x")]))
    result = run_node(Request("r", "a", pipeline=made, create=True), memory())
    assert (result.status, result.signal) == ("cancelled", signal.SIGTERM)


def test_a_pause_between_tries_holds_for_another_process(monkeypatch):
    """Which goes by the time in the record, and waits the whole pause at most."""
    task = runstore.task(lambda: 1 / 0, name="a", retries=1, retry_delay="20s")
    made, store = Pipeline(Dag([task])), memory()
    run = store.create_run(made.dag, run_id="r")
    invocation = run.begin_invocation("retry", name="exec")
    step = run.plan()["a"]
    with pytest.raises(ZeroDivisionError), run.begin(step):
        raise ZeroDivisionError
    pool = Pool(None, 1, processes=False)
    loop = Loop(run, made, Planner(made.dag), run.history(), pool, Silent(), None)
    (again,) = Planner(made.dag).plan(loop.history, invocation.id).ready
    assert again.reason is Reason.RETRY
    assert 15 < loop._time_of(again, 100.0) - 100.0 <= 20
