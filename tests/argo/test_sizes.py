"""Large maps: a thousand awkward items on a store, and ten thousand for what Argo has to hold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import runstore
from runstore.dag import Dag, Loop, Map
from runstore.executor.node import Request, run_node
from runstore.integrations.argo.pods import begin, goes_on, items_left, verdict
from runstore.integrations.argo.workflow import to_argo
from runstore.pipeline import Pipeline
from runstore.store import Store
from tests.argo import many
from tests.argo.evaluator import Pod, PodResult, Workflow
from tests.argo.on_argo import Cluster
from tests.argo.test_emit import options
from tests.planning.test_addresses import AWKWARD
from tests.transfer.lives import memory

EVERY = os.environ.get("RUNSTORE_HYPOTHESIS") == "explore"
ETCD_BYTES = 1_500_000
"""What Kubernetes takes of an object, compressed by Argo; an output parameter is not."""


def over(items: list) -> Pipeline:
    def listed():
        return items

    def work(item):
        return [item, "!"]

    each = Map(name="each", over="items", as_="item", after=("listed",),
               body=Dag([runstore.task(work, returns="made")]))  # fmt: skip
    return Pipeline(Dag([runstore.task(listed, returns="items"), each]))


class InHere:
    """Pods that are functions, on a store in memory."""

    def __init__(self, store: Store, made: Pipeline) -> None:
        self.store = store
        self.made = made

    def __call__(self, pod: Pod) -> PodResult:
        verb, *args = pod.args
        rest = args[args.index("--") + 1 :]
        uid = pod.environment["RUNSTORE_INVOCATION"]
        if verb == "exec":
            request = Request(*rest, pipeline=self.made, invocation=uid, workers=2)
            return PodResult(0 if run_node(request, self.store).status == "succeeded" else 1)
        run = self.store.get_run("r") if args[0] != "plan" else None
        if run is None:
            left = begin(self.store, "r", self.made, {}, workflow=uid, rerun=False, secrets={})
            return PodResult(0, {"todo": f" {' '.join(left)} "})
        if args[0] == "items":
            chunk = int(args[args.index("--chunk") + 1]) if "--chunk" in args else None
            left = items_left(run, self.made, rest[1], uid, chunk)
            return PodResult(0, {"items": json.dumps(left)})
        if args[0] == "more":
            return PodResult(0, {"more": goes_on(run, self.made, rest[1], uid)})
        return PodResult(0 if verdict(run, self.made, uid)[0] == "succeeded" else 1)


SEVERAL = [each for item in AWKWARD for each in (item, [item], {"k": item})]


def test_a_thousand_awkward_items_come_through_exactly():
    items = (SEVERAL * 10)[:1000]
    store, made = memory(), over(items)
    workflow = Workflow(to_argo(made, options()), {"run_id": "r"}, run_pod=InHere(store, made))
    assert workflow.run().phase == "Succeeded"
    assert store.get_run("r").values()["made"] == [[item, "!"] for item in items]
    each = [pod for pod in workflow.pods if ").n-work(" in pod.node_name]
    assert len(each) == len({pod.node_name for pod in each}) == 1000
    # And in pods of a hundred.
    store = memory()
    document = to_argo(made, options(chunk=100))
    workflow = Workflow(document, {"run_id": "r"}, run_pod=InHere(store, made))
    assert workflow.run().phase == "Succeeded"
    assert store.get_run("r").values()["made"] == [[item, "!"] for item in items]
    assert len(workflow.pods) == 1 + 1 + 1 + 10 + 1


@pytest.mark.skipif(not EVERY, reason="make explore starts its thousand processes")
def test_a_thousand_awkward_items_are_a_thousand_pods(tmp_path: Path):
    items = (SEVERAL * 10)[:1000]
    (tmp_path / "items.json").write_text(json.dumps(items), encoding="utf-8")
    cluster = Cluster(tmp_path, pipeline=Path(many.__file__))
    workflow = cluster.submit()
    assert workflow.run().phase == "Succeeded"
    assert runstore.open_store(cluster.store).get_run("r").values()["made"] == [
        [item, "!"] for item in items
    ]
    assert len({pod.node_name for pod in workflow.pods}) == len(workflow.pods) == 1004


def test_ten_thousand_items_in_chunks_fit_where_argo_keeps_them():
    made = over([f"item-{n:05}" for n in range(10_000)])
    store = memory()
    begin(store, "r", made, {}, workflow="w", rerun=False, secrets={})
    assert run_node(Request("r", "listed", pipeline=made, invocation="w"), store).status
    run = store.get_run("r")
    single = json.dumps(items_left(run, made, "each", "w"))
    assert len(single) < ETCD_BYTES / 3
    chunks = items_left(run, made, "each", "w", 100)
    assert len(chunks) == 100
    assert len(json.dumps(chunks)) < 3_000

    def pod(found: Pod) -> PodResult:
        answers = {"plan": {"todo": " n-listed n-each "}, "items": {"items": json.dumps(chunks)}}
        return PodResult(0, answers.get(found.args[1], {}))

    workflow = Workflow(to_argo(made, options(chunk=100)), {"run_id": "r"}, run_pod=pod)
    assert workflow.run().phase == "Succeeded"
    assert len(json.dumps(workflow.document["status"])) < ETCD_BYTES / 5


def test_a_loop_is_longer_than_templates_may_be_nested():
    def step(i):
        return i >= 34, i

    def inner(i, k):
        return k >= (32 if i == 1 else 1)

    # One of them goes deeper than its share, and so does the one around it.
    deep = Loop(name="deep", until="enough", as_="k", max_iterations=99, after=("step",),
                body=Dag([runstore.task(inner, returns="enough")]))  # fmt: skip
    body = Dag([runstore.task(step, returns=("done", "turns")), deep])
    loop = Loop(name="l", until="done", as_="i", max_iterations=1_000, body=body)
    store, made = memory(), Pipeline(Dag([loop]))
    workflow = Workflow(to_argo(made, options()), {"run_id": "r"}, run_pod=InHere(store, made))
    assert workflow.run().phase == "Succeeded"
    assert store.get_run("r").values()["turns"] == 34
