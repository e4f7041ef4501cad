"""What ``runstore argo`` writes: Argo's schema and hera's models take it, and our own checks, which
refuse what those two let through."""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from runstore.dag import Conditional, Dag, Loop, Map, Parallel, Task
from runstore.errors import InputError
from runstore.integrations.argo.checks import check
from runstore.integrations.argo.document import to_yaml
from runstore.integrations.argo.names import task_name, template_name
from runstore.integrations.argo.options import Options
from runstore.integrations.argo.workflow import to_argo
from runstore.pipeline import Pipeline
from tests.exploration import scaled
from tests.planning.generate import dags

SHARED = Path(os.environ.get("RUNSTORE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
SCHEMA = SHARED / "argo/argo-schema.json"


def options(**more: Any) -> Options:
    return Options(image="img:1", store="s3://b/runs", pipeline="p.py", name="p", **more)


EVERYTHING = options(
    namespace="team", labels={"a/b": "c"}, annotations={"x": "on"}, image_pull_policy="Always",
    image_pull_secrets=("reg",), service_account="runner", cpu="500m", memory="1Gi",
    env={"A": "1", "B": "n"}, secret_env={"TOKEN": ("s", "k")}, env_from=(("secretRef", "aws"),),
    node_selector={"disk": "ssd"}, parallelism=5, map_parallelism=3, deadline=3600, grace=60,
    ttl=86400, memoize=True, pack=True,
)  # fmt: skip

NESTED = Dag(
    [
        Task(name="first", returns=("items", "kind", "done")),
        Map(
            name="scan", over="items", as_="item", after=("first",),
            body=Dag([
                Task(name="parse", params=("item",), returns=("y", "on")),
                Conditional(name="gate", on="on", after=("parse",), default="no", branches={
                    "yes": Dag([Loop(name="refine", until="d", as_="k", max_iterations=3, body=Dag([
                        Task(name="step", returns=("d",)),
                        Map(name="deep", over="items", as_="q", body=Dag([Task(name="leaf")])),
                    ]))]),
                    "no": Dag([]),
                }),
                Task(name="mend", after=("gate",), trigger="one_failed", handles=True),
            ]),
        ),
        Parallel(name="both", after=("scan",), branches={
            "left": Dag([Task(name="a")]), "right": Dag([Task(name="a")]), "none": Dag([]),
        }),
        Map(name="nothing", over="items", as_="z", after=("first",), body=Dag([])),
        Task(name="alert", after=("both",), trigger="one_failed"),
        Task(name="report", after=("both", "alert"), trigger="all_done"),
    ]
)  # fmt: skip


@functools.cache
def schema() -> Any:
    import jsonschema

    if not SCHEMA.exists():
        pytest.skip(f"Argo's schema is not here ({SCHEMA.name})")
    document = json.loads(SCHEMA.read_bytes())
    return jsonschema.validators.validator_for(document)(document)


def tasks(document: dict[str, Any], template: str = "main") -> dict[str, dict[str, Any]]:
    found = next(each for each in document["spec"]["templates"] if each["name"] == template)
    return {each["name"]: each for each in found["dag"]["tasks"]}


@pytest.mark.parametrize("given", [options(), EVERYTHING], ids=["least", "everything"])
@pytest.mark.parametrize("kind", ["Workflow", "WorkflowTemplate", "CronWorkflow"])
def test_every_kind_is_valid_and_the_same_each_time(given, kind):
    given = replace(given, kind=kind, run_id="{{workflow.name}}", schedules=("0 3 * * *",))
    pipeline = Pipeline(NESTED, {"n": 3, "text": "a b", "number": "3", "list": [1]})
    document = to_argo(pipeline, given)
    assert to_yaml(document) == to_yaml(to_argo(pipeline, given))
    assert yaml.safe_load(to_yaml(document)) == document
    hera(document)
    schema().validate(document)


def hera(document: dict[str, Any]) -> None:
    from hera import workflows

    model = getattr(workflows.models, document["kind"])
    model.model_validate(document)


@settings(max_examples=scaled(0.6))
@given(dags(10, 8), st.booleans())
def test_any_pipeline_gives_a_valid_document(dag, memoize):
    document = to_argo(Pipeline(dag), options(memoize=memoize))
    check(document)
    assert yaml.safe_load(to_yaml(document)) == document
    names = [each["name"] for each in document["spec"]["templates"]]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 128 for name in names)
    if SCHEMA.exists():
        schema().validate(document)


def test_pods_get_the_run_the_scope_and_the_node_and_nothing_else():
    document = to_argo(Pipeline(NESTED), options())
    seen = set()
    for template in document["spec"]["templates"]:
        if "container" in template:
            args = template["container"]["args"]
            after = args[args.index("--") + 1 :]
            seen.add(" ".join(args[: args.index("--")]))
            assert after[0] == "{{workflow.parameters.run_id}}"
            assert all(
                "{{" not in word.replace("{{inputs.parameters.at}}", "") for word in after[1:]
            )
    assert seen == {
        "exec --pipeline p.py --grace 25s --fail-with 1",
        "pod plan --pipeline p.py --alone --grace 30",
        "pod items --pipeline p.py", "pod choose --pipeline p.py", "pod more --pipeline p.py",
        "pod verdict --pipeline p.py",
    }  # fmt: skip
    # No output of a step crosses a template: what is passed is decided by pods of ours.
    outputs = {
        output["name"]
        for template in document["spec"]["templates"]
        for output in template.get("outputs", {}).get("parameters", ())
    }
    assert outputs == {"todo", "items", "branch", "more"}


def test_what_follows_what_need_not_be_what_it_seems_asks_in_whatever_phase():
    found = tasks(to_argo(Pipeline(NESTED), options()))
    any_phase = "(n-scan || n-scan.Failed || n-scan.Errored || n-scan.Omitted)"
    assert found["n-first"]["depends"] == "plan"
    assert found["n-scan"]["depends"] == "n-first"
    assert found["n-both"]["depends"] == f"plan && {any_phase}"  # there is a handler in it
    assert found["n-alert"]["depends"] == f"plan && {any_phase.replace('scan', 'both')}"
    assert found["verdict"]["depends"].startswith("plan && ")
    # All, and not the last alone: what `argo retry` runs again must be looked at.
    assert found.keys() - {"plan", "verdict"} == {
        word.strip("( )").partition(" ")[0] for word in found["verdict"]["depends"].split("&&")[1:]
    }
    for task in ("n-first", "n-scan", "n-report"):
        assert f"contains ' {task} '" in found[task]["when"]


def test_the_phase_of_a_workflow_is_that_of_its_verdict():
    """Whatever the pipeline: others may work on its run meanwhile."""
    plain = to_argo(Pipeline(Dag([Task(name="a", returns=("x",)), Task(name="b", after=("a",))])),
                    options())  # fmt: skip
    main = next(each for each in plain["spec"]["templates"] if each["name"] == "main")
    assert main["dag"]["target"] == "verdict"
    after = tasks(plain)["verdict"]["depends"].split(" && ")
    assert [each.lstrip("(").partition(" ")[0] for each in after] == ["plan", "n-a", "n-b"]


AWKWARD = [
    "in", "not", "nil", "true", "a_b", "1a", "B", "a", "ä", "a/b", "a b", "{{x}}", "plan",
    "verdict", "n-plan", "-x", "x-", "a--b", "x" * 300, "x" * 299 + "y", "a-x0123456789",
]  # fmt: skip


def test_names_are_ones_that_argo_takes_and_never_meet():
    import re

    made = [task_name(name) for name in AWKWARD]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"n-[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", name) for name in made)
    assert max(map(len, made)) <= 128
    assert task_name("train") == "n-train"
    document = to_argo(Pipeline(Dag([Task(name=name) for name in AWKWARD])), options())
    schema().validate(document)


