"""A pipeline as an Argo Workflow, WorkflowTemplate or CronWorkflow: the whole document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runstore.canonical import dumps
from runstore.dag import Dag
from runstore.errors import InputError
from runstore.integrations.argo.checks import check, check_literals, check_parameter_names
from runstore.integrations.argo.options import Options
from runstore.integrations.argo.templates import RUN_ID, Templates, graph, settled
from runstore.pipeline import Pipeline

__all__ = ["FORMAT", "OWN_PARAMETERS", "to_argo"]

FORMAT = "1"
"""Of what is emitted, as its annotation says; pods of a later runstore read it."""

OWN_PARAMETERS = ("run_id", "rerun")
"""Parameters of the workflow that are none of the pipeline's."""


def to_argo(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    """The document: JSON values, in one order, so that equal input gives equal text.

    :raises InputError: for what Argo could not take, or would read as something else: a name, a
        literal with ``{{`` in it, a field it does not know, an expression that names nothing.
    """
    dag = pipeline.dag
    check_literals(options, pipeline)
    check_parameter_names([*_wanted(pipeline), *OWN_PARAMETERS], (*OWN_PARAMETERS, "json"))
    if not dag.nodes:
        raise InputError("the pipeline has no steps", advice="give it one")
    _check_secrets(pipeline, options)
    document = _wrapped(_spec(pipeline, options), options)
    merged = _merged(document, options.overlay)
    assert isinstance(merged, dict)
    check(merged)
    if options.mutex and not _has_mutex(merged):
        raise InputError(
            "the overlay takes the workflow's mutex away, by which its plan pod knows who is dead",
            advice="leave `synchronization` as it is, or emit with --no-mutex",
        )
    return merged


def _has_mutex(document: Mapping[str, Any]) -> bool:
    spec = document["spec"].get("workflowSpec", document["spec"])
    mutexes = spec.get("synchronization", {}).get("mutexes", ())
    return {"name": f"runstore-{RUN_ID}"} in mutexes


def _spec(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    made = Templates(pipeline.dag, options)
    tasks = _main(pipeline.dag, made)
    # Argo's phase is that of its leaves, and of what its pods saw; the run's is what the store says
    # in the end: a laptop may have worked on it meanwhile.
    main: dict[str, Any] = {"name": "main", "dag": graph(tasks, "verdict")}
    alone = ["--alone", "--grace", str(options.grace)] if options.mutex else []
    args = ["pod", "plan", "--pipeline", options.pipeline, *alone, "--", RUN_ID]
    made.pod("plan", None, args, output="todo", inputs={})
    plan = made.made[-1]
    plan["container"]["env"].append(
        {
            "name": "RUNSTORE_ARGO_PARAMETERS",
            "value": "{{=sprig.b64enc(workflow.parameters.json)}}",
        }
    )
    args = ["pod", "verdict", "--pipeline", options.pipeline, "--", RUN_ID]
    # Where only the verdict is left to run again, `argo retry` keeps the node of a retry strategy,
    # and the composites above wait for it for ever: so it has none, and waits by itself.
    made.pod("verdict", None, args, inputs={}, replaced=False)
    spec: dict[str, Any] = {
        "entrypoint": "main",
        "arguments": {"parameters": _parameters(pipeline, options)},
        "templates": [main, *made.made],
        "podGC": {"strategy": options.pod_gc},
        "archiveLogs": False,  # they are in the store
        "workflowMetadata": {
            "labelsFrom": {"runstore.io/run-id": {"expression": "workflow.parameters.run_id"}}
        },
        "podSpecPatch": json.dumps({"terminationGracePeriodSeconds": options.grace}),
    }
    if options.pack:
        args = ["pod", "finish", "--pipeline", options.pipeline, "--", RUN_ID]
        made.pod("finish", None, args, inputs={})
        spec["templates"].append(made.made[-1])
        spec["onExit"] = "finish"
    if options.mutex:
        spec["synchronization"] = {"mutexes": [{"name": f"runstore-{RUN_ID}"}]}
    own = {
        "serviceAccountName": options.service_account,
        "nodeSelector": dict(options.node_selector),
        "imagePullSecrets": [{"name": each} for each in options.image_pull_secrets],
        "parallelism": options.parallelism,
        "activeDeadlineSeconds": options.deadline,
        "ttlStrategy": options.ttl and {"secondsAfterCompletion": options.ttl},
    }
    spec.update({name: value for name, value in own.items() if value})
    return spec


def _main(dag: Dag, made: Templates) -> list[dict[str, Any]]:
    """The tasks of the outermost graph: what the plan says is done is skipped."""
    tasks = made.tasks(dag, (), "")
    for task in tasks:
        before = task.get("depends", "plan")
        # One that does not mind how others end minds the plan: where that is refused, nothing runs.
        task["depends"] = f"plan && {before}" if before.startswith("(") else before
        task["when"] = f"{{{{=tasks['plan'].outputs.parameters.todo contains ' {task['name']} '}}}}"
    # Where the plan is refused there is no verdict: the run may be another's. Of all tasks, not of
    # the last alone: see `graph`.
    ended = [settled(task["name"]) for task in tasks]
    verdict = {"name": "verdict", "template": "verdict", "depends": " && ".join(["plan", *ended])}
    return [{"name": "plan", "template": "plan"}, *tasks, verdict]


def _parameters(pipeline: Pipeline, options: Options) -> list[dict[str, str]]:
    own: list[dict[str, str]] = [
        {"name": "run_id", "value": options.run_id} if options.run_id else {"name": "run_id"},
        {"name": "rerun", "value": "false"},
    ]
    for name in sorted(_wanted(pipeline)):
        own.append({"name": name})
        if name in pipeline.parameters:
            own[-1]["value"] = _as_text(pipeline.parameters[name])
    return own


def _wanted(pipeline: Pipeline) -> set[str]:
    """The parameters that a submission may give: the pipeline's, and those that must be given, as
    its steps read them and nothing has them."""
    return {*pipeline.parameters, *pipeline.dag.wiring.needs} - {*pipeline.secrets}


def _as_text(value: Any) -> str:
    """A value as ``-p NAME=...`` takes it: JSON, else the text itself."""
    text = dumps(value).decode()
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return text


def _wrapped(spec: dict[str, Any], options: Options) -> dict[str, Any]:
    metadata: dict[str, Any] = (
        {"generateName": f"{options.name}-"}
        if options.kind == "Workflow"
        else {"name": options.name}
    )
    if options.namespace:
        metadata["namespace"] = options.namespace
    metadata["labels"] = dict(options.labels)
    metadata["annotations"] = {"runstore.io/format": FORMAT, **options.annotations}
    if not metadata["labels"]:
        del metadata["labels"]
    document = {"apiVersion": "argoproj.io/v1alpha1", "kind": options.kind, "metadata": metadata}
    if options.kind != "CronWorkflow":
        return {**document, "spec": spec}
    if not options.schedules or not options.run_id:
        raise InputError(
            "a CronWorkflow needs a schedule, and an id for each of its runs",
            advice="give --schedule '0 3 * * *' and --run-id '{{workflow.name}}'",
        )
    cron: dict[str, Any] = {"schedules": list(options.schedules)}
    if options.timezone:
        cron["timezone"] = options.timezone
    return {**document, "spec": {**cron, "concurrencyPolicy": "Forbid", "workflowSpec": spec}}


def _check_secrets(pipeline: Pipeline, options: Options) -> None:
    for name in pipeline.secrets:
        variable = f"RUNSTORE_SECRET_{name.upper()}"
        if variable not in options.secret_env and not options.env_from:
            raise InputError(
                f"the pipeline asks for the secret {name!r}, and no pod would have it",
                advice=f"give --secret-env {variable}=SECRET/KEY, or --env-from-secret SECRET",
                parameter=name,
            )


def _merged(value: Any, over: Any) -> Any:
    """An overlay over a value: objects key by key, lists of named objects name by name."""
    if isinstance(value, dict) and isinstance(over, Mapping):
        out = dict(value)
        for name, other in over.items():
            out[name] = _merged(value[name], other) if name in value else other
        return out
    if _is_named(value) and _is_named(over):
        by_name = {each["name"]: each for each in value}
        for each in over:
            by_name[each["name"]] = _merged(by_name.get(each["name"], {}), each)
        return list(by_name.values())
    return over


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in value
    )
