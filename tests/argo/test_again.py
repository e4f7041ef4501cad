"""What runs again, and what does not: tries, `argo retry`, a new submission, memoization."""

import pytest

from tests.argo.evaluator import Cache, PodResult, Refused, Workflow
from tests.argo.specs import by_exit_code, container, dag, task

# Tries

RETRIED = (
    "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75,137,143] "
    "|| lastRetry.message matches 'low on resource|shutdown|preempt'"
)


@pytest.mark.parametrize(
    ("results", "pods"),
    [
        ([PodResult(75), PodResult(137), PodResult()], 3),
        ([PodResult.evicted(), PodResult()], 2),
        ([PodResult.deleted(), PodResult()], 2),
        ([PodResult(3), PodResult()], 1),
        ([PodResult(75)] * 9, 4),
    ],
)
def test_which_failures_are_tried_again(results, pods):
    strategy = {"limit": "3", "retryPolicy": "Always", "expression": RETRIED}
    results = list(results)
    workflow = Workflow(
        dag(task("n-a", "r"), templates=[container("r", retryStrategy=strategy)]),
        run_pod=lambda pod: results.pop(0),
    )
    workflow.run()
    assert len(workflow.pods) == pods
    assert workflow.phase == ("Failed" if pods in (1, 4) else "Succeeded")


@pytest.mark.parametrize(
    ("policy", "tried_again"),
    [
        ("Always", ["Failed", "Error"]),
        ("OnFailure", ["Failed"]),
        ("OnError", ["Error"]),
        (None, ["Failed"]),
    ],
)
def test_policies(policy, tried_again):
    strategy = {"limit": 1} | ({"retryPolicy": policy} if policy else {})
    spec = dag(task("n-a", "r"), templates=[container("r", retryStrategy=strategy)])
    for result, phase in ((PodResult.evicted(), "Failed"), (PodResult.deleted(), "Error")):
        workflow = Workflow(spec, run_pod=lambda pod, result=result: result)
        assert workflow.run().phase == phase
        assert len(workflow.pods) == (2 if phase in tried_again else 1)


def test_the_number_of_the_try():
    """Literal where there is no retryStrategy, and 0 again after `argo retry`."""
    tried = container("r", retryStrategy={"limit": 1})
    plain = container("t")
    for template in (tried, plain):
        template["container"] = {"image": "x", "command": ["rs"], "args": ["{{retries}}"]}
    spec = dag(task("n-a", "r"), task("n-b", "t"), templates=[tried, plain])
    workflow = Workflow(spec, run_pod=by_exit_code({"n-a(0)": 1, "n-a(1)": 1}))
    workflow.run()
    assert [pod.args for pod in workflow.pods] == [["0"], ["{{retries}}"], ["1"]]
    workflow.run_pod = by_exit_code({})
    workflow.retry()
    workflow.run()
    assert [pod.args for pod in workflow.pods][3:] == [["0"]]
    assert (workflow.phase, workflow.pods[0].name) == ("Succeeded", workflow.pods[3].name)


# Again


def test_what_argo_does_not_retry():
    workflow = Workflow(dag(task("n-a")), run_pod=by_exit_code({}))
    with pytest.raises(Refused, match="phase"):
        workflow.retry()
    workflow.run()
    with pytest.raises(Refused, match="restartSuccessful"):
        workflow.retry()
    with pytest.raises(Refused, match="Failed/Error"):
        workflow.resubmit(memoized=True)


def test_a_new_submission():
    spec = dag(task("n-a"), spec={"arguments": {"parameters": [{"name": "v", "value": "1"}]}})
    workflow = Workflow(spec, run_pod=by_exit_code({"n-a": 1}))
    workflow.run()
    again = workflow.resubmit(parameters={"v": "2"}, run_pod=by_exit_code({}))
    assert again.run().phase == "Succeeded"
    assert again.document["spec"]["arguments"]["parameters"] == [{"name": "v", "value": "2"}]
    assert again.uid != workflow.uid
    assert again.name != workflow.name


def memoized(key):
    return container(
        "t", memoize={"key": key, "maxAge": "1h", "cache": {"configMap": {"name": "c"}}}
    )


def test_four_items_with_one_key_all_run():
    cache = Cache()
    spec = dag(task("n-m", withItems=[1, 2, 3, 4]), templates=[memoized("k")])
    assert [Workflow(spec, cache=cache).run().phase for _ in range(2)] == ["Succeeded"] * 2
    workflow = Workflow(spec, cache=cache)
    workflow.run()
    assert workflow.pods == []


@pytest.mark.parametrize("key", ["a_b", "a.b", "a/b", "-a", "{{retries}}"])
def test_a_key_that_is_an_error(key):
    workflow = Workflow(dag(task("n-a"), templates=[memoized(key)]))
    assert workflow.run().phase == "Error"
    assert "invalid cache key" in workflow.node("n-a").message


def test_a_config_map_that_is_full():
    spec = dag(task("n-a"), templates=[memoized("k")])
    spec["templates"][1]["outputs"] = {"parameters": [{"name": "x", "valueFrom": {"path": "/x"}}]}
    workflow = Workflow(spec, run_pod=lambda pod: PodResult(0, {"x": "x" * (1 << 20)}))
    assert workflow.run().phase == "Error"
