"""``runstore argo``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runstore.cli import debug
from runstore.cli.exit_codes import DONE
from runstore.cli.options import Pairs
from runstore.cli.render.console import say

if TYPE_CHECKING:
    from runstore.pipeline import Pipeline

__all__ = ["command"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _pairs(name: str, what: str, metavar: str = "NAME=VALUE") -> Callable[[_F], _F]:
    return click.option(name, multiple=True, type=Pairs(metavar), metavar=metavar, help=what)


@click.command("argo")
@debug
@click.argument("pipeline")
@click.option("--image", required=True, help="The image of the pods: runstore and the pipeline.")
@click.option(
    "--store",
    required=True,
    envvar="RUNSTORE_URL",
    metavar="URL",
    help="The store, as the pods reach it; else $RUNSTORE_URL.",
)
@click.option(
    "--pipeline-in-image",
    metavar="FILE",
    help="The pipeline file as the image has it; PIPELINE by default.",
)
@click.option("--name", help="Of the workflow; that of the file by default.")
@click.option(
    "--kind",
    type=click.Choice(["Workflow", "WorkflowTemplate", "CronWorkflow"]),
    default="Workflow",
    show_default=True,
)
@click.option("--namespace", default="")
@_pairs("--label", "A label of the workflow. Repeatable.")
@_pairs("--annotation", "An annotation of the workflow. Repeatable.")
@click.option("--run-id", default="", help="Default of the workflow's parameter run_id.")
@click.option("--schedule", "schedules", multiple=True, metavar="CRON", help="Of a CronWorkflow.")
@click.option("--timezone", default="", help="Of the schedules.")
@click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]))
@click.option("--image-pull-secret", "image_pull_secrets", multiple=True, metavar="SECRET")
@click.option("--service-account", default="", metavar="NAME")
@click.option("--cpu", default="", help="Requested, and the limit, of each pod: 500m, 2.")
@click.option("--memory", default="", help="Requested, and the limit, of each pod: 512Mi, 4Gi.")
@_pairs("--env", "A variable of every pod. Repeatable.")
@_pairs(
    "--secret-env",
    "A variable of every pod, from a Kubernetes secret. Repeatable.",
    "NAME=SECRET/KEY",
)
@click.option("--env-from-secret", "secret_refs", multiple=True, metavar="SECRET")
@click.option("--env-from-configmap", "config_refs", multiple=True, metavar="CONFIGMAP")
@_pairs("--node-selector", "Where pods may run. Repeatable.")
@click.option("--parallelism", type=click.IntRange(1), help="Pods at a time.")
@click.option("--map-parallelism", type=click.IntRange(1), help="Items at a time, of each map.")
@click.option(
    "--chunk",
    type=click.IntRange(1),
    metavar="N",
    help="So many items of a map to a pod. By default a pod is one step of one item.",
)
@click.option(
    "--chunk-workers",
    "workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Steps at a time in a pod with several items.",
)
@click.option("--deadline", type=click.IntRange(1), metavar="SECONDS", help="Of the workflow.")
@click.option(
    "--grace",
    type=click.IntRange(2),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="That a pod has after SIGTERM.",
)
@click.option(
    "--pod-attempts",
    "attempts",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="How often a pod is replaced that was evicted, killed, or is to ask again. How often a "
    "step is tried that failed is its own: retries.",
)
@click.option(
    "--pod-gc",
    default="OnPodSuccess",
    show_default=True,
    type=click.Choice(
        ["OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess"]
    ),
)
@click.option("--ttl", type=click.IntRange(1), metavar="SECONDS", help="Of an ended workflow.")
@click.option(
    "--memoize", is_flag=True, help="Let Argo remember steps that succeeded: see docs/argo.md."
)
@click.option(
    "--mutex/--no-mutex", default=True, show_default=True,
    help="One workflow at a time for a run id, so that one may take over what another left open.",
)  # fmt: skip
@click.option("--pack", is_flag=True, help="Pack the run when the workflow ends.")
@click.option(
    "--overlay",
    type=click.Path(),
    metavar="FILE",
    help="YAML or JSON that is merged into the document last: objects key by key, lists of named "
    "objects name by name.",
)
@click.option(
    "--format", "style", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True
)
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Else stdout.")
def command(pipeline: str, style: str, output: str | None, **options: Any) -> int:
    """Write PIPELINE as an Argo Workflow.

    Each step is a pod that runs `runstore exec`: it asks the store, so what has succeeded, in Argo
    or here, is not done again. Submit it with a run id:

    \b
        runstore argo pipeline.py --image IMAGE --store s3://bucket/runs -o wf.yaml
        argo submit wf.yaml -p run_id=monday
        argo submit wf.yaml -p run_id=monday -p rerun=true    # goes on with it
        runstore retry monday pipeline.py --store s3://bucket/runs    # or here
    """
    import json

    from runstore.cli.arguments import read_pipeline
    from runstore.integrations.argo.document import to_yaml
    from runstore.integrations.argo.workflow import to_argo

    loaded = read_pipeline(pipeline)
    document = to_argo(loaded, _options(pipeline, loaded, options))
    text = to_yaml(document) if style == "yaml" else json.dumps(document, indent=2) + "\n"
    if output is None:
        say(*text.splitlines())
    else:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    return DONE


def _options(source: str, pipeline: Pipeline, given: dict[str, Any]) -> Any:
    from runstore.cli.options import parameters
    from runstore.errors import InputError
    from runstore.integrations.argo.options import Options

    if given["store"].startswith("memory:") or ("://" not in given["store"] and not os.path.isabs(
        given["store"]
    )):  # fmt: skip
        raise InputError(
            f"no two pods share {given['store']!r:.200}",
            advice="name a bucket with --store, or the absolute path of a volume that all have",
        )
    secret_env = {}
    for name, value in given["secret_env"]:
        secret, slash, key = (value or "").partition("/")
        if not slash or not secret or not key:
            raise InputError(
                f"--secret-env {name}={value} names no key of a secret",
                advice=f"write {name}=SECRET/KEY",
            )
        secret_env[name] = (secret, key)
    stem = os.path.basename(source.partition(":")[0]).partition(".")[0]
    plain = {
        name: given[name]
        for name in (
            "image", "store", "kind", "namespace", "run_id", "timezone", "image_pull_secrets",
            "service_account", "cpu", "memory", "parallelism", "map_parallelism", "deadline",
            "chunk", "workers",
            "grace", "attempts", "pod_gc", "ttl", "schedules", "memoize", "mutex", "pack",
        )
    }  # fmt: skip
    return Options(
        **plain,
        pipeline=given["pipeline_in_image"] or source,
        name=given["name"] or "".join(c if c.isalnum() else "-" for c in stem.lower()).strip("-"),
        labels=dict(given["label"]), annotations=dict(given["annotation"]),
        image_pull_policy=given["image_pull_policy"] or "",
        env=dict(given["env"]), secret_env=secret_env, node_selector=dict(given["node_selector"]),
        env_from=(
            *(("secretRef", name) for name in given["secret_refs"]),
            *(("configMapRef", name) for name in given["config_refs"]),
        ),
        overlay=parameters((), given["overlay"]) if given["overlay"] else {},
    )  # fmt: skip
