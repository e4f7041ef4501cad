"""What the status of a workflow says of its pods, and a run that is settled by it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runstore.errors import InputError
from runstore.integrations.argo.liveness import pod_hash
from runstore.integrations.argo.status import read_status
from runstore.records import Holder
from tests.argo.on_argo import PIPELINE, Cluster, attempts
from tests.cli.conftest import Shell

SHARED = Path(os.environ.get("RUNSTORE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def document(phase: str = "Running", **nodes: str) -> dict:
    return {
        "metadata": {"name": "wf", "uid": "u-1", "annotations": {"runstore.io/format": "1"}},
        "spec": {
            "arguments": {"parameters": [{"name": "run_id", "value": "r"}]},
            "templates": [{"name": "s-a"}, {"name": "s-a--b"}, {"name": "main"}],
        },
        "status": {
            "phase": phase,
            "nodes": {
                f"wf-{pod_hash(name)}": {"type": "Pod", "name": name, "phase": each}
                for name, each in nodes.items()
            },
        },
    }


def read(found: dict):
    return read_status(json.dumps(found).encode(), "wf.json")


def pod(node: str, template: str = "s-a", workflow: str = "wf") -> Holder:
    return Holder("h", pod=f"{workflow}-{template}-{pod_hash(node)}", pod_uid="u")


def test_it_knows_the_pods_of_its_workflow_and_no_others():
    status = read(document(a="Running", b="Failed", c="Pending", d="Succeeded"))
    alive = {node: status.is_alive(pod(node)) for node in "abcde"}
    assert alive == {"a": True, "b": False, "c": True, "d": False, "e": None}
    assert status.is_alive(pod("b", "s-a--b")) is False
    for other in (pod("b", "s-x"), pod("b", workflow="wf-2"), Holder("h", 1), Holder("h", pod="")):
        assert status.is_alive(other) is None
    ended = read(document("Failed", a="Running"))
    assert [ended.is_alive(pod(node)) for node in "ae"] == [False, False]
    assert ended.is_alive(pod("a", workflow="wf-2")) is None


def test_a_workflow_of_a_template_has_a_label_and_its_templates_in_the_status():
    found = document("Failed")
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
        ({"status": {"nodes": [1]}}, "status that is none"),
        ({"metadata": {"name": "x", "uid": "u"}}, "runstore argo"),
        ({"metadata": {"name": "x", "uid": "u", "annotations": [1]}}, "runstore argo"),
        ({"spec": {"arguments": {"parameters": [{"name": "run_id"}]}}}, "run_id"),
        ({"spec": {"arguments": {"parameters": {"run_id": 1}}}}, "run_id"),
        ({"spec": {"arguments": {"parameters": [{"name": "run_id", "value": "r"}]}}}, "templates"),
    ],
)  # fmt: skip
def test_what_is_no_status_of_ours_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        read({**document(), **change})


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b'{"metadata": NaN}', b"1" * 10_000]
)
def test_what_is_no_workflow_is_refused(data):
    with pytest.raises(InputError):
        read_status(data, "wf.json")


def test_the_recordings_are_of_other_workflows():
    files = sorted((SHARED / "argo").glob("[0-9]*.json"))
    if not files:
        pytest.skip("the recordings are not here")
    for file in files:
        with pytest.raises(InputError, match="not written by `runstore argo`"):
            read_status(file.read_bytes(), file.name)


def test_a_run_is_settled_by_what_became_of_its_pods(tmp_path: Path):
    cluster = Cluster(tmp_path)
    cluster.tell(ship="die")
    workflow = cluster.submit(document=cluster.emit(attempts=0))
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
