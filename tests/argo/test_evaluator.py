"""What no recording shows, by the controller's source: references, submission, DAGs, steps."""

import json

import pytest

from tests.argo.evaluator import PodResult, Refused, Workflow
from tests.argo.specs import by_exit_code, container, dag, phases, task

# References


@pytest.mark.parametrize(
    "reference", ["{{tasks.n-a.outputs.parameters.y}}", "{{=tasks['n-a'].outputs.parameters.y}}"]
)
def test_an_output_that_is_not_there_is_waited_for_for_ever(reference):
    """Lint refuses a plain one; an expression nobody looks into."""
    spec = dag(
        task("n-a"),
        task("n-b", "u", "n-a", {"v": reference}),
        templates=[container("t", outputs=["x"]), container("u", inputs=["v"])],
    )
    if reference[2] != "=":
        with pytest.raises(Refused, match="failed to resolve"):
            Workflow(spec)
    workflow = Workflow(spec, run_pod=by_exit_code({}), checked=reference[2] == "=")
    if reference[2] == "=":
        workflow.run()
        assert workflow.phase == "Running"
        assert phases(workflow) == {"": "Running", "n-a": "Succeeded"}


def test_the_output_of_a_skipped_task_is_a_terminal_error_without_a_default():
    consumer = container("u", inputs=["v"])
    defaulted = container("d")
    defaulted["inputs"] = {"parameters": [{"name": "v", "default": "none"}]}
    reference = {"v": "{{tasks.n-a.outputs.parameters.x}}"}
    spec = dag(
        task("n-a", when="false"),
        task("n-b", "u", "n-a", reference),
        task("n-c", "d", "n-a", reference),
        task("n-d", "u", "n-a", {"v": "is {{tasks.n-a.outputs.parameters.x}}"}),
        templates=[container("t", outputs=["x"]), consumer, defaulted],
    )
    workflow = Workflow(spec)
    workflow.run()
    found = phases(workflow)
    assert (found["n-b"], found["n-c"], found["n-d"]) == ("Error", "Succeeded", "Error")
    assert "absent optional" in workflow.node("n-b").message
    assert workflow.pods[0].inputs == {"v": "none"}


def test_a_plain_when_breaks_on_a_quote_in_the_value():
    spec = dag(
        task("n-a"), task("n-b", depends="n-a", when="'{{tasks.n-a.outputs.parameters.x}}' == a")
    )
    workflow = Workflow(spec, run_pod=lambda pod: PodResult(0, {"x": "it's"}))
    assert workflow.run().phase == "Error"
    assert workflow.node("n-b").phase == "Error"
    assert "Invalid 'when' expression" in workflow.node("n-b").message


@pytest.mark.parametrize("name", ["in", "nil", "not"])
def test_a_task_with_the_name_of_an_operator_is_an_error_when_it_is_run(name):
    workflow = Workflow(dag(task(name), task("n-b", depends=f"{name}.Succeeded")))
    assert workflow.run().phase == "Error"
    assert workflow.node("n-b").type == "Skipped"


def test_the_outputs_of_a_map_are_a_list_in_its_order():
    spec = dag(
        task("n-m", "i", values={"at": "{{item}}"}, withItems=["a", "b", "c"]),
        task("n-r", "i", "n-m", {"at": "{{tasks.n-m.outputs.parameters.x}}"}),
        templates=[container("i", inputs=["at"], outputs=["x"])],
    )
    workflow = Workflow(spec, run_pod=lambda pod: PodResult(0, {"x": pod.inputs["at"].upper()}))
    workflow.run()
    assert workflow.pods[-1].inputs == {"at": '["A","B","C"]'}


def test_an_output_that_is_declared_and_not_written():
    """The node is an error, unless there is a default."""
    spec = dag(task("n-a"))
    assert Workflow(spec).run().phase == "Error"
    spec["templates"][1]["outputs"]["parameters"][0]["valueFrom"]["default"] = "d"
    workflow = Workflow(spec)
    assert workflow.run().phase == "Succeeded"
    assert workflow.node("n-a").outputs["parameters"][0]["value"] == "d"


# Submission


