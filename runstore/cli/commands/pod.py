"""``runstore pod``: what the pods of an emitted Workflow run that run no step."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from typing import Any

import click

from runstore.cli import debug
from runstore.cli.exit_codes import ASK_AGAIN, DONE, FAILED, print_error
from runstore.cli.options import store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]

_LISTED = 10


@click.group("pod")
@debug
def command() -> None:
    """What the pods of `runstore argo` run, besides `runstore exec`. Not for people."""


def _verb(
    name: str, *more: Callable[..., Any], path: bool = True
) -> Callable[[Callable[..., int]], None]:
    def made(function: Callable[..., int]) -> None:
        """The command; the function is given the store, the run's id, the pipeline, the name of the
        invocation and, with ``path``, the path."""

        @functools.wraps(function)
        def run(store: StoreLocation, run_id: str, **options: Any) -> int:
            from runstore.cli.arguments import read_pipeline
            from runstore.integrations.argo.pods import NotYetError

            opened = store.open_to_write(cache=False)
            pipeline = read_pipeline(options.pop("pipeline"))
            try:
                return function(opened, run_id, pipeline, **options)
            except NotYetError as error:
                print_error(f"{error}: ask again")
                return ASK_AGAIN

        verb: Any = store_option(run)
        for option in (
            *more,
            *((click.argument("path"),) if path else ()),
            click.argument("run_id"),
            click.option("--pipeline", required=True, metavar="FILE"),
            click.option(
                "--invocation", envvar="RUNSTORE_INVOCATION", required=True, metavar="NAME"
            ),
            click.option(
                "--results", default="/tmp/runstore", envvar="RUNSTORE_RESULTS", metavar="DIR",
                help="Where what is decided is written.",
            ),
        ):  # fmt: skip
            verb = option(verb)
        command.add_command(click.command(name, help=function.__doc__)(verb))

    return made


_alone = click.option(
    "--alone", is_flag=True,
    help="The workflow has the mutex of the run: what is open of those that had it is lost.",
)  # fmt: skip
_grace = click.option(
    "--grace", type=float, default=30.0, metavar="SECONDS", help="That pods have after SIGTERM."
)


@_verb("plan", _alone, _grace, path=False)
def _plan(
    store: Any, run_id: str, pipeline: Any, *, invocation: str, results: str, alone: bool,
    grace: float,
) -> int:  # fmt: skip
    """Create the run, or go on with it, and say which tasks are left."""
    from runstore.integrations.argo.pods import begin, parameters_of, write_result
    from runstore.integrations.argo.pods_before import NODE, EarlierPods, mutex_of

    encoded = os.environ.get("RUNSTORE_ARGO_PARAMETERS", "")
    parameters, rerun = parameters_of(encoded, pipeline)
    secrets = {
        name: os.environ[variable]
        for name in pipeline.secrets
        if (variable := f"RUNSTORE_SECRET_{name.upper()}") in os.environ
    }
    pod = (os.environ.get(name, "") for name in ("POD_NAME", "POD_UID", NODE))
    left = begin(
        store, run_id, pipeline, parameters, workflow=invocation, rerun=rerun, secrets=secrets,
        own=EarlierPods(*pod), mutex=mutex_of(os.environ) if alone else None, grace=grace,
        warn=lambda text: say(f"warning: {text}", err=True),
    )  # fmt: skip
    write_result("todo", f" {' '.join(left)} ", results)
    say(f"run {run_id}: left to do: {', '.join(left) or 'nothing'}")
    return DONE


_chunk = click.option(
    "--chunk", type=click.IntRange(1), metavar="N", help="So many items to a pod."
)  # fmt: skip


@_verb("items", _chunk)
def _items(
    store: Any, run_id: str, pipeline: Any, *, path: str, invocation: str, results: str,
    chunk: int | None,
) -> int:  # fmt: skip
    """List the items of a map in which something is left to do."""
    from runstore.integrations.argo.pods import items_left, write_result

    left = items_left(store.get_run(run_id), pipeline, path, invocation, chunk)
    write_result("items", json.dumps(left), results)
    say(f"left to do: {len(left):,} {'pods' if chunk else 'items'}")
    return DONE


@_verb("choose")
def _choose(
    store: Any, run_id: str, pipeline: Any, *, path: str, invocation: str, results: str
) -> int:
    """Say which branch of a conditional is taken."""
    from runstore.integrations.argo.pods import branch_of, write_result

    token = branch_of(store.get_run(run_id), pipeline, path, invocation)
    write_result("branch", token, results)
    say(token)
    return DONE


@_verb("more")
def _more(
    store: Any, run_id: str, pipeline: Any, *, path: str, invocation: str, results: str
) -> int:
    """Say whether a loop goes on after this iteration."""
    from runstore.integrations.argo.pods import goes_on, write_result

    more = goes_on(store.get_run(run_id), pipeline, path, invocation)
    write_result("more", more, results)
    say(more)
    return DONE


_wait = click.option(
    "--wait", type=float, default=300.0, envvar="RUNSTORE_ARGO_WAIT", metavar="SECONDS",
    help="How long to wait for others who are at work on the run.",
)  # fmt: skip


@_verb("verdict", _wait, path=False)
def _verdict(
    store: Any, run_id: str, pipeline: Any, *, invocation: str, results: str, wait: float
) -> int:
    """Exit as the run ended: 0 if it has succeeded."""
    import time

    from runstore.cli.render.text import clean, short
    from runstore.integrations.argo.pods import NotYetError, verdict

    run, deadline, pause = store.get_run(run_id), time.monotonic() + wait, 0.5
    while True:
        try:
            status, wrong = verdict(run, pipeline, invocation)
            break
        except NotYetError:
            if time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 15.0)
    if status == "succeeded":
        say(f"run {run_id} succeeded")
        return DONE
    print_error(f"run {run_id}: {'failed' if status == 'failed' else 'not finished'}")
    for step in wrong[:_LISTED]:
        why = f"{step.reason}: {clean(step.detail)}" if step.detail else str(step.reason)
        say(f"  {short(step.path)}: {why}", err=True)
    return FAILED


@_verb("finish", path=False)
def _finish(store: Any, run_id: str, pipeline: Any, *, invocation: str, results: str) -> int:
    """Pack the run, if this workflow worked on it. Whatever comes of that is told, and no failure:
    a pack is for quick reading alone."""
    from runstore.errors import RunstoreError

    try:
        run = store.get_run(run_id, invocation=invocation)
        from runstore.upkeep.pack import pack_run

        pack_run(run)
        say(f"run {run_id} packed")
    except RunstoreError as error:
        say(f"run {run_id} is not packed: {error}", err=True)
    return DONE