@given(st.lists(st.text(min_size=1, max_size=150), min_size=1, max_size=4),
       st.lists(st.text(min_size=1, max_size=150), min_size=1, max_size=4))  # fmt: skip
def test_templates_of_different_places_have_different_names(one, other):
    a, b = template_name("s", tuple(one)), template_name("s", tuple(other))
    assert (a == b) == (one == other)
    assert len(a) <= 128


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_the_run_is_a_label_and_a_mutex():
    spec = to_argo(Pipeline(NESTED), options())["spec"]
    assert spec["synchronization"] == {
        "mutexes": [{"name": "runstore-{{workflow.parameters.run_id}}"}]
    }
    assert spec["workflowMetadata"]["labelsFrom"] == {
        "runstore.io/run-id": {"expression": "workflow.parameters.run_id"}
    }
    assert spec["archiveLogs"] is False
    assert "synchronization" not in to_argo(Pipeline(NESTED), options(mutex=False))["spec"]


def test_parameters_have_their_defaults_as_they_are_submitted():
    given = {"n": 3, "text": "a b", "number": "3", "flag": "true", "quoted": '"x"', "none": None,
             "obj": {"a": [1]}}  # fmt: skip
    document = to_argo(Pipeline(Dag([Task(name="a")]), given), options())
    found = {
        each["name"]: each.get("value") for each in document["spec"]["arguments"]["parameters"]
    }
    assert found == {
        "run_id": None, "rerun": "false", "n": "3", "text": "a b", "number": '"3"',
        "flag": '"true"', "quoted": '"\\"x\\""', "none": "null", "obj": '{"a":[1]}',
    }  # fmt: skip