def test_parameters():
    declared = [{"name": "run_id"}, {"name": "n", "value": 3}]
    spec = dag(task("n-a"), spec={"arguments": {"parameters": declared}})
    spec["templates"][1]["container"]["args"] = [
        "{{workflow.parameters.run_id}}",
        "{{workflow.parameters.n}}",
        "{{workflow.parameters.json}}",
        "{{workflow.creationTimestamp.Y}}",
        "{{unknown}}",
    ]
    with pytest.raises(Refused, match=r"run_id.value .* is required"):
        Workflow(spec)
    workflow = Workflow(spec, {"run_id": "r1", "misspelt": "x"})
    workflow.run()
    assert workflow.pods[0].args == [
        "r1",
        "3",
        '[{"name":"run_id","value":"r1"},{"name":"misspelt","value":"x"},{"name":"n","value":"3"}]',
        "2026",
        "{{unknown}}",
    ]


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (dag(task("a_b")), "alpha-numeric"),
        (dag(task("1a", depends="b"), task("b")), "cannot begin with a digit"),
        (dag(task("a", depends="b")), "dependency 'b' not defined"),
        (dag(task("a", depends="b"), task("b", depends="a")), "cycle"),
        (dag(task("a", "other")), "template name 'other' undefined"),
        (dag(task("a"), target="b"), "target 'b' is not defined"),
        (dag(task("a"), task("a")), "not unique"),
        (dag(task("a", depends="b.Done"), task("b")), "task result 'Done'"),
        (dag(task("a", values={"v": "{{inputs.parameters.v}}"})), "failed to resolve"),
        (dag(task("a", "i"), templates=[container("i", inputs=["v"])]), "had no value"),
        (dag(task("a", withParam='["{{"]')), "Cannot find end tag"),
    ],
)
def test_a_spec_that_is_refused(spec, fault):
    with pytest.raises(Refused, match=fault):
        Workflow(spec)
    workflow = Workflow(spec, checked=False)
    assert workflow.run().phase == "Failed"
    assert workflow.status.message.startswith("invalid spec: ")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"templates": [{"name": "a", "script": {"source": "true"}}]}, "script"),
        ({"templates": [{"name": "a", "inputs": {"artifacts": [{"name": "x"}]}}]}, "artifacts"),
        (
            {"templates": [{"name": "a", "dag": {"tasks": [{"name": "b", "onExit": "a"}]}}]},
            "onExit",
        ),
        ({"templates": [], "hooks": {"running": {}}}, "running"),
    ],
)
def test_what_is_not_evaluated_is_said_so(spec, said):
    with pytest.raises(NotImplementedError, match=said):
        Workflow({"entrypoint": "a", **spec})


def test_what_a_workflow_is_submitted_from():
    spec = dag(task("n-a"), spec={"arguments": {"parameters": [{"name": "run_id"}]}})
    metadata = {"labelsFrom": {"run": {"expression": "workflow.parameters.run_id + '!'"}}}
    cron = {
        "kind": "CronWorkflow",
        "metadata": {"name": "nightly"},
        "spec": {"workflowSpec": {**spec, "workflowMetadata": metadata}},
    }
    workflow = Workflow(cron, {"run_id": "r"}, run_pod=by_exit_code({}))
    assert workflow.run().phase == "Succeeded"
    assert workflow.name.startswith("nightly-")
    assert workflow.labels == {"run": "r!"}


# The phase of a DAG


@pytest.mark.parametrize(("fail_fast", "phase"), [(True, "Failed"), (False, "Failed")])
def test_one_of_two_leaves_fails(fail_fast, phase):
    """The other one runs all the same: nothing that a DAG has begun is stopped."""
    workflow = Workflow(
        dag(task("n-a"), task("n-b"), task("n-c", depends="n-b"), failFast=fail_fast),
        run_pod=by_exit_code({"n-a": 1}),
    )
    assert workflow.run().phase == phase
    assert phases(workflow)["n-c"] == "Succeeded"


