"""Runs made of what workflows of others did: of recordings of a real controller, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runstore
from runstore.dag import Conditional, Dag, Loop, Map, Parallel
from runstore.errors import InputError, RunExistsError, RunstoreError, StructureChangedError
from runstore.integrations.argo.importer import Imported, import_workflow
from runstore.integrations.argo.status import WorkflowStatus, read_status
from runstore.pipeline import Pipeline
from runstore.plan import Action, Reason
from tests.argo.recordings import FOLDER, recording, recordings_needed
from tests.cli.conftest import Shell
from tests.examples.raw import ends, outcomes, record, run_folder
from tests.transfer.lives import memory


def step(name: str, *params: str, **more: Any):
    """A task whose code nobody calls here."""
    return runstore.task(eval(f"lambda {', '.join(params)}: None"), name=name, **more)


def recorded(name: str) -> WorkflowStatus:
    assert FOLDER is not None
    return read_status((FOLDER / f"{name}.json").read_bytes(), name)


def bring_in(folder: Path, status: WorkflowStatus, dag: Dag, **more: Any) -> Imported:
    store = runstore.open_store(folder)
    return import_workflow(store, status, Pipeline(dag, more.pop("parameters", {})), **more)


def left(made: Imported) -> set[str]:
    """The tasks that a retry runs, or that wait for one of them."""
    return {
        s.path
        for s in made.replayed.plan
        if s.kind == "task" and s.action is not Action.SKIP and s.reason is not Reason.NOT_TAKEN
    }


MAPPED = Dag([
    step("list", returns="out"),
    Map(name="map", over="out", as_="item", after=("list",), body=Dag([step("run", "item")])),
    step("reduce", after="map", returns="total"),
])  # fmt: skip
"""Of the workflows 1 to 5. No output of theirs is called as what `reduce` returns."""

ABC = {f'map["{item}"]/run': ["succeeded"] for item in "abc"}
NESTED = Dag([
    step("n-list", returns=("items", "kind", "none")),
    Map(name="n-each", over="items", as_="scope", after=("n-list",), body=Dag([
        step("n-parse", "scope"),
        step("n-subs", "scope", after="n-parse", returns="items"),
        Map(name="n-sub", over="items", as_="sub", after=("n-subs",),
            body=Dag([step("n-leaf", "sub")])),
        step("n-sum", after="n-sub"),
    ])),
    step("n-reduce", after="n-each"),
    Map(name="n-none", over="none", as_="it", after=("n-list",), body=Dag([step("x", "it")])),
    step("n-afternone", after="n-none"),
    Conditional(name="n-size", on="kind", after=("n-list",), branches={
        "big": Dag([step("n-big")]), "small": Dag([step("n-small")])}),
    Parallel(name="n-both", branches={"l": Dag([step("n-left")]), "r": Dag([step("n-right")])}),
    Loop(name="n-refine", until="done", as_="i", max_iterations=5,
         body=Dag([step("n-step", returns="done")])),
    step("n-flaky"),
    step("n-alert", after="n-flaky", trigger="one_failed"),
    step("n-after", after="n-flaky"),
])  # fmt: skip

LONG = Dag([step("n-long"), step("n-next", after="n-long")])


def mapped() -> Dag:
    body = Dag([step("n-p", "item"), step("n-q", after="n-p")])
    return Dag([
        Map(name="n-m", over="items", as_="item", body=body),
        step("n-red", after="n-m"), step("n-report", after=("n-red",), trigger="all_done"),
    ])  # fmt: skip


HANDLED = Dag([
    step("n-flaky"), step("n-after", after="n-flaky"),
    step("n-h", after="n-flaky", trigger="one_failed", handles=True),
])  # fmt: skip
LOOPED = Dag([
    Loop(name="n-l", until="done", as_="i", max_iterations=5,
         body=Dag([step("n-step", returns="done")])),
    step("n-z", after="n-l"),
])  # fmt: skip

CASES: dict[str, tuple[Dag, dict[str, list[str]], set[str]]] = {
    "1_failed": (
        MAPPED,
        {"list": ["succeeded"], **ABC, 'map["b"]/run': ["failed", "failed"]},
        {'map["b"]/run', "reduce"},
    ),
    # The same workflow, later: the failed attempt was erased.
    "3_f1_after_argo_retry": (MAPPED, {"list": ["succeeded"], **ABC}, {"reduce"}),
    # Reused from another workflow, by the cache and by `resubmit --memoized`.
    "2_new_submit_memo_hits": (MAPPED, {"list": ["succeeded"], **ABC}, {"reduce"}),
    "4_resubmit_memoized_wrong_success": (MAPPED, {"list": ["succeeded"], **ABC}, {"reduce"}),
    "5_memo_plus_retry_hang": (MAPPED, {"list": ["succeeded"], **ABC}, {"reduce"}),
    "24_memo_hit_outer_steps": (
        Dag([step("n-a", returns="o"), step("n-b", "o", after="n-a")]),
        {"n-a": ["succeeded"], "n-b": ["succeeded"]},
        set(),
    ),
    # Skipped by an alert, and no success; what Argo left out after an empty map.
    "7_before_argo_retry_alert": (
        Dag([step("n-flaky"), step("n-after", after="n-flaky"),
             step("n-alert", after="n-flaky", trigger="one_failed")]),
        {"n-flaky": ["failed"], "n-alert": ["succeeded"]},
        {"n-flaky", "n-after", "n-alert"},
    ),
    "10_verdict_target_handled": (
        HANDLED, {"n-flaky": ["failed"], "n-h": ["succeeded"]}, {"n-after"},
    ),
    "11_verdict_target_unhandled": (
        HANDLED, {"n-flaky": ["failed"], "n-h": ["succeeded"]}, {"n-after"},
    ),
    "13_eviction_retried": (
        LONG, {"n-long": ["lost", "succeeded"], "n-next": ["succeeded"]}, set(),
    ),
    "14_eviction_not_retried_by_onerror": (LONG, {"n-long": ["lost"]}, {"n-long", "n-next"}),
    # It exits with 0 when SIGTERM comes, and Argo calls it Succeeded.
    "15_stop": (LONG, {"n-long": ["cancelled"]}, {"n-long", "n-next"}),
    "16_terminate": (LONG, {"n-long": ["cancelled"]}, {"n-long", "n-next"}),
    "17_deadline": (LONG, {"n-long": ["cancelled"]}, {"n-long", "n-next"}),
    "26_sigkill_after_grace": (LONG, {"n-long": ["lost"]}, {"n-long", "n-next"}),
    "27_two_pods_one_node_no_retry": (
        LONG, {"n-long": ["succeeded"], "n-next": ["succeeded"]}, set(),
    ),
    "18_retries_exhausted": (
        Dag([step("n-flaky")]), {"n-flaky": ["failed", "failed", "failed"]}, {"n-flaky"},
    ),
    "28_loop_retried": (
        LOOPED, {**{f"n-l@{i}/n-step": ["succeeded"] for i in range(3)}, "n-z": ["succeeded"]},
        set(),
    ),
    "8_before_argo_retry_map_item": (
        mapped(),
        {**{f'n-m["{i}"]/{n}': ["succeeded"] for i in "ac" for n in ("n-p", "n-q")},
         'n-m["b"]/n-p': ["failed"]},
        {'n-m["b"]/n-p', 'n-m["b"]/n-q', "n-red", "n-report"},
    ),
    "9_all_done_report_false_success": (
        mapped(),
        {**{f'n-m["{i}"]/{n}': ["succeeded"] for i in "ac" for n in ("n-p", "n-q")},
         'n-m["b"]/n-p': ["failed"], "n-report": ["succeeded"]},
        {'n-m["b"]/n-p', 'n-m["b"]/n-q', "n-red", "n-report"},
    ),
    "19_empty_map_omits_succeeded": (
        Dag([step("n-l", returns="x"), step("n-a", after="n-l"), step("n-b"), step("n-c")]),
        {"n-l": ["succeeded"], "n-b": ["succeeded"], "n-c": ["succeeded"]},
        {"n-a"},
    ),
    "12_plan_prelude_skips": (
        Dag([step("n-old"), step("n-list", after="n-old"), step("n-report", after="n-list")]),
        {},
        {"n-old", "n-list", "n-report"},
    ),
    "22_item_del_char_error": (Dag([step("n-a")]), {}, {"n-a"}),
    "23_item_tag_injection_refused": (Dag([step("n-a")]), {}, {"n-a"}),
}  # fmt: skip


@recordings_needed
@pytest.mark.parametrize("name", CASES)
def test_a_recording_is_brought_in(name: str, tmp_path: Path):
    dag, wanted, to_run = CASES[name]
    abc = {"items": ["a", "b", "c"]}
    made = bring_in(tmp_path, recorded(name), dag, run_id="r", parameters=abc)
    folder = run_folder(tmp_path, "r")
    assert (outcomes(folder) if wanted else {}) == wanted
    assert left(made) == to_run
    run = record(tmp_path / "runs/r/run.json")
    source = recording(name)["metadata"]
    assert run["source"] == {"argo": source["name"], "uid": source["uid"]}
    (brought,) = map(record, (folder / "invocations").iterdir())
    assert (brought["mode"], brought["source"]) == ("import", run["source"])
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    again = bring_in(tmp_path, recorded(name), dag, run_id="r", parameters=abc)
    assert (again.replayed.attempts, again.replayed.is_new) == (0, False)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@recordings_needed
def test_nested_maps_a_choice_branches_and_a_loop(tmp_path: Path):
    made = bring_in(tmp_path, recorded("6_nested_loop_cond_emptymap_false_success"), NESTED,
                    run_id="r")  # fmt: skip
    nodes = recording("6_nested_loop_cond_emptymap_false_success")["status"]["nodes"].values()
    found = outcomes(run_folder(tmp_path, "r"))
    for kind, many in {"n-leaf": 14, "n-parse": 7, "n-subs": 7, "n-sum": 7, "n-step": 3}.items():
        assert sum(n["displayName"] == kind for n in nodes) == many
        assert [o for path, o in found.items() if path.endswith(f"/{kind}")] == [
            ["succeeded"]
        ] * many
    outer = json.loads(next(
        p["value"] for n in nodes if n["displayName"] == "n-list"
        for p in n["outputs"]["parameters"] if p["name"] == "items"
    ))  # fmt: skip
    # An item in an item: each leaf lies where the node stood.
    inner = {
        f"n-each[{json.dumps(item)}]/n-sub[{json.dumps(f'{item}/sub[{n}]')}]/n-leaf"
        for item in outer for n in (1, 2)
    }  # fmt: skip
    assert {path for path in found if path.endswith("n-leaf")} == inner
    assert found["n-size:big/n-big"] == ["succeeded"]
    assert found["n-both:l/n-left"] == found["n-both:r/n-right"] == ["succeeded"]
    assert [path for path in found if "n-step" in path] == [
        f"n-refine@{i}/n-step" for i in range(3)
    ]
    assert found["n-flaky"] == ["failed"]
    # It followed a map over nothing, and so Argo left it out: here it runs.
    assert left(made) == {"n-afternone", "n-flaky", "n-after", "n-alert"}
    assert "n-afternone" in made.left_out
    assert made.strange == ["f1.n-report", "f1.n-size.n-pick"]


@recordings_needed
@pytest.mark.parametrize(("name", "status"), [("20_awkward_items_raw", "i-raw"),
                                              ("21_awkward_items_tojson", "i-tojson")])  # fmt: skip
def test_awkward_items_are_found_by_value_and_place(name: str, status: str, tmp_path: Path):
    (given,) = recording(name)["spec"]["arguments"]["parameters"]
    items = runstore.canonical.loads(given["value"].encode())
    dag = Dag([Map(name="m", over="l", as_="v", body=Dag([step("any", "v")]))])
    made = bring_in(tmp_path, recorded(name), dag, run_id="r", parameters={"l": []})
    found = outcomes(run_folder(tmp_path, "r"))
    assert len(found) + len(made.left_out) == len(items)
    assert set(map(tuple, found.values())) == {("succeeded",)}
    # Of `toJson(item)` some texts are other items': these are left to a retry.
    assert name.startswith("21") or not made.left_out
    assert len([path for path in found if '"dup"' in path]) == 2


@recordings_needed
def test_a_later_status_of_the_same_workflow_adds_what_is_new(tmp_path: Path):
    dag = MAPPED
    bring_in(tmp_path, recorded("1_failed"), dag)
    made = bring_in(tmp_path, recorded("3_f1_after_argo_retry"), dag)
    assert made.replayed.run.run_id == "rf"  # its parameter run_id
    assert outcomes(run_folder(tmp_path, "rf"))['map["b"]/run'] == [
        "failed", "failed", "succeeded"
    ]  # fmt: skip
    assert left(made) == {"reduce"}
    # And the one before once more: nothing of it is new.
    assert bring_in(tmp_path, recorded("1_failed"), dag).replayed.attempts == 0


@recordings_needed
def test_what_was_brought_in_is_retried_here(tmp_path: Path):
    shell = Shell(tmp_path)
    file = tmp_path / "wf.json"
    file.write_text(json.dumps(recording("1_failed")))
    shell.write("pipeline.py", '''
from runstore import Dag, Map, task

def names():
    raise AssertionError

def work(item):
    print("at work on", item)

def reduce():
    return 3

pipeline = Dag([
    task(names, name="list", returns="out"),
    Map(name="map", over="out", as_="item", after=("list",), body=Dag([task(work)])),
    task(reduce, after="map", returns="total"),
])
''')  # fmt: skip
    code, out, err = shell("argo-import", "wf.json", "pipeline.py")
    assert code == 0, err
    assert "run rf made" in out
    assert "5 attempts recorded" in out
    assert "not what `argo retry` erased" in out
    assert "2 steps left: runstore plan rf pipeline.py" in out
    code, out, err = shell("retry", "rf")
    assert code == 2  # its code is others', and is not run unasked
    code, out, err = shell("retry", "rf", "pipeline.py")
    assert code == 0, err
    assert outcomes(run_folder(tmp_path / ".runstore", "rf"))['map["b"]/work'] == [
        "failed", "failed", "succeeded"
    ]  # fmt: skip
    for words, said in (
        (["wf.json"], "name the PIPELINE"),
        (["wf.json", "pipeline.py", "--pods-gone"], "--pods-gone"),
        (["wf.json", "pipeline.py", "--task", "map"], "NODE=TASK"),
        (["none.json", "pipeline.py"], "none.json"),
    ):
        code, out, err = shell("argo-import", *words)
        assert (code, said in err) == (2, True), err


# -- by hand --------------------------------------------------------------------------------------


def workflow(*nodes: dict[str, Any], name: str = "wf", **parameters: str) -> dict[str, Any]:
    listed = [{"name": key, "value": value} for key, value in parameters.items()]
    root = {"id": name, "name": name, "type": "DAG", "phase": "Succeeded", "templateName": "main"}
    return {
        "metadata": {"name": name, "uid": "u-1"},
        "spec": {"arguments": {"parameters": listed}},
        "status": {"phase": "Succeeded", "nodes": {each["id"]: each for each in (root, *nodes)}},
    }


def node(name: str, boundary: str = "wf", **more: Any) -> dict[str, Any]:
    outputs = {"exitCode": "0", "parameters": [
        {"name": key, "value": value} for key, value in more.pop("outputs", {}).items()
    ]}  # fmt: skip
    return {
        "id": f"id-{name}", "name": name, "boundaryID": boundary, "type": "Pod",
        "phase": "Succeeded", "outputs": outputs, "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:05Z", **more,
    }  # fmt: skip


def read(found: dict[str, Any]) -> WorkflowStatus:
    return read_status(json.dumps(found).encode(), "wf.json")


def test_what_an_attempt_was_is_recorded(tmp_path: Path):
    found = workflow(
        node("wf.load-data", outputs={"n-rows": "12", "name": "1e400"}, hostNodeName="node-7"),
        n="3",
    )
    dag = Dag([step("load_data", "n", returns=("n_rows", "name"))])
    made = bring_in(tmp_path, read(found), dag, parameters={"n": 1})
    assert made.replayed.run.parameters() == {"n": 3}
    (end,) = ends(run_folder(tmp_path, "wf"))["load_data"]
    assert end["outputs"] == {"n_rows": 12, "name": "1e400"}  # no number that JSON can hold
    assert (end["began"], end["ended"]) == (
        "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:05.000000Z"
    )  # fmt: skip
    assert end["ended_by"] == {"host": "node-7", "pod": "id-wf.load-data"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"outputs": {}}, "no output parameter for 'n'"),
        ({"phase": "Running"}, "is Running"), ({"phase": "Omitted"}, "is Omitted"),
        ({"phase": "Skipped", "type": "Skipped", "message": "when false"}, "when false"),
        ({"phase": "Pending", "outputs": {"n": "1"}}, "is Pending"),
        ({"phase": ""}, "is Pending"),
        ({"phase": "Failed", "type": "Retry", "children": []}, "without an attempt"),
    ],
)  # fmt: skip
def test_what_did_not_succeed_is_no_success(given, why, tmp_path: Path):
    found = workflow(node("wf.a", **{"outputs": {"n": "1"}, **given}))
    made = bring_in(tmp_path, read(found), Dag([step("a", returns="n")]))
    assert why in made.left_out["a"]
    assert left(made) == {"a"}
    assert not (run_folder(tmp_path, "wf") / "attempts").exists()


def test_files_are_not_in_a_status(tmp_path: Path):
    (tmp_path / "p.yaml").write_text("steps: [{name: a, command: 'true', save: [x.csv]}]")
    made = import_workflow(
        runstore.open_store(tmp_path), read(workflow(node("wf.a"))),
        runstore.load_pipeline(str(tmp_path / "p.yaml")),
    )  # fmt: skip
    assert "saves files" in made.left_out["a"]


def test_tasks_of_other_names_are_named(tmp_path: Path):
    found = read(workflow(node("wf.fetch"), node("wf.clean-up")))
    dag = Dag([step("load"), step("report", after="load")])
    made = bring_in(tmp_path, found, dag, tasks={"load": "fetch"})
    assert outcomes(run_folder(tmp_path, "wf")) == {"load": ["succeeded"]}
    assert made.strange == ["wf.clean-up"]
    with pytest.raises(InputError, match="'nope'"):
        bring_in(tmp_path, found, dag, tasks={"nope": "fetch"})
    with pytest.raises(InputError, match="'gone'"):
        bring_in(tmp_path, found, dag, tasks={"load": "gone"})


def test_a_step_that_may_be_either_of_two_is_left_out(tmp_path: Path):
    found = workflow(node("wf.a-b"), node("wf.A_b"))
    made = bring_in(tmp_path, read(found), Dag([step("a.b")]))
    assert "may be any of" in made.left_out["a.b"]


def test_items_that_no_node_certainly_has_are_left_out(tmp_path: Path):
    """The fan-out was over another list: of what it has, the items that are here are taken."""
    found = workflow(
        node("wf.list", outputs={"items": '["x", "y", {"a": 1}]'}),
        node("wf.m", type="TaskGroup", phase="Succeeded"),
        node("wf.m(0:y)"), node("wf.m(1:z)"),
    )  # fmt: skip
    dag = Dag([step("list", returns="items"),
               Map(name="m", over="items", as_="i", after=("list",),
                   body=Dag([step("t", "i")]))])  # fmt: skip
    made = bring_in(tmp_path, read(found), dag)
    assert outcomes(run_folder(tmp_path, "wf")).keys() == {"list", 'm["y"]/t'}
    assert made.left_out.keys() == {'m["x"]/t', 'm[{"a":1}]/t'}


def test_the_run_of_something_else_stays_as_it_is(tmp_path: Path):
    store = runstore.open_store(tmp_path)
    dag = Dag([step("a")])
    store.create_run(dag, run_id="wf")
    with pytest.raises(RunExistsError, match="is not argo wf, uid u-1"):
        bring_in(tmp_path, read(workflow(node("wf.a"))), dag)
    bring_in(tmp_path, read(workflow(node("wf.a"))), dag, run_id="mine")
    other = {**workflow(node("wf.a")), "metadata": {"name": "wf", "uid": "u-2"}}
    with pytest.raises(RunExistsError):
        bring_in(tmp_path, read(other), dag, run_id="mine")
    with pytest.raises(StructureChangedError):
        bring_in(tmp_path, read(workflow(node("wf.a"))), Dag([step("b")]), run_id="mine")


@pytest.mark.parametrize(
    "nodes",
    [
        [node("xx.a")],  # not in its boundary
        [node("wf.a", boundary="id-wf.a")],
        [node("wf.a", boundary="id-wf.b", type="DAG"),
         node("wf.b", boundary="id-wf.a", type="DAG")],
        [node("wf.a", children=["id-wf.a"], type="Retry")],
        [{"id": "x", "name": "wf"}], [{"id": "x", "name": 1}], [{"id": "x"}],
        [node("wf.a", children=[1])], [node("wf.a", message=["x"])],
        [node("wf.a(0:" + "x" * 10_000)], [node("wf.a(99999999999999999999999:x)")],
    ],
)  # fmt: skip
def test_nodes_that_lie_are_refused_or_left_out(nodes):
    store = memory()
    try:
        made = import_workflow(store, read(workflow(*nodes)), Pipeline(Dag([step("a")])))
    except InputError:
        assert list(store.storage.list("")) == []
    else:
        assert "succeeded" not in str(made.replayed.plan.steps[0].reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(
        ["name", "id", "type", "phase", "boundaryID", "children", "outputs", "inputs", "nodeFlag",
         "memoizationStatus", "message", "startedAt", "templateName"]), JSON), max_size=4)
)  # fmt: skip
def test_whatever_the_status_says_nothing_else_is_raised(changes):
    found = workflow(
        node("wf.list", outputs={"items": '["x", 1]'}),
        node("wf.m(0:x)", type="DAG"), node("wf.m(0:x).t(0)", boundary="id-wf.m(0:x)"),
        node("wf.m(0:x).t", boundary="id-wf.m(0:x)", type="Retry", children=["id-wf.m(0:x).t(0)"]),
        node("wf.m(1:1)"), node("wf.end"),
    )  # fmt: skip
    nodes = list(found["status"]["nodes"].values())
    for which, name, value in changes:
        nodes[which % len(nodes)][name] = value
    dag = Dag([step("list", returns="items"),
               Map(name="m", over="items", as_="i", after=("list",), body=Dag([step("t", "i")])),
               step("end", after="m")])  # fmt: skip
    store = memory()
    try:
        import_workflow(store, read(found), Pipeline(dag))
    except RunstoreError:
        assert list(store.storage.list("")) == []
