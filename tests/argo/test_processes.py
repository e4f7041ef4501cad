"""Pods as real processes: what they are given and give back, and how they are ended.

No test waits for a time: a process says by a file that it has begun.
"""

import json
import signal
import sys
import threading
import time

import pytest

from tests.argo.evaluator import PodResult, Workflow
from tests.argo.processes import ProcessRunner
from tests.argo.specs import dag, phases, task

ENVIRONMENT = {"name": "NODE", "value": "{{node.name}}"}
UID = {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}


def python(source, **more):
    """A container that runs Python; its first word is `py`, which a test maps to this one."""
    return {
        "name": "p",
        "inputs": {"parameters": [{"name": "at", "default": ""}]},
        "outputs": {
            "parameters": [{"name": "x", "valueFrom": {"path": "/out/x", "default": "none"}}]
        },
        "container": {
            "image": "x",
            "command": ["py", "-c"],
            "args": [source, "{{inputs.parameters.at}}", "$(UID)"],
            "env": [ENVIRONMENT, UID],
        },
        **more,
    }


@pytest.fixture
def runner(tmp_path):
    return ProcessRunner(
        {"py": [sys.executable, "-S"]},
        tmp_path,
        environment={"PATH": "/bin"},
        output_root="/out",
        grace_seconds=60,
    )


def test_what_a_process_is_given_and_what_it_gives_back(runner):
    source = (
        "import json, os, sys\n"
        "open('/out/x', 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n\\n')\n"
        "print('said')"
    )
    spec = dag(task("n-a", "p", values={"at": "/outer /out/y"}), templates=[python(source)])
    workflow = Workflow(spec, run_pod=runner)
    assert workflow.run().phase == "Succeeded"
    [pod] = workflow.pods
    value = workflow.node("n-a").outputs["parameters"][0]["value"]
    assert value.endswith("\n")  # One newline is taken off.
    arguments, environment = json.loads(value)
    outputs = runner.folder(pod) / "outputs"
    assert arguments == [f"/outer {outputs}/y", pod.uid]
    assert environment["NODE"] == f"{workflow.name}.n-a"
    environment.pop("LC_CTYPE", None)  # Python's own.
    assert environment == {"PATH": "/bin", **pod.environment}
    assert runner.stdout(pod) == "said\n"


def test_an_exit_code_and_a_signal(runner):
    source = "import os, sys\nos.kill(os.getpid(), 9) if sys.argv[1] == 'k' else sys.exit(3)"
    spec = dag(
        task("n-m", "p", values={"at": "{{item}}"}, withItems=["x", "k"]),
        templates=[python(source)],
    )
    workflow = Workflow(spec, run_pod=runner)
    assert workflow.run().phase == "Failed"
    codes = [workflow.node(f"n-m({i})").outputs["exitCode"] for i in ("0:x", "1:k")]
    assert codes == ["3", "137"]
    assert workflow.node("n-m(0:x)").outputs["parameters"][0]["value"] == "none"


def test_a_command_that_nothing_stands_for(runner):
    spec = dag(task("n-a", "p"), templates=[python("")])
    spec["templates"][1]["container"]["command"] = ["other"]
    with pytest.raises(LookupError, match="other"):
        Workflow(spec, run_pod=runner).run(workers=2)


LASTS = """
import signal, sys, time
def end(number, frame):
    open('/out/x', 'w').write('cleaned up')
    sys.exit(int(sys.argv[1]))
if sys.argv[1] != 'deaf':
    signal.signal(signal.SIGTERM, end)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('/out/begun', 'w').close()
time.sleep(600)
"""


class Event:
    """Does something once the first pod's process has begun; each further pod just runs."""

    def __init__(self, runner, happen):
        self.runner, self.happen = runner, happen
        runner.on_start = self

    def __call__(self, pod, process):
        begun = self.runner.folder(pod) / "outputs" / "begun"
        if self.happen is None or pod.on_exit:
            return
        while not begun.exists():
            assert process.poll() is None, self.runner.stderr(pod)
            time.sleep(0.005)
        happen, self.happen = self.happen, None
        happen(pod)


BYE = {"name": "bye", "container": {"image": "x", "command": ["py", "-c"], "args": ["0"]}}


