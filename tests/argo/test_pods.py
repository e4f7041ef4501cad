"""What the pods of a workflow say: which tasks and items are left, which branch, whether a loop
goes on, how the run stands; and which pods are dead."""

from __future__ import annotations

import base64
import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

import runstore
from runstore.dag import Conditional, Dag, Loop, Map, Task
from runstore.errors import InputError, ParameterError, RefusedError, StructureChangedError
from runstore.executor.node import Request, run_node
from runstore.integrations.argo.pods import (
    NotYetError,
    begin,
    branch_of,
    goes_on,
    items_left,
    parameters_of,
    verdict,
)
from runstore.integrations.argo.pods_before import (
    EarlierPods,
    mutex_of,
    of_environment,
    pod_hash,
)
from runstore.pipeline import Pipeline
from runstore.records import Holder
from runstore.store import Store
from tests.transfer.lives import memory

SHARED = Path(os.environ.get("RUNSTORE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
VIEWS = SHARED / "argo"

ITEMS = ["eu", 'us "q"', "eu", {"a": 1}, 1, "1", "x" * 300, "{{=1+1}}"]


def pipeline(fails: frozenset[int] = frozenset()) -> Pipeline:
    def listed():
        return ITEMS, "no", 3

    counted = []

    def work(item):
        counted.append(item)
        if len(counted) - 1 in fails:
            raise ValueError("no")
        return len(counted)

    return Pipeline(
        Dag(
            [
                runstore.task(listed, returns=("items", "kind", "n")),
                Map(name="each", over="items", as_="item", after=("listed",),
                    body=Dag([runstore.task(work, returns="r")])),
                Conditional(name="gate", on="kind", after=("listed",), default="other", branches={
                    "no": Dag([runstore.task(lambda: None, name="skip")]), "other": Dag([]),
                    "yes": Dag([runstore.task(lambda: None, name="ship")]),
                }),
                Loop(name="refine", until="done", as_="i", max_iterations=5, after=("listed",),
                     body=Dag([runstore.task(lambda i: i == 2, name="step", returns="done")])),
                runstore.task(lambda r: r, name="total", after="each", returns="sum"),
                runstore.task(lambda: None, name="alert", after="total", trigger="one_failed"),
            ]
        ),
        {"text": "a", "count": 1},
    )  # fmt: skip


def start(store: Store, made: Pipeline, workflow: str = "wf-1", **more) -> list[str]:
    given = {"rerun": False, "secrets": {}, "parameters": made.parameters, **more}
    return begin(store, "r", made, workflow=workflow, **given)


def run_(store: Store, path: str, made: Pipeline, workflow: str = "wf-1") -> str:
    return run_node(Request("r", path, pipeline=made, invocation=workflow), store).status


def encoded(**given: str) -> str:
    listed = [{"name": name, "value": value} for name, value in given.items()]
    return base64.b64encode(json.dumps(listed).encode()).decode()


def test_the_plan_pod_names_what_is_left():
    store, made = memory(), pipeline()
    everything = ["n-listed", "n-each", "n-gate", "n-refine", "n-total", "n-alert"]
    assert start(store, made) == everything
    assert start(store, made) == everything  # replaced: the same workflow
    assert run_(store, "listed", made) == "succeeded"
    assert run_(store, "each", made) == "succeeded"
    with pytest.raises(RefusedError, match=r"wf-1.*rerun=true"):
        start(store, made, "wf-2")
    left = start(store, made, "wf-2", rerun=True)
    assert left == ["n-gate", "n-refine", "n-total", "n-alert"]
    run = store.get_run("r")
    assert run.record.labels == {"argo-workflow": "wf-1"}
    assert sorted(run.invocations().invocations) == ["wf-1", "wf-2"]
    assert [each.mode for each in run.invocations().invocations.values()] == ["start", "retry"]


def test_another_structure_is_refused_and_nothing_is_begun():
    store, made = memory(), pipeline()
    start(store, made)
    other = Pipeline(Dag([*made.dag.nodes, Task(name="more")]), made.parameters)
    with pytest.raises(StructureChangedError, match="more"):
        start(store, other, "wf-2", rerun=True)
    assert list(store.get_run("r").invocations().invocations) == ["wf-1"]


def test_the_items_that_are_left_are_scopes_of_their_pods():
    store, made = memory(), pipeline()
    start(store, made)
    run = store.get_run("r")
    with pytest.raises(NotYetError):
        items_left(run, made, "each", "wf-1")
    run_(store, "listed", made)
    left = items_left(run, made, "each", "wf-1")
    assert left == [
        "each[%22eu%22]/", "each[%22us%20%5C%22q%5C%22%22]/", "each[%22eu%22#2]/",
        "each[%7B%22a%22:1%7D]/", "each[1]/", "each[%221%22]/",
        f"each[~{sha256(json.dumps('x' * 300).encode()).hexdigest()}]/",
        "each[%22%7B%7B=1+1%7D%7D%22]/".replace("=", "%3D").replace("+", "%2B"),
    ]  # fmt: skip
    for at in (left[6], left[2], left[1]):
        assert run_(store, f"{at}work", made) == "succeeded"
    rest = [left[n] for n in (0, 3, 4, 5, 7)]
    assert items_left(run, made, "each", "wf-1") == rest
    assert items_left(run, made, "each", "wf-1", chunk=2) == [
        "each[@0,3]",
        "each[@4-5]",
        "each[@7]",
    ]
    for at in items_left(run, made, "each", "wf-1", chunk=2):
        assert run_(store, at, made) == "succeeded"
    assert items_left(run, made, "each", "wf-1") == []
    assert len(run.history().attempts) == 1 + len(ITEMS)


def test_an_item_that_failed_is_left():
    store, made = memory(), pipeline(frozenset({0}))
    start(store, made)
    run_(store, "listed", made)
    assert run_(store, "each[1]/work", made) == "failed"
    run = store.get_run("r")
    assert "each[1]/" in items_left(run, made, "each", "wf-1")
    start(store, made, "wf-2", rerun=True)
    assert "each[1]/" in items_left(run, made, "each", "wf-2")


def test_a_map_over_no_list_is_refused():
    each = Map(name="m", over="x", as_="i", after=("a",), body=Dag([Task(name="t")]))
    dag = Dag([runstore.task(lambda: 3, name="a", returns="x"), each])
    store, made = memory(), Pipeline(dag)
    start(store, made)
    run_(store, "a", made)
    with pytest.raises(RefusedError, match="not a list"):
        items_left(store.get_run("r"), made, "m", "wf-1")


def test_a_conditional_says_a_token():
    store, made = memory(), pipeline()
    start(store, made)
    run = store.get_run("r")
    with pytest.raises(NotYetError):
        branch_of(run, made, "gate", "wf-1")
    run_(store, "listed", made)
    assert branch_of(run, made, "gate", "wf-1") == "b0"  # no, other, yes
    run_(store, "gate:no/skip", made)
    assert branch_of(run, made, "gate", "wf-1") == "none"  # nothing is left to do


def test_a_loop_goes_on_until_it_ends():
    store, made = memory(), pipeline()
    start(store, made)
    run = store.get_run("r")
    run_(store, "listed", made)
    for i, more in enumerate(["true", "true", "false"]):
        assert run_(store, f"refine@{i}/step", made) == "succeeded"
        assert goes_on(run, made, f"refine@{i}", "wf-1") == more


def test_a_loop_ends_at_its_limit_and_where_an_iteration_failed():
    def step(i):
        if i == 2:
            raise ValueError("no")
        return False

    def loop(limit: int) -> Pipeline:
        body = Dag([runstore.task(step, returns="done")])
        return Pipeline(
            Dag([Loop(name="l", until="done", as_="i", max_iterations=limit, body=body)])
        )

    store, made = memory(), loop(2)
    start(store, made)
    run = store.get_run("r")
    for i in (0, 1):
        run_(store, f"l@{i}/step", made)
    with pytest.raises(RefusedError, match=r"max_iterations \(2\)"):
        goes_on(run, made, "l@1", "wf-1")  # no step has failed: no other pod would say so
    # The limit is configuration: with a higher one the loop goes on where it was.
    assert goes_on(run, loop(5), "l@1", "wf-1") == "true"
    assert run_(store, "l@2/step", loop(5)) == "failed"
    with pytest.raises(RefusedError, match="l failed"):
        goes_on(run, loop(5), "l@2", "wf-1")
    assert verdict(run, loop(5), "wf-1")[0] == "failed"


def test_whether_a_loop_goes_on_is_not_said_while_an_iteration_is_at_work():
    body = Dag([runstore.task(lambda i: i == 2, name="step", returns="done")])
    made = Pipeline(Dag([Loop(name="l", until="done", as_="i", max_iterations=5, body=body)]))
    store = memory()
    start(store, made)
    run = store.get_run("r")
    run_(store, "l@0/step", made)
    assert goes_on(run, made, "l@0", "wf-1") == "true"
    # A laptop does the first iteration again.
    forced = run.begin_invocation("retry", force={"l@0/step": 1})
    with run.begin(run.plan(made.dag)["l@0/step"]) as attempt:
        assert attempt.start.invocation == forced.id
        with pytest.raises(NotYetError, match="l is not done"):
            goes_on(run, made, "l@0", "wf-1")
        attempt.outputs["done"] = True
    assert goes_on(run, made, "l@0", "wf-1") == "false"


def test_the_verdict_names_what_failed_by_a_value():
    body = Dag([runstore.task(lambda: False, name="step", returns="done")])
    made = Pipeline(Dag([Loop(name="l", until="done", as_="i", max_iterations=1, body=body)]))
    store = memory()
    start(store, made)
    run_(store, "l@0/step", made)
    status, (wrong,) = verdict(store.get_run("r"), made, "wf-1")
    assert (status, wrong.path, str(wrong.reason)) == ("failed", "l", "loop limit")


def test_the_verdict_is_the_status_of_the_run():
    store, made = memory(), pipeline()
    start(store, made)
    run = store.get_run("r")
    status, wrong = verdict(run, made, "wf-1")
    assert status == "pending"
    assert wrong[0].path == "listed"
    for path in ("listed", "each", "gate", "refine", "total"):
        run_(store, path, made)
    assert verdict(run, made, "wf-1") == ("succeeded", [])


def test_there_is_no_verdict_while_others_are_at_work():
    store, made = memory(), pipeline()
    start(store, made)
    run = store.get_run("r")
    attempt = run.begin("listed")
    with pytest.raises(NotYetError, match="listed is in progress"):
        verdict(run, made, "wf-1")
    attempt.fail("no")
    assert verdict(run, made, "wf-1")[0] == "pending"  # recorded under another invocation


def test_parameters_come_as_they_were_submitted():
    made = pipeline()
    given = encoded(run_id="r", rerun="true", text='"3"', count="[1, 2]")
    assert parameters_of(given, made) == ({"text": "3", "count": [1, 2]}, True)
    assert parameters_of(encoded(run_id="r", text="{{x}} a"), made) == ({"text": "{{x}} a"}, False)
    with pytest.raises(InputError, match=r"'tekst'.*did you mean 'text'"):
        parameters_of(encoded(run_id="r", tekst="x"), made)
    with pytest.raises(InputError, match="rerun is 'yes'"):
        parameters_of(encoded(run_id="r", rerun="yes"), made)
    for wrong in ("", "%%%", base64.b64encode(b"[1]").decode(), base64.b64encode(b"{}x").decode()):
        with pytest.raises(InputError):
            parameters_of(wrong, made)


def test_a_secret_is_asked_for_before_anything_is_written():
    store = memory()
    made = Pipeline(Dag([runstore.task(lambda token: 1, name="a")]), secrets=["token"])
    with pytest.raises((InputError, ParameterError), match="token"):
        start(store, made)
    assert list(store.run_ids()) == []
    start(store, made, secrets={"token": "very-secret"})


# -- who is dead ---------------------------------------------------------------------------------


def name_of(node: str) -> str:
    return f"wf-s-x-{pod_hash(node)}"


def test_the_pods_that_a_node_had_before_are_dead():
    pods = EarlierPods(name_of("wf.n-x(2)"), "u-2", "wf.n-x(2)")
    for n, alive in ((0, False), (1, False), (2, True), (3, None)):
        assert pods.is_alive(Holder("h", pod=name_of(f"wf.n-x({n})"), pod_uid=f"u-{n}")) is alive
    # After `argo retry` a pod comes again under its name.
    assert pods.is_alive(Holder("h", pod=name_of("wf.n-x(2)"), pod_uid="u-1")) is False
    assert pods.is_alive(Holder("h", pod=name_of("wf.n-x(2)"))) is None
    assert pods.is_alive(Holder("h", pid=1)) is None


@pytest.mark.parametrize("node", ["wf.n-x", "wf.n-x(0)", "", "wf.each(0:a(1))"])
def test_a_node_without_earlier_pods_knows_of_none(node):
    pods = EarlierPods(name_of(node), "u", node)
    is_own = node == "wf.n-x(0)"  # of this name, and another pod: an earlier life of it
    found = pods.is_alive(Holder("h", pod=name_of("wf.n-x(0)"), pod_uid="v"))
    assert found is (False if is_own else None)
    assert pods.is_alive(Holder("h", pod="other", pod_uid="v")) is None


def test_only_a_pod_of_ours_knows():
    assert of_environment({}) is None
    assert of_environment({"RUNSTORE_ARGO_NODE": "w.n-x(1)"}) is None
    found = of_environment({"RUNSTORE_ARGO_NODE": "wf.n-x(1)", "POD_NAME": name_of("wf.n-x(1)")})
    assert found is not None
    assert found.is_alive(Holder("h", pod=name_of("wf.n-x(0)"))) is False


def test_the_hash_is_that_of_a_real_controller():
    views = [VIEWS / "container_view.jsonl", VIEWS / "container_view_nested.jsonl"]
    if not views[1].exists():
        pytest.skip("the recordings are not here")
    seen = 0
    for line in views[1].read_text().splitlines():
        environment = json.loads(line).get("env", {})
        if "RS_NODE_NAME" in environment and "ARGO_NODE_ID" in environment:
            hashed = pod_hash(environment["RS_NODE_NAME"])
            assert environment["ARGO_NODE_ID"].endswith(f"-{hashed}")
            assert environment["HOSTNAME"].endswith(f"-{hashed}")
            seen += 1
    assert seen > 20


PODS = {
    "wf-1": Holder("node-7", 1, pod="wf-1-s-listed-1", pod_uid="u-1"),
    "notebook": Holder("node-8", 1, pod="jupyter-anna-0", pod_uid="u-2"),
}


def left_open(store: Store, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    monkeypatch.setattr("runstore.store.writer.current_process", lambda: PODS[who])
    store.get_run("r", invocation=who).begin("listed")
    monkeypatch.undo()


OWN = EarlierPods("wf-9-plan-1", "u-9", "wf-9.plan(0)")


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        ("c/argo", "c/argo", True), ("c/argo", "c/other", False), ("c/argo", "d/argo", False),
        (None, "c/argo", False), ("c/argo", None, False), (None, None, False),
    ],
)  # fmt: skip
def test_the_mutex_proves_the_death_of_those_who_had_it(before, now, taken, monkeypatch):
    """Of the same cluster and namespace, and with it: no other workflow waits for them."""
    store, made, slept = memory(), pipeline(), []
    monkeypatch.setattr("time.sleep", slept.append)
    start(store, made, mutex=before, own=OWN)
    left_open(store, monkeypatch, "wf-1")
    monkeypatch.setattr("time.sleep", slept.append)
    start(store, made, "wf-9", rerun=True, own=OWN, mutex=now, grace=12)
    run = store.get_run("r")
    assert bool(list(run.history().open())) is not taken
    assert slept == ([12] if taken else [])  # a workflow that is stopped ends before its pods
    if taken:
        assert run.history().latest("listed").outcome == "lost"


def test_a_pod_of_no_workflow_is_not_judged(monkeypatch):
    store, made = memory(), pipeline()
    start(store, made, mutex="c/argo", own=OWN)
    store.get_run("r").begin_invocation("retry", name="notebook")
    left_open(store, monkeypatch, "notebook")
    start(store, made, "wf-9", rerun=True, own=OWN, mutex="c/argo")
    assert [each.by for each in store.get_run("r").history().open()] == [PODS["notebook"]]


def test_where_a_mutex_holds_the_service_account_says(tmp_path: Path):
    found = {"RUNSTORE_SERVICE_ACCOUNT": str(tmp_path)}
    assert mutex_of(found) is mutex_of({}) is None
    (tmp_path / "ca.crt").write_bytes(b"x")
    (tmp_path / "namespace").write_text("argo\n")
    digest = sha256(b"x").hexdigest()[:32]
    assert mutex_of(found) == f"{digest}/argo"


def test_parameters_of_a_rerun_that_differ_are_told():
    store, made, said = memory(), pipeline(), []
    start(store, made)
    start(store, made, "wf-2", rerun=True, warn=said.append)
    assert said == []
    start(store, made, "wf-3", rerun=True, warn=said.append, parameters={"text": "b", "count": 1})
    assert said == ["parameter 'text' is ignored: the run is there, and has its own"]
