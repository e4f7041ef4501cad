"""The same run on Argo and on a laptop: what failed on one is finished on the other, and nothing
that succeeded is done twice. Argo is the evaluator that is pinned to recordings of a real
controller."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.argo.evaluator import Pod, PodResult, Workflow
from tests.argo.on_argo import PIPELINE, Cluster, attempts, on_a_bucket
from tests.exploration import randomness

STEPS = ['parse "us \\"q\\""', "leaf 2 10", "ship", "right", "step 1", "total", "report"]
"""In each kind of place one."""
TOTAL = [18, 1, 18, 1]


EVERY = os.environ.get("RUNSTORE_HYPOTHESIS") == "explore"
ON_A_BUCKET = (
    "test_a_workflow_does_what_a_laptop_does",
    "test_a_pod_that_is_killed_is_replaced_and_its_attempt_is_lost",
    "test_the_plan_takes_over_what_pods_of_a_workflow_before_left_open",
)
"""With ``make explore`` all are. A step asks a bucket for the same as a disk: these differ most."""


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Cluster:
    if EVERY or request.node.originalname in ON_A_BUCKET:
        return on_a_bucket(tmp_path, monkeypatch)
    return Cluster(tmp_path)


def finished(cluster: Cluster) -> None:
    """The run has succeeded, with the values it has without interruption; and no success was made
    twice."""
    code, out = cluster.local("plan", "r", str(PIPELINE), "--format", "json")
    plan = json.loads(out)
    assert (code, plan["status"]) == (0, "succeeded")
    _, out = cluster.local("show", "r", "--format", "json")
    values = json.loads(out)["values"]
    assert values["total"] == TOTAL
    assert values["reported"] == "reported"
    for path, each in attempts(cluster).items():
        # What follows a failure is tried anew after it; nothing else is.
        again = path in ("report", "mend")
        assert again or Counter(each)["succeeded"] <= 1, (path, each)


def unfinished(workflow: Workflow) -> list[str]:
    """For a failed assertion: what of a workflow has not ended."""
    nodes = workflow.controller.status.nodes.values()
    pods = [f"{pod.node_name}: {pod}" for pod in workflow.pods if pod.result is None]
    return [f"{each.name}: {each.phase}" for each in nodes if not each.fulfilled] + pods


def test_a_workflow_does_what_a_laptop_does(cluster):
    workflow = cluster.submit()
    assert workflow.run(workers=3).phase == "Succeeded"
    finished(cluster)
    on_argo = Counter(cluster.log())
    assert cluster.local("run", str(PIPELINE), "--run-id", "local")[0] == 0
    assert Counter(cluster.log()) == on_argo
    # Once more, as a rerun: the plan says that all is done, and no other pod is made but the one
    # that judges. What was left out, as the handler was, is not asked for again.
    again = cluster.submit(rerun="true")
    assert again.run().phase == "Succeeded"
    assert cluster.log() == []
    names = {pod.node_name.removeprefix(f"{again.name}.") for pod in again.pods}
    assert names == {"plan(0)", "verdict"}


@pytest.mark.parametrize("broken", STEPS)
def test_what_failed_on_argo_is_finished_here(cluster, broken):
    cluster.tell(**{broken: "fail"})
    assert cluster.submit().run(workers=3).phase == "Failed"
    before = set(cluster.log())
    assert broken in before
    code, _ = cluster.local("retry", "r", str(PIPELINE))
    assert code == 1  # it is broken still
    cluster.log()
    cluster.tell()
    assert cluster.local("retry", "r", str(PIPELINE))[0] == 0
    finished(cluster)
    assert before.intersection(cluster.log()) <= {broken, "report"}


@pytest.mark.parametrize("broken", STEPS[::3])
def test_what_failed_here_is_finished_on_argo(cluster, broken):
    cluster.tell(**{broken: "fail"})
    assert cluster.local("run", str(PIPELINE), "--run-id", "r")[0] == 1
    before = set(cluster.log())
    cluster.tell()
    refused = cluster.submit()
    assert refused.run().phase == "Failed"  # the run is another's, and this is no rerun
    assert "rerun=true" in cluster.said[f"{refused.name}.plan(0)"]
    assert cluster.submit(rerun="true").run(workers=3).phase == "Succeeded"
    finished(cluster)
    assert before.intersection(cluster.log()) <= {broken, "report"}


def test_a_failure_that_is_handled_is_none(cluster):
    cluster.tell(risky="fail")
    workflow = cluster.submit()
    assert workflow.run(workers=3).phase == "Succeeded"
    assert workflow.node("n-risky").phase == "Failed"
    assert workflow.node("n-mend").phase == "Succeeded"
    assert attempts(cluster)["risky"] == ["failed"]
    assert attempts(cluster)["report"] == ["succeeded"]
    finished(cluster)


def test_a_failure_before_an_all_done_step_is_the_workflows(cluster):
    cluster.tell(total="fail")
    workflow = cluster.submit()
    assert workflow.run(workers=3).phase == "Failed"
    assert workflow.node("n-report").phase == "Succeeded"  # its leaf, on which Argo would go
    assert "total: failed in this invocation" in cluster.said[f"{workflow.name}.verdict"]
    cluster.tell()
    # `argo retry` runs nothing: a failed node that has a succeeded one behind it is left alone.
    # A new submit of the same run finishes it.
    again = cluster.submit(rerun="true")
    assert again.run().phase == "Succeeded"
    finished(cluster)


@pytest.mark.parametrize("broken", STEPS)
def test_argo_retry_ends_whatever_failed(cluster, broken):
    """The way up from what failed leads through composites that succeeded, which Argo runs again:
    they must come to an end."""
    cluster.tell(**{broken: "fail"})
    workflow = cluster.submit()
    assert workflow.run(workers=3).phase == "Failed"
    cluster.tell()
    workflow.retry()
    # A failure that a report follows, which succeeded, is not run again by Argo.
    assert workflow.run(workers=3).phase in ("Succeeded", "Failed"), unfinished(workflow)
    if workflow.phase == "Failed":
        assert cluster.submit(rerun="true").run(workers=3).phase == "Succeeded"
    finished(cluster)


def test_argo_retry_goes_on_with_the_run_as_far_as_argo_does(cluster):
    cluster.tell(report="fail")
    workflow = cluster.submit()
    assert workflow.run(workers=3).phase == "Failed"
    cluster.tell()
    workflow.retry()
    assert workflow.run(workers=3).phase == "Succeeded"
    assert attempts(cluster)["report"] == ["failed", "succeeded"]
    finished(cluster)


def test_a_failure_before_the_first_steps_is_handled_as_on_a_laptop(cluster):
    """What the handler lists could not run for it: so this failure is its own, too."""
    cluster.tell(first="fail")
    assert cluster.submit().run(workers=3).phase == "Succeeded"
    assert cluster.local("run", str(PIPELINE), "--run-id", "local")[0] == 0
    assert attempts(cluster) == {
        "first": ["failed"], "mend": ["succeeded"], "report": ["succeeded"]
    }  # fmt: skip


def test_a_rerun_makes_a_pod_for_what_is_left_and_for_nothing_else(cluster):
    cluster.tell(**{STEPS[0]: "fail"})
    assert cluster.submit().run(workers=3).phase == "Failed"
    cluster.tell()
    cluster.log()
    again = cluster.submit(rerun="true")
    assert again.run().phase == "Succeeded"
    names = [pod.node_name.removeprefix(f"{again.name}.").removesuffix("(0)") for pod in again.pods]
    items = [name for name in names if name.startswith("n-each.each")]
    assert {name.partition(").")[0] for name in items} == {
        "n-each.each(0:each[%22us%20%5C%22q%5C%22%22]/"
    }
    assert not [name for name in names if name.startswith(("n-first", "n-refine", "n-risky"))]
    finished(cluster)


def pods_of(tmp_path: Path) -> list[str]:
    """The nodes of all pods of a workflow, in order."""
    cluster = Cluster(tmp_path)
    workflow = cluster.submit()
    workflow.run()
    return [pod.node_name.removeprefix(f"{workflow.name}.") for pod in workflow.pods]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return pods_of(tmp_path_factory.mktemp("nodes"))


@pytest.mark.parametrize("part", range(4))
def test_each_pod_in_turn_is_evicted_before_or_after_its_work(cluster, nodes, part):
    """Each with ``make explore``; else a third, others with each seed."""
    turns = list(enumerate(nodes))[part // 2 :: 2]
    if not EVERY:
        turns = randomness("evicted", part).sample(turns, len(nodes) // 12)
    for number, node in turns:
        hurt = []

        def before(pod: Pod, node: str = node, hurt: list = hurt) -> PodResult | None:
            if pod.node_name.endswith(f".{node}") and not hurt and part % 2:
                hurt.append(pod)
                return PodResult.evicted()
            return None

        def after(pod: Pod, result: PodResult, node: str = node, hurt: list = hurt):
            if pod.node_name.endswith(f".{node}") and not hurt:
                hurt.append(pod)
                return PodResult.evicted()
            return None

        workflow = cluster.submit(f"r{number}")
        workflow.before_pod, workflow.after_pod = before, after
        phase = workflow.run().phase
        if node == "verdict":
            # Argo makes no other one: that would be in the way of `argo retry`.
            assert phase == "Failed"
            workflow.retry()
            phase = workflow.run().phase
        assert phase == "Succeeded", node
        assert hurt
        assert max(Counter(cluster.log()).values()) == 2, node  # "eu" is there twice


def test_a_pod_that_is_killed_is_replaced_and_its_attempt_is_lost(cluster):
    cluster.tell(ship="die")
    workflow = cluster.submit()
    assert workflow.run().phase == "Succeeded"
    assert attempts(cluster)["gate:yes/ship"] == ["lost", "succeeded"]
    killed = workflow.node("n-gate.b1.n-ship(0)")
    assert (killed.phase, killed.outputs["exitCode"]) == ("Failed", "137")
    finished(cluster)


def test_the_plan_takes_over_what_pods_of_a_workflow_before_left_open(cluster):
    cluster.tell(ship="die")
    workflow = cluster.submit(document=cluster.emit(attempts=0, grace=2))
    assert workflow.run().phase == "Failed"
    cluster.log()
    assert cluster.submit(rerun="true").run().phase == "Succeeded"
    assert attempts(cluster)["gate:yes/ship"] == ["lost", "succeeded"]
    finished(cluster)


@pytest.mark.parametrize("how", ["stop", "terminate", "reach_deadline", "evict", "delete"])
def test_what_is_ended_while_it_runs_is_cancelled_and_goes_on(cluster, how):
    cluster.tell(ship="hang")
    workflow = cluster.submit(document=cluster.emit(pack=True))
    import threading

    def hurt():
        for _ in range(1200):
            if (cluster.folder / "hanging").exists():
                break
            time.sleep(0.05)
        cluster.tell()
        pod = next(p for p in workflow.pods if "ship" in p.node_name)
        getattr(workflow, how)(*([pod] if how in ("evict", "delete") else []))

    thread = threading.Thread(target=hurt)
    thread.start()
    phase = workflow.run(workers=2).phase
    thread.join()
    again = how in ("evict", "delete")
    assert phase == ("Succeeded" if again else "Failed")
    assert attempts(cluster)["gate:yes/ship"] == ["cancelled", *(["succeeded"] if again else [])]
    packed = any("finish" in pod.node_name or "onExit" in pod.node_name for pod in workflow.pods)
    assert packed is (how != "terminate")
    if not again:
        assert cluster.local("retry", "r", str(PIPELINE))[0] == 0
    finished(cluster)


def test_items_in_chunks(cluster):
    workflow = cluster.submit(document=cluster.emit(chunk=2, workers=2))
    assert workflow.run(workers=2).phase == "Succeeded"
    finished(cluster)
    chunks = [pod for pod in workflow.pods if ".n-each.each(" in pod.node_name]
    assert len(chunks) == 2
    assert Counter(cluster.log())['parse "eu"'] == 2


def test_what_argo_remembers_of_a_run_that_was_removed_makes_no_success(cluster):
    document = cluster.emit(memoize=True)
    first = cluster.submit(document=document)
    assert first.run(workers=3).phase == "Succeeded"
    assert cluster.local("rm", "r", "--yes")[0] == 0
    cluster.log()
    again = Workflow(document, {"run_id": "r"}, run_pod=cluster, cache=first.cache)
    assert again.run().phase == "Failed"  # its steps were remembered, and the store has none
    assert "first" not in cluster.log()
    assert "not finished" in cluster.said[f"{again.name}.verdict"]
    # With a rerun nothing that is remembered is believed.
    rerun = {"run_id": "r", "rerun": "true"}
    last = Workflow(document, rerun, run_pod=cluster, cache=first.cache)
    assert last.run(workers=3).phase == "Succeeded"
    finished(cluster)


def test_a_laptop_that_undoes_a_step_meanwhile_is_heard(cluster):
    """Argo keeps what succeeded in the workflow: the verdict asks the store."""
    cluster.tell(report="fail")
    workflow = cluster.submit()
    assert workflow.run(workers=3).phase == "Failed", unfinished(workflow)
    cluster.tell(left="fail")
    again = ("--force", "both:left/left", "--only", "both:left/left")
    assert cluster.local("retry", "r", str(PIPELINE), *again)[0] == 1
    cluster.tell()
    workflow.retry()
    assert workflow.run(workers=3).phase == "Failed", unfinished(workflow)
    assert "both:left/left" in cluster.said[f"{workflow.name}.verdict"]
    assert cluster.submit(rerun="true").run(workers=3).phase == "Succeeded"


def test_parameters_reach_the_run_as_they_were_submitted(cluster):
    workflow = cluster.submit(n='{"{{workflow.name}}": "{{=1+1}}"}')
    workflow.run()
    _, out = cluster.local("show", "r", "--format", "json")
    assert json.loads(out)["parameters"] == {"n": {"{{workflow.name}}": "{{=1+1}}"}}
    wrong = cluster.submit("other", m="4")
    assert wrong.run().phase == "Failed"
    assert "'m'" in cluster.said[f"{wrong.name}.plan(0)"]
    assert len(wrong.pods) == 1


def test_a_workflow_that_is_refused_packs_nothing(cluster):
    assert cluster.local("run", str(PIPELINE), "--run-id", "r")[0] == 0
    before = set(cluster.folder.rglob("packs/*"))
    workflow = cluster.submit(document=cluster.emit(pack=True))
    assert workflow.run().phase == "Failed"  # the run is another's
    assert set(cluster.folder.rglob("packs/*")) == before
    assert "is not packed" in cluster.said[f"{workflow.name}.onExit(0)"]


def test_a_command_that_exits_as_a_pod_that_is_to_be_replaced_has_failed(cluster, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("parameters: {}\nsteps: [{name: a, params: [city], command: exit 75}]")
    other = Cluster(tmp_path / "other", pipeline=file)
    workflow = other.submit(city="oslo")
    assert workflow.run().phase == "Failed"
    assert attempts(other) == {"a": ["failed"]}
    assert [pod.node_name for pod in workflow.pods if "n-a" in pod.node_name] == [
        f"{workflow.name}.n-a(0)"
    ]