def test_only_what_leads_to_the_target_is_run():
    workflow = Workflow(
        dag(task("n-a"), task("n-b", depends="n-a.Failed"), task("n-c"), target="n-b"),
        run_pod=by_exit_code({"n-a": 1}),
    )
    assert workflow.run().phase == "Succeeded"
    assert phases(workflow) == {"": "Succeeded", "n-a": "Failed", "n-b": "Succeeded"}


def test_steps():
    steps = [
        [task("a"), task("b", when="{{=1 > 2}}")],
        [task("c", "i", values={"v": "{{item}}"}, withParam="{{steps.a.outputs.parameters.x}}")],
        [task("d", "i", values={"v": "{{steps.c.outputs.parameters.x}}"})],
    ]
    templates = [
        {"name": "main", "steps": steps},
        container("t", outputs=["x"]),
        container("i", inputs=["v"], outputs=["x"]),
    ]

    def run_pod(pod):
        return PodResult(0, {"x": pod.inputs["v"] if pod.inputs else '["p",{"q":1}]'})

    workflow = Workflow({"entrypoint": "main", "templates": templates}, run_pod=run_pod)
    assert workflow.run().phase == "Succeeded"
    assert [pod.inputs for pod in workflow.pods][1:] == [
        {"v": "p"},
        {"v": '{"q":1}'},
        {"v": '["p","{\\"q\\":1}"]'},
    ]
    assert workflow.node("[0].b").phase == "Skipped"


def test_a_loop_may_not_nest_deeper_than_a_hundred():
    loop = {
        "name": "l",
        "inputs": {"parameters": [{"name": "i"}]},
        "dag": {"tasks": [task("n", "l", values={"i": "{{=asInt(inputs.parameters.i) + 1}}"},
                               when="{{=asInt(inputs.parameters.i) < 200}}")]},
    }  # fmt: skip
    workflow = Workflow(dag(task("n", "l", values={"i": "0"}), templates=[loop]))
    assert workflow.run().phase == "Error"
    errors = [node for node in workflow.status.nodes.values() if node.type == "Skipped"]
    assert [node.message for node in errors] == ["Maximum recursion depth exceeded."]
    assert len(workflow.status.nodes) == 100


def test_a_long_chain_of_tasks():
    chain = [task("n-0"), *(task(f"n-{i}", depends=f"n-{i - 1}") for i in range(1, 300))]
    workflow = Workflow(dag(*chain, spec={"parallelism": 1}), run_pod=by_exit_code({}))
    workflow.run()
    assert workflow.phase == "Succeeded"
    assert len(workflow.pods) == 300


def test_parallelism():
    spec = dag(
        task("n-m", values={}, withItems=list(range(7))),
        templates=[container("t")],
    )
    spec["templates"][0]["parallelism"] = 3
    at_once = []

    def run_pod(pod):
        at_once.append(len([each for each in workflow.pods if each.result is None]))
        return PodResult()

    workflow = Workflow(spec, run_pod=run_pod)
    assert workflow.run().phase == "Succeeded"
    assert max(at_once) == 3


# Node ids


def test_two_items_whose_node_ids_are_one():
    """Ids are 32 bits of hash: the second item never runs, takes the first one's result, and
    nothing says so. In a map of 10,000 items this happens to one workflow in fifty."""
    spec = dag(
        task("n-m", "i", values={"at": "{{item}}"}, withItems=["tshlv", "axlfa", "b"]),
        templates=[container("i", inputs=["at"])],
    )
    workflow = Workflow(spec, name="w")
    assert workflow.run().phase == "Succeeded"
    assert [pod.inputs["at"] for pod in workflow.pods] == ["tshlv", "b"]
    assert workflow.node("n-m(1:axlfa)") is workflow.node("n-m(0:tshlv)")


# Size


def test_the_status_of_a_map_of_many_items():
    items = json.dumps([f"each[{number}]" for number in range(2000)])
    spec = dag(
        task("n-m", "i", values={"at": "{{item}}"}, withParam=items),
        templates=[container("i", inputs=["at"])],
    )
    workflow = Workflow(spec)
    assert workflow.run().phase == "Succeeded"
    per_item = len(json.dumps(workflow.document["status"], separators=(",", ":"))) / 2000
    # A real one had 591 bytes: these lack what the cluster adds (resources, host).
    assert 450 < per_item < 591
