"""The evaluator against 33 recordings of a real controller.

Each workflow is evaluated with the outcomes of its pods, and what happened to it, as recorded. Of
every node all is compared that `recordings.FIELDS` lists, of the workflow its phase and message.
"""

import pytest

from tests.argo.evaluator import Cache, PodResult, Refused, Workflow
from tests.argo.recordings import (
    FIELDS,
    containers,
    differences,
    outcomes,
    recording,
    recordings_needed,
)

pytestmark = recordings_needed


def started(document, run_pod=None, **options):
    """The recorded workflow, to be run again."""
    metadata = document["metadata"]
    options = {"name": metadata["name"], "uid": metadata["uid"], **options}
    return Workflow(document, run_pod=run_pod or outcomes(document), **options)


@pytest.mark.parametrize(
    "name",
    [
        "1_failed",
        "6_nested_loop_cond_emptymap_false_success",
        "7_before_argo_retry_alert",
        "8_before_argo_retry_map_item",
        "9_all_done_report_false_success",
        "10_verdict_target_handled",
        "11_verdict_target_unhandled",
        "12_plan_prelude_skips",
        "18_retries_exhausted",
        "19_empty_map_omits_succeeded",
        "20_awkward_items_raw",
        "21_awkward_items_tojson",
        "22_item_del_char_error",
    ],
)
def test_what_the_pods_came_to_decides(name):
    document = recording(name)
    workflow = started(document)
    workflow.run()
    assert differences(workflow, document) == []
    scopes = {node["templateScope"] for node in document["status"]["nodes"].values()}
    assert scopes == {workflow.status.template_scope}


def test_an_item_that_is_a_tag_makes_the_spec_invalid():
    document = recording("23_item_tag_injection_refused")
    workflow = started(document, checked=False)
    workflow.run()
    assert differences(workflow, document) == []
    with pytest.raises(Refused, match=r"failed to resolve \{\{inputs.parameters.v\}\}"):
        started(document)


def test_a_workflow_submitted_from_a_template():
    document = recording("25_from_workflowtemplate")
    spec = document["status"]["storedWorkflowTemplateSpec"]
    own = document["spec"]["arguments"]["parameters"]
    needed = {"parameters": [{"name": "run_id"}, {"name": "rerun", "value": "false"}]}
    del spec["workflowTemplateRef"]
    template = {
        "kind": "WorkflowTemplate",
        "metadata": {"name": "census"},
        "spec": {**spec, "arguments": needed},
    }
    name, given = document["metadata"]["name"], {each["name"]: each["value"] for each in own}
    with pytest.raises(Refused, match="run_id"):
        Workflow(template)
    for source, options in (
        (template, {"parameters": given}),
        (document, {"workflow_templates": {"census": template}}),
    ):
        workflow = Workflow(source, run_pod=outcomes(document), name=name, **options)
        workflow.run()
        assert differences(workflow, document) == []
        scopes = {node["templateScope"] for node in document["status"]["nodes"].values()}
        assert scopes == {workflow.status.template_scope}


# Memoization


def test_a_new_submission_and_then_a_retry_of_the_first_share_a_cache():
    """1: `map(1:b)` failed. 2: another workflow takes over what succeeded, and finishes. 3: the
    first one, retried, runs `map(1:b)`, which it has, and finds what follows in the cache."""
    one, two, three = (
        recording(name) for name in ("1_failed", "2_new_submit_memo_hits", "3_f1_after_argo_retry")
    )
    cache = Cache()
    first, second = started(one, cache=cache), started(two, cache=cache)
    first.run()
    assert differences(first, one) == []
    second.run()
    assert differences(second, two) == []
    first.run_pod = outcomes(three)
    first.retry()
    first.run()
    assert differences(first, three) == []
    assert views([*first.pods, *second.pods]) == recorded_views("container_view")


def test_a_hit_on_an_outer_steps_template():
    document, cache = recording("24_memo_hit_outer_steps"), Cache()
    outer = {"metadata": {"name": "memo1"}, "spec": document["spec"]}
    Workflow(outer, run_pod=lambda pod: PodResult(0, {"o": "1"}), cache=cache).run()
    workflow = started(document, cache=cache)
    workflow.run()
    assert differences(workflow, document) == []
    assert [pod.node_name for pod in workflow.pods] == ["memo2.n-b"]


def test_a_hit_on_a_template_with_a_retry_strategy_hangs():
    """All nodes have ended, nothing is left to do, and the workflow is Running for ever."""
    document, cache = recording("5_memo_plus_retry_hang"), Cache()
    before = {"metadata": {"name": "r1"}, "spec": document["spec"]}
    values = {"list": '["a","b","c"]', "map-a": '"a!"', "map-b": '"b!"', "map-c": '"c!"'}
    values |= {"reduce": '["\\"a!\\"","\\"b!\\"","\\"c!\\""]', "big": "1"}

    def run_pod(pod):
        return PodResult(0, {"out": values.get(pod.inputs.get("name"), "")})

    assert Workflow(before, run_pod=run_pod, cache=cache).run().phase == "Succeeded"
    workflow = started(document, cache=cache)
    for _ in range(3):
        workflow.run()
        assert differences(workflow, document) == []
    assert workflow.phase == "Running"
    assert workflow.pods == []
    assert [node.name for node in workflow.status.nodes.values() if not node.fulfilled] == ["r1b"]


