"""What the status of a workflow says of its pods, and a run that is settled by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import runstore
from runstore.dag import Dag
from runstore.errors import InputError
from runstore.integrations.argo.liveness import WorkflowLiveness
from runstore.integrations.argo.pods_before import pod_hash
from runstore.integrations.argo.status import read_status
from runstore.records import Holder, Start
from runstore.records.keys import attempt_key
from tests.argo.on_argo import PIPELINE, Cluster, attempts
from tests.argo.recordings import FOLDER, recordings_needed
from tests.cli.conftest import Shell
from tests.examples.raw import outcomes, run_folder


def document(phase: str = "Running", **nodes: tuple[str, str]) -> dict:
    """Node -> its phase, and the exit code of its container."""
    return {
        "metadata": {"name": "wf", "uid": "u-1", "annotations": {"runstore.io/format": "1"}},
        "spec": {
            "arguments": {"parameters": [{"name": "run_id", "value": "r"}]},
            "templates": [{"name": "s-a"}, {"name": "s-a--b"}, {"name": "main"}],
        },
        "status": {
            "phase": phase,
            "nodes": {
                f"wf-{pod_hash(name)}": {
                    "type": "Pod", "name": name, "phase": each,
                    "outputs": {"exitCode": code} if code else {},
                }
                for name, (each, code) in nodes.items()
            },
        },
    }  # fmt: skip


def read(found: dict, **more: bool) -> WorkflowLiveness:
    return WorkflowLiveness(read_status(json.dumps(found).encode(), "wf.json"), **more)


def pod(node: str, template: str = "s-a", workflow: str = "wf") -> Holder:
    return Holder("h", pod=f"{workflow}-{template}-{pod_hash(node)}", pod_uid="u")


NODES = {
    "a": ("Running", ""), "b": ("Failed", "1"), "c": ("Pending", ""), "d": ("Succeeded", "0"),
    # By `argo stop`, which ends nodes before their pods; and one that is deleted.
    "e": ("Failed", ""), "f": ("Error", ""),
}  # fmt: skip


def test_a_pod_is_dead_when_its_container_has_ended_and_not_when_its_node_has():
    pods = read(document(**NODES))
    alive = {node: pods.is_alive(pod(node)) for node in "abcdefg"}
    assert alive == {"a": True, "b": False, "c": True, "d": False, "e": None, "f": None, "g": None}
    assert pods.is_alive(pod("b", "s-a--b")) is False
    assert "exit code 1" in pods.why(pod("b"))
    assert "may have time to go" in pods.why(pod("e"))
    assert "not in the status" in pods.why(pod("g"))
    for other in (pod("b", "s-x"), pod("b", workflow="wf-2"), Holder("h", 1), Holder("h", pod="")):
        assert pods.is_alive(other) is None
    # A workflow that has ended may have pods that have time to go, too.
    ended = read(document("Failed", **NODES))
    assert [ended.is_alive(pod(node)) for node in "aeg"] == [True, None, None]


def test_who_has_seen_that_no_pod_is_there_says_so():
    pods = read(document("Failed", **NODES), pods_gone=True)
    assert [pods.is_alive(pod(node)) for node in "abcdefg"] == [False] * 7
    assert pods.is_alive(pod("a", workflow="wf-2")) is None


def test_a_workflow_of_a_template_has_a_label_and_its_templates_in_the_status():
    found = document("Failed", a=("Failed", "2"))
    found["status"]["storedWorkflowTemplateSpec"] = {"templates": found["spec"].pop("templates")}
    found["metadata"]["labels"] = {"runstore.io/run-id": "r"}
    del found["metadata"]["annotations"]
    assert read(found).is_alive(pod("a")) is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": {"compressedNodes": "H4s"}}, "argo get"),
        ({"status": {"offloadNodeStatusVersion": "fnv:1"}}, "argo get"),
        ({"status": None}, "'status'"), ({"spec": []}, "'spec'"), ({"metadata": {}}, "uid"),
        ({"status": {"nodes": [1]}}, "nodes that are no object"),
        ({"status": {"nodes": {"a": 1}}}, "is no object"),
        ({"status": {"nodes": {"a": {}}}}, "name"),
        ({"spec": {"arguments": {"parameters": {"run_id": 1}}}}, "no list of objects"),
        ({"spec": {"arguments": {"parameters": [{"name": "n", "value": 1}]}}}, "no text"),
    ],
)  # fmt: skip
def test_what_is_no_status_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        read({**document(), **change})


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b'{"metadata": NaN}', b"1" * 10_000]
)
def test_what_is_no_workflow_is_refused(data):
    with pytest.raises(InputError):
        read_status(data, "wf.json")


@recordings_needed
def test_the_recordings_are_of_other_workflows():
    assert FOLDER is not None
    for file in sorted(FOLDER.glob("[0-9]*.json")):
        assert not read_status(file.read_bytes(), file.name).ours


def test_a_run_is_settled_by_what_became_of_its_pods(tmp_path: Path):
    cluster = Cluster(tmp_path)
    cluster.tell(ship="die")
    workflow = cluster.submit(document=cluster.emit(attempts=0, grace=2))
    assert workflow.run().phase == "Failed"
    (tmp_path / "wf.json").write_text(json.dumps(workflow.document))
    shell = Shell(tmp_path)
    code, out, err = shell("argo-import", "wf.json", "--store", cluster.store)
    assert code == 0, err
    assert "1 attempt of dead pods ended as lost" in out
    assert "gate:yes/ship (attempt 1, pod " in out
    assert attempts(cluster)["gate:yes/ship"] == ["lost"]
    assert "0 attempts" in shell("argo-import", "wf.json", "--store", cluster.store)[1]
    assert cluster.local("retry", "r", str(PIPELINE))[0] == 0
    assert shell("argo-import", "no.json")[0] == 2
    code, _, err = shell("argo-import", "wf.json", "p.py", "--store", cluster.store)
    assert (code, "no other is made of it" in err) == (2, True)


def test_what_a_stop_left_open_is_ended_when_the_pods_are_gone(tmp_path: Path):
    """The node was ended before its pod, whose exit code nobody saw."""
    run = runstore.open_store(tmp_path / "store").create_run(
        Dag([runstore.task(lambda: None, name="a")]), run_id="r"
    )
    nonce = run.record.nonce
    begun = Start("r", "a", 1, "0" * 32, run.begin_invocation().id, pod("e"), run_nonce=nonce)
    run.writer.write(attempt_key(run.prefix, "a", 1, "start"), begun)
    found = document("Failed", e=("Failed", ""))
    for each in found["status"]["nodes"].values():
        each["message"] = "workflow shutdown with strategy:  Stop"
    (tmp_path / "wf.json").write_text(json.dumps(found))
    shell = Shell(tmp_path)
    _, out, _ = shell("argo-import", "wf.json", "--store", "store")
    assert "0 attempts of dead pods" in out
    assert "may have time to go: its node is Failed: workflow shutdown" in out
    assert "--pods-gone" in out
    assert not list(tmp_path.rglob("*.end.json"))
    _, out, _ = shell("argo-import", "wf.json", "--pods-gone", "--store", "store")
    assert "1 attempt of dead pods ended as lost" in out
    assert outcomes(run_folder(tmp_path / "store", "r")) == {"a": ["lost"]}