def test_memoization_stands_outside_of_the_retries():
    document = to_argo(Pipeline(NESTED), options(memoize=True))
    for template in document["spec"]["templates"]:
        if "memoize" in template:
            assert "retryStrategy" not in template
            assert len(template["steps"]) == 1
            assert template["memoize"]["maxAge"].startswith("{{=workflow.parameters.rerun")
    assert sum("memoize" in each for each in document["spec"]["templates"]) == 10


def test_a_node_has_its_own_pods():
    own = {"image": "gpu:1", "resources": {"limits": {"nvidia.com/gpu": 1}},
           "env": [{"name": "A", "value": "2"}], "nodeSelector": {"gpu": "yes"},
           "volumeMounts": [{"name": "v", "mountPath": "/v"}],
           "volumes": [{"name": "v", "emptyDir": {}}]}  # fmt: skip
    dag = Dag([Task(name="train", config={"argo": own}), Task(name="other")])
    document = to_argo(Pipeline(dag), options(env={"A": "1"}))
    train, other = (
        next(each for each in document["spec"]["templates"] if each["name"] == name)
        for name in ("s-train", "s-other")
    )
    assert train["container"]["image"] == "gpu:1"
    assert {"name": "A", "value": "2"} in train["container"]["env"]
    assert {"name": "A", "value": "1"} not in train["container"]["env"]
    assert train["nodeSelector"] == {"gpu": "yes"}
    assert other["container"]["image"] == "img:1"
    schema().validate(document)


def test_an_overlay_is_merged_last():
    over = {
        "metadata": {"labels": {"x": "y"}},
        "spec": {
            "hooks": {"exit": {"template": "plan"}}, "priority": 3,
            "templates": [{"name": "s-alert", "container": {"image": "other"}}],
        },
    }  # fmt: skip
    document = to_argo(Pipeline(NESTED), options(overlay=over))
    assert document["metadata"]["labels"] == {"x": "y"}
    alert = next(each for each in document["spec"]["templates"] if each["name"] == "s-alert")
    assert alert["container"]["image"] == "other"
    assert alert["container"]["command"] == ["runstore"]
    schema().validate(document)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"env": {"A": "{{x}}"}}, "variable 'A'"),
        ({"labels": {"a": "{{x}}"}}, "label 'a'"),
        ({"labels": {"a": "b c"}}, "label"),
        ({"labels": {"-a": "b"}}, "label"),
        ({"env": {"A B": "x"}}, "'A B'"),
        ({"namespace": "Team"}, "namespace"),
        ({"kind": "CronWorkflow"}, "schedule"),
        ({"overlay": {"spec": {"entrypiont": "main"}}}, "entrypoint"),
        ({"overlay": {"spec": {"parallelism": "5"}}}, "whole number"),
        ({"overlay": {"spec": {"suspend": "false"}}}, "true or false"),
        ({"overlay": {"spec": {"entrypoint": "nope"}}}, "none of this name"),
        (
            {"overlay": {"spec": {"templates": [{"name": "more", "dag": {"tasks": []}}]}}},
            "calls it",
        ),
        ({"overlay": {"spec": {"onExit": "s-report"}}}, None),
    ],
)
def test_what_argo_would_trip_over_is_refused(more, said):
    if said is None:
        to_argo(Pipeline(NESTED), options(**more))
        return
    with pytest.raises(InputError, match=said):
        to_argo(Pipeline(NESTED), options(**more))