def test_resubmitting_memoized_succeeds_without_two_steps():
    """Steps with retries: a Retry node is over and gets another attempt all the same, its group
    does not wait for that, and what follows is never run."""
    document = recording("4_resubmit_memoized_wrong_success")

    def fails_at_b(pod):
        return PodResult(3) if "(1:b)" in pod.node_name else later(pod)

    later = outcomes(recording("1_failed"))
    spec = {"metadata": {"generateName": "demo-"}, "spec": document["spec"]}
    first = Workflow(spec, run_pod=fails_at_b, name="c1")
    assert first.run().phase == "Failed"
    metadata = document["metadata"]
    again = first.resubmit(
        memoized=True,
        run_pod=outcomes(document),
        name=metadata["name"],
        uid=metadata["uid"],
    )
    again.run()
    assert differences(again, document) == []
    assert again.node("map").phase == "Error"
    assert again.phase == "Succeeded"


# argo retry


def test_a_failure_with_an_alert_after_it_is_not_retried():
    before, after = (
        recording("7_before_argo_retry_alert"),
        recording("7_argo_retry_after_alert_runs_nothing"),
    )
    workflow = started(before)
    workflow.run()
    workflow.retry()
    pods = len(workflow.pods)
    workflow.run()
    assert differences(workflow, after) == []
    assert len(workflow.pods) == pods


def test_an_item_of_a_map_is_retried():
    before, after = recording("8_before_argo_retry_map_item"), recording("8_argo_retry_map_item")
    workflow = started(before)
    workflow.run()
    workflow.run_pod = outcomes(after)
    pods = list(workflow.pods)
    workflow.retry()
    workflow.run()
    assert differences(workflow, after) == []
    again = workflow.pods[len(pods) :]
    assert [pod.node_name for pod in again] == ["re.n-m(1:b).n-p", "re.n-m(1:b).n-q", "re.n-red"]
    [earlier] = [pod for pod in pods if pod.node_name == "re.n-m(1:b).n-p"]
    assert (earlier.name, earlier.node_id) == (again[0].name, again[0].node_id)
    assert earlier.uid != again[0].uid
    assert earlier.workflow_uid == again[0].workflow_uid


def test_a_loop_that_calls_itself_is_retried():
    document = recording("28_loop_retried")
    succeeds = outcomes(document)

    def fails_once(pod):
        return PodResult(5) if pod.inputs.get("at") == "l@1" else succeeds(pod)

    workflow = started(document, fails_once)
    assert workflow.run().phase == "Failed"
    workflow.run_pod = succeeds
    workflow.retry()
    workflow.run()
    assert differences(workflow, document) == []


# What happens to a pod


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("13_eviction_retried", "evict"),
        ("14_eviction_not_retried_by_onerror", "evict"),
        ("15_stop", "stop"),
        ("16_terminate", "terminate"),
        ("17_deadline", "reach_deadline"),
        ("26_sigkill_after_grace", "stop"),
    ],
)
def test_an_event_while_the_first_pod_runs(name, event):
    document = recording(name)
    outcome = outcomes(document)
    happened = []

    def run_pod(pod):
        if not happened:
            happened.append(event)
            getattr(workflow, event)(*([pod] if event == "evict" else []))
        return outcome(pod)

    workflow = started(document, run_pod)
    workflow.run()
    assert differences(workflow, document) == []


def test_two_pods_for_one_node():
    """Deleted before the controller saw it run; without any retryStrategy."""
    document = recording("27_two_pods_one_node_no_retry")
    outcome = outcomes(document)

    def run_pod(pod):
        first = len(workflow.pods) == 1
        return PodResult.deleted(pending=True) if first else outcome(pod)

    workflow = started(document, run_pod)
    workflow.run()
    assert differences(workflow, document) == []
    one, two = (pod for pod in workflow.pods if pod.node_name == "xdel.n-long")
    assert (one.name, one.node_id) == (two.name, two.node_id)
    assert one.uid != two.uid


# What a container sees: its node, arguments and environment, but the pod's uid and the trace

CHANGING = ("RS_POD_UID", "TRACEPARENT", "TRACESTATE")


def views(pods):
    return sorted(
        (
            pod.node_id,
            pod.args,
            sorted((k, v) for k, v in pod.environment.items() if k not in CHANGING),
        )
        for pod in pods
    )


def recorded_views(name):
    return sorted(
        (
            line["env"]["ARGO_NODE_ID"],
            line["argv"],
            sorted((k, v) for k, v in line["env"].items() if k not in CHANGING),
        )
        for line in containers(name)
    )


def test_what_containers_see():
    workflow = started(recording("6_nested_loop_cond_emptymap_false_success"))
    workflow.run()
    assert views(workflow.pods) == recorded_views("container_view_nested")
    assert all(pod.environment.get("RS_POD_UID", pod.uid) == pod.uid for pod in workflow.pods)


def test_the_comparison_would_tell():
    document = recording("19_empty_map_omits_succeeded")
    workflow = started(document)
    workflow.run()
    for field in FIELDS:
        for node in document["status"]["nodes"].values():
            changed = recording("19_empty_map_omits_succeeded")
            changed["status"]["nodes"][node["id"]][field] = {"parameters": [{"name": "other"}]}
            if field in ("children", "outboundNodes"):
                changed["status"]["nodes"][node["id"]][field] = ["other"]
            assert differences(workflow, changed) != []