def lasting(code, **more):
    spec = dag(
        task("n-a", "p", values={"at": code}),
        task("n-b", "bye", "n-a"),
        templates=[python(LASTS, **more), BYE],
    )
    return {**spec, "onExit": "bye"}


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize(
    ("event", "code", "expected"),
    [
        # `argo stop`: exit 0 after SIGTERM is Succeeded, and what follows is not run.
        ("stop", 0, {"n-a": "Succeeded", "onExit": "Succeeded"}),
        ("stop", 143, {"n-a": "Failed", "onExit": "Succeeded"}),
        ("terminate", 0, {"n-a": "Succeeded"}),
        ("reach_deadline", 0, {"n-a": "Failed", "n-b": "Omitted", "onExit": "Succeeded"}),
        ("evict", 0, {"n-a": "Failed", "n-b": "Omitted", "onExit": "Succeeded"}),
        ("delete", 0, {"n-a": "Error", "n-b": "Omitted", "onExit": "Succeeded"}),
    ],
)
def test_an_event_ends_the_process_by_sigterm(runner, workers, event, code, expected):
    def happen(pod):
        getattr(workflow, event)(*([pod] if event in ("evict", "delete") else []))

    Event(runner, happen)
    workflow = Workflow(lasting(str(code)), run_pod=runner)
    status = workflow.run(workers)
    failed = "Error" if event == "delete" else "Failed"
    assert (status.phase, phases(workflow)) == (failed, {"": failed, **expected})
    if event != "delete":
        assert workflow.node("n-a").outputs["parameters"][0]["value"] == "cleaned up"


def test_sigkill_when_the_grace_period_is_over(runner):
    def happen(pod):
        workflow.stop()

    runner.grace_seconds = 0.01
    Event(runner, happen)
    workflow = Workflow(lasting("deaf"), run_pod=runner)
    workflow.run()
    assert workflow.node("n-a").message == "main: Error (exit code 137)"


def test_a_pod_that_is_killed_is_tried_again(runner):
    Event(runner, runner.kill)
    strategy = {"limit": 1, "expression": "asInt(lastRetry.exitCode) == 137"}
    spec = lasting("0", retryStrategy=strategy)
    workflow = Workflow(
        spec,
        run_pod=runner,
        before_pod=lambda pod: PodResult() if pod.node_name.endswith("(1)") else None,
    )
    assert workflow.run().phase == "Succeeded"
    assert workflow.node("n-a(0)").outputs["exitCode"] == "137"


def test_a_pod_deleted_before_the_controller_saw_it_has_a_second_one(runner):
    def happen(pod):
        workflow.delete(pod, pending=True)

    def before_pod(pod):
        return PodResult() if len(workflow.pods) > 1 else None

    Event(runner, happen)
    workflow = Workflow(lasting("0"), run_pod=runner, before_pod=before_pod)
    assert workflow.run().phase == "Succeeded"
    one, two, *_ = workflow.pods
    assert (one.node_id, one.name) == (two.node_id, two.name)
    assert one.uid != two.uid


def test_pods_at_a_time():
    """As many as there are workers: each waits for the others."""
    barrier = threading.Barrier(4, timeout=60)

    def run_pod(pod):
        barrier.wait()
        return PodResult()

    spec = dag(task("n-m", "p", withItems=[1, 2, 3, 4]), templates=[python("")])
    assert Workflow(spec, run_pod=run_pod).run(workers=4).phase == "Succeeded"


@pytest.mark.parametrize("at", range(5))
def test_each_pod_in_turn_is_evicted(at):
    """After it did its work, and before: the workflow ends well, with one pod more."""
    strategy = {"limit": 1, "retryPolicy": "Always"}
    spec = dag(
        task("n-m", "p", withItems=[1, 2, 3]),
        task("n-r", "p", "n-m"),
        task("n-e", "p", "n-r"),
        templates=[python("", retryStrategy=strategy)],
    )
    for hook in ("before_pod", "after_pod"):
        count = iter(range(100))

        def evict(pod, result=None, count=count):
            return PodResult.evicted() if next(count) == at else result

        workflow = Workflow(spec, run_pod=lambda pod: PodResult(), **{hook: evict})
        assert workflow.run().phase == "Succeeded"
        assert len(workflow.pods) == 6


def test_a_signal_reaches_the_whole_group(runner):
    """As Argo's executor sends it: here the first process ignores it and its child does not."""
    source = (
        "import os, signal, sys, time\n"
        "def end(number, frame):\n"
        "    open('/out/x', 'w').write('told')\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open('/out/begun', 'w').close()\n"
        "time.sleep(600)"
    )

    def happen(pod):
        workflow.terminate()

    Event(runner, happen)
    workflow = Workflow(dag(task("n-a", "p"), templates=[python(source)]), run_pod=runner)
    workflow.run()
    assert workflow.node("n-a").outputs["parameters"][0]["value"] == "told"


def test_a_process_that_has_no_handler(runner):
    def happen(pod):
        workflow.terminate()

    Event(runner, happen)
    source = "import time\nopen('/out/begun', 'w').close()\ntime.sleep(600)"
    workflow = Workflow(dag(task("n-a", "p"), templates=[python(source)]), run_pod=runner)
    workflow.run()
    assert workflow.node("n-a").outputs["exitCode"] == str(128 + signal.SIGTERM)
