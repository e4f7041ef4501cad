"""``runstore argo-import``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

if TYPE_CHECKING:
    from runstore.integrations.argo.status import WorkflowStatus

__all__ = ["command"]

_LISTED = 10


@click.command("argo-import")
@click.argument("file", type=click.Path())
@click.argument("pipeline", required=False)
@store_option
@click.option("--run-id", help="Of the run to make; by default the workflow's run_id, or its name.")
@click.option(
    "--task", "tasks", metavar="NODE=TASK", multiple=True,
    help="Which task of the workflow stands for a node of PIPELINE, where its name is another. "
    "Repeatable.",
)  # fmt: skip
@click.option(
    "--pods-gone", is_flag=True,
    help="You have seen that no pod of the workflow is there any more: `kubectl get pods -l "
    "workflows.argoproj.io/workflow=NAME` lists none.",
)  # fmt: skip
def command(
    file: str,
    pipeline: str | None,
    store: StoreLocation,
    run_id: str | None,
    tasks: tuple[str, ...],
    pods_gone: bool,
) -> int:
    """Bring in what the status of a workflow tells: FILE is what `argo get WORKFLOW -o json` gave.

    Of a workflow that `runstore argo` wrote: attempts in progress whose pods are certainly dead are
    ended as lost, so that a retry, here or on Argo, runs them again. Nothing else is written.

    Of any other: a run is made of PIPELINE, whose steps the workflow's tasks are, with the attempts
    that the status has. What it does not have (values, files, attempts that `argo retry` erased) is
    not made up: a retry runs these steps.
    """
    from runstore.errors import InputError
    from runstore.integrations.argo.status import read_status

    try:
        with open(file, "rb") as source:
            status = read_status(source.read(), file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    if status.ours:
        if pipeline or run_id or tasks:
            raise InputError(
                f"workflow {status.name!r:.100} was written by `runstore argo`: its run is in the "
                "store it wrote to, and no other is made of it",
                advice="name FILE alone",
            )
        return _settle(status, store, pods_gone=pods_gone)
    if pods_gone:
        raise InputError(
            f"workflow {status.name!r:.100} was not written by `runstore argo`: its pods hold no "
            "attempts",
            advice="leave --pods-gone out",
        )
    if not pipeline:
        raise InputError(
            f"workflow {status.name!r:.100} was not written by `runstore argo`: its steps are "
            "known by a pipeline alone",
            advice="name the PIPELINE whose steps its tasks are",
        )
    return _bring_in(status, store, pipeline, run_id or "", tasks, file)


def _settle(status: WorkflowStatus, store: StoreLocation, *, pods_gone: bool) -> int:
    from runstore.cli.arguments import existing_run, latest_dag
    from runstore.cli.render.text import clean, count, short
    from runstore.errors import InputError
    from runstore.integrations.argo.liveness import WorkflowLiveness
    from runstore.plan import Reason
    from runstore.records import Start

    if not status.run_id:
        raise InputError(
            f"workflow {status.name!r:.100} has no parameter run_id with a value",
            advice="take the status of a submitted workflow",
        )
    run = existing_run(store, status.run_id, write=True, cache=False)
    history = run.history()
    began = {start.path: start for start in history.open()}
    pods = WorkflowLiveness(status, pods_gone=pods_gone)
    left = run.take_over(history, liveness=pods)
    open_still = {each.path for each in left if isinstance(each, Start)}
    lost = [path for path in began if path not in open_still]
    say(f"workflow {status.name} ({status.phase}), run {status.run_id}")
    say(f"{count(len(lost), 'attempt')} of dead pods ended as lost")
    for path in lost[:_LISTED]:
        say(f"  {short(path)} (attempt {began[path].attempt}, {began[path].by})")
    for path in sorted(open_still)[:_LISTED]:
        by = began[path].by
        say(f"in progress: {short(path)}: {by} {clean(pods.why(by))}")
    if any(pods.is_alive(began[path].by) is None for path in open_still):
        say(
            "If `kubectl get pods -l workflows.argoproj.io/workflow="
            f"{status.name}` lists none of them, say so: --pods-gone"
        )
    plan = run.plan(latest_dag(run, history), history=history)
    never = [step for step in plan.steps if step.reason is Reason.NEVER_RAN]
    say(f"{count(len(never), 'step')} never ran, and can run now")
    for step in never[:_LISTED]:
        say(f"  {short(step.path)}")
    return DONE


def _bring_in(
    status: WorkflowStatus,
    store: StoreLocation,
    source: str,
    run_id: str,
    tasks: tuple[str, ...],
    file: str,
) -> int:
    from runstore.cli.arguments import read_pipeline
    from runstore.cli.render.text import clean, count, short
    from runstore.errors import InputError
    from runstore.integrations.argo.importer import import_workflow
    from runstore.plan import Action

    named = dict(each.partition("=")[::2] for each in tasks)
    if not all(named.values()) or not all(named):
        raise InputError("--task names no node, or no task", advice="write --task NODE=TASK")
    loaded = read_pipeline(source)
    made = import_workflow(store.open(), status, loaded, run_id=run_id, tasks=named, file=file)
    run, plan = made.replayed.run, made.replayed.plan
    state = "made" if made.replayed.is_new else "was here already"
    say(f"workflow {status.name} ({status.phase}): run {run.run_id} {state}")
    known = f", {made.replayed.known:,} known before" if made.replayed.known else ""
    say(
        f"{count(made.replayed.attempts, 'attempt')} recorded{known}: those that the status has, "
        "and not what `argo retry` erased"
    )
    if made.left_out:
        say(f"{count(len(made.left_out), 'step')} left out, to be run by a retry:")
    for path, why in list(made.left_out.items())[:_LISTED]:
        say(f"  {short(path)} {clean(why)}")
    if len(made.left_out) > _LISTED:
        say(f"  and {len(made.left_out) - _LISTED:,} more")
    if made.strange:
        names = ", ".join(made.strange[:_LISTED])
        more = f" and {len(made.strange) - _LISTED:,} more" if len(made.strange) > _LISTED else ""
        say(f"no step of the pipeline: {clean(names)}{more}")
    left = sum(step.kind == "task" and step.action is not Action.SKIP for step in plan.steps)
    say(f"{count(left, 'step')} left: runstore plan {run.run_id} {source}")
    return DONE
