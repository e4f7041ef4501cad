"""``runstore argo`` and ``runstore pod``, as they are typed."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

PIPELINE = """\
parameters: {n: 3, name: "a b"}
steps:
  - name: first
    params: [n]
    returns: [xs]
    command: |
      echo '{"xs": [1, 2]}' > $RUNSTORE_RETURNS
  - name: each
    kind: map
    over: xs
    as: x
    body:
      steps:
        - {name: work, params: [x], command: "echo $x"}
"""
GIVEN = ("argo", "p.yaml", "--image", "img:1", "--store", "s3://bucket/runs")


@pytest.fixture
def argo(shell):
    shell.write("p.yaml", PIPELINE)
    return shell


def test_it_prints_a_workflow_that_is_the_same_each_time(argo):
    code, out, err = argo(*GIVEN)
    assert (code, err) == (0, "")
    document = yaml.safe_load(out)
    assert document["kind"] == "Workflow"
    assert document["metadata"]["generateName"] == "p-"
    assert argo(*GIVEN)[1] == out
    assert json.loads(argo(*GIVEN, "--format", "json")[1]) == document
    assert argo(*GIVEN, "-o", "wf.yaml") == (0, "", "")
    assert (argo.folder / "wf.yaml").read_text() == out


def test_options_reach_the_document(argo):
    argo.write("over.yaml", "spec: {priority: 7}\n")
    code, out, err = argo(
        *GIVEN, "--kind", "CronWorkflow", "--schedule", "0 3 * * *",
        "--run-id", "{{workflow.name}}",
        "--name", "nightly", "--label", "team=x", "--env", "A=1", "--secret-env", "T=s/k",
        "--env-from-secret", "aws", "--node-selector", "a=b", "--chunk", "10", "--memory", "1Gi",
        "--pipeline-in-image", "/app/p.yaml",
    )  # fmt: skip
    assert code == 0, err
    document = yaml.safe_load(out)
    spec = document["spec"]["workflowSpec"]
    assert document["metadata"]["labels"] == {"team": "x"}
    pod = next(each["container"] for each in spec["templates"] if each["name"] == "s-first")
    assert pod["args"][:3] == ["exec", "--pipeline", "/app/p.yaml"]
    assert pod["resources"]["requests"] == {"memory": "1Gi"}
    secret = {"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert secret in pod["env"]
    assert any(each["name"] == "k-each" for each in spec["templates"])
    said = argo.refused(2, *GIVEN, "--overlay", "over.yaml", "--kind", "CronWorkflow")
    assert "schedule" in said
    code, out, _ = argo(*GIVEN, "--overlay", "over.yaml")
    assert yaml.safe_load(out)["spec"]["priority"] == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--store", ".runstore"), "no two pods share"),
        (("--store", "memory://x"), "no two pods share"),
        (("--secret-env", "T=s"), "SECRET/KEY"),
        (("--env", "A={{x}}"), "template"),
        (("--image", "{{x}}"), "the image"),
        (("--overlay", "nope.yaml"), "nope.yaml"),
    ],
)
def test_what_cannot_be_meant_is_refused(argo, words, said):
    assert said in argo.refused(2, *GIVEN, *words)


def test_a_pod_plans_lists_and_judges(argo):
    listed = [{"name": "run_id", "value": "r"}, {"name": "n", "value": "5"}]
    given = {
        "RUNSTORE_ARGO_PARAMETERS": base64.b64encode(json.dumps(listed).encode()).decode(),
        "RUNSTORE_INVOCATION": "wf-uid", "RUNSTORE_RESULTS": str(argo.folder / "results"),
    }  # fmt: skip
    pipeline = ("--pipeline", "p.yaml", "--", "r")
    assert argo("pod", "plan", *pipeline, **given)[0] == 0
    assert (argo.folder / "results/todo").read_text() == " n-first n-each "
    assert argo("pod", "items", *pipeline, "each", **given)[0] == 75
    assert argo("exec", *pipeline, "first", **given)[0] == 0
    assert argo("pod", "items", *pipeline, "each", **given)[0] == 0
    at = json.loads((argo.folder / "results/items").read_text())
    assert at == ["each[1]/", "each[2]/"]
    code, _, err = argo("pod", "verdict", *pipeline, **given)
    assert code == 1
    assert "each[1]/work: never ran" in err
    for each in at:
        assert argo("exec", *pipeline, f"{each}work", **given)[0] == 0
    assert argo("pod", "verdict", *pipeline, **given)[0] == 0
    code, _, err = argo("pod", "plan", *pipeline, **{**given, "RUNSTORE_INVOCATION": "wf-2"})
    assert code == 2
    assert "rerun=true" in err


def test_pods_are_not_listed(argo):
    _, out, _ = argo("--help")
    assert "argo " in out
    assert "\n  pod" not in out
    assert argo("pod", "--help")[0] == 0