@pytest.mark.parametrize("name", ["run_id", "rerun", "a b", "ä", "a.b", "{{x}}"])
def test_parameters_that_a_workflow_cannot_have_are_refused(name):
    with pytest.raises(InputError, match="parameter"):
        to_argo(Pipeline(Dag([Task(name="a")]), {name: 1}), options())


def test_what_must_be_given_is_a_parameter_without_a_value():
    made = Pipeline(Dag([Task(name="a", params=("city", "n"))]), {"n": 1})
    given = to_argo(made, options())["spec"]["arguments"]["parameters"]
    assert given == [
        {"name": "run_id"}, {"name": "rerun", "value": "false"}, {"name": "city"},
        {"name": "n", "value": "1"},
    ]  # fmt: skip


def test_a_default_that_argo_would_interpret_is_refused():
    with pytest.raises(InputError, match="parameter 'x'"):
        to_argo(Pipeline(Dag([Task(name="a")]), {"x": ["{{workflow.name}}"]}), options())


def test_a_secret_that_no_pod_would_have_is_refused():
    pipeline = Pipeline(Dag([Task(name="a")]), secrets=["token"])
    with pytest.raises(InputError, match="RUNSTORE_SECRET_TOKEN=SECRET/KEY"):
        to_argo(pipeline, options())
    to_argo(pipeline, options(secret_env={"RUNSTORE_SECRET_TOKEN": ("s", "k")}))


def change(document: dict[str, Any], where: str, task: str, what: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    tasks(changed, where)[task].update(what)
    return changed


@pytest.mark.parametrize(
    ("template", "task", "what", "said"),
    [
        ("main", "n-report", {"name": "in"}, "no such name"),
        ("main", "n-alert", {"name": "a_b"}, "no such name"),
        ("main", "n-first", {"depends": "nope"}, "there is none"),
        ("main", "n-first", {"depends": "plan.Done"}, "no task ends"),
        ("main", "n-first", {"depends": "n-report"}, "wait for one another"),
        ("main", "n-first", {"template": "nope"}, "none of this name"),
        ("main", "n-first", {"when": "{{=tasks['n-scan'].outputs.parameters.x == ''}}"}, "ended"),
        ("main", "n-first", {"when": "{{=tasks['plan'].outputs.parameters.x == ''}}"}, "output"),
        ("main", "n-first", {"when": "{{=foo.bar == ''}}"}, "'foo'"),
        ("main", "n-first", {"when": "{{workflow.parameters.nope}} == ''"}, "'nope'"),
        ("main", "n-first", {"arguments": {"parameters": []}}, "'at'"),
        ("main", "n-first", {"arguments": {"parameters": [{"name": "at", "value": "{{item}}"}]}},
         "item"),
        ("main", "n-first", {"withParm": "x"}, "withParam"),
        ("m-scan", "each", {"withParam": "{{tasks.items.outputs.parameters.todo}}"}, "output"),
        ("m-scan", "each", {"depends": ""}, "need not have ended"),
    ],
)  # fmt: skip
def test_a_document_that_names_what_is_not_there_is_refused(template, task, what, said):
    document = to_argo(Pipeline(NESTED), options())
    check(document)
    with pytest.raises(InputError, match=said):
        check(change(document, template, task, what))


@pytest.mark.parametrize(
    "text",
    ["n", "on", "1e3", "0x10", "2026-01-01", "~", "null", "a: b", "- a", "#", "\x7f", "\x85",
     "\u2028", "é", "🇩🇪", "", " x ", "1_000"],
    ids=ascii,
)  # fmt: skip
def test_a_text_stays_that_text_in_yaml(text):
    document = {"kind": text, "on": [text, {"n": text}], "x": {text: "1"}, "empty": [], "none": {}}
    assert yaml.safe_load(to_yaml(document)) == document
