"""``runstore argo-import``."""

from __future__ import annotations

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import store_option
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]

_LISTED = 10


@click.command("argo-import")
@click.argument("file", type=click.Path())
@store_option
def command(file: str, store: StoreLocation) -> int:
    """Settle a run by the status of its workflow: FILE is what `argo get WORKFLOW -o json` gave.

    Attempts in progress whose pods are certainly dead are ended as lost, so that a retry, here or
    on Argo, runs them again. Of a workflow that `runstore argo` wrote. Nothing else is written.
    """
    from runstore.cli.arguments import existing_run, latest_dag
    from runstore.cli.render.text import count, short
    from runstore.errors import InputError
    from runstore.integrations.argo.status import read_status
    from runstore.plan import Reason
    from runstore.records import Start

    try:
        with open(file, "rb") as source:
            status = read_status(source.read(), file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    run = existing_run(store, status.run_id, write=True, cache=False)
    history = run.history()
    began = {start.path: start for start in history.open()}
    left = run.take_over(history, liveness=status)
    open_still = {each.path for each in left if isinstance(each, Start)}
    lost = [path for path in began if path not in open_still]
    state = status.phase if status.ended else f"{status.phase}, so its pods may be at work"
    say(f"workflow {status.name} ({state}), run {status.run_id}")
    say(f"{count(len(lost), 'attempt')} of dead pods ended as lost")
    for path in lost[:_LISTED]:
        say(f"  {short(path)} (attempt {began[path].attempt}, {began[path].by})")
    for path in sorted(open_still)[:_LISTED]:
        start = began[path]
        alive = {True: "runs", None: "is not known to be dead"}.get(status.is_alive(start.by))
        say(f"in progress: {short(path)}: {start.by} {alive}")
    plan = run.plan(latest_dag(run, history), history=history)
    never = [step for step in plan.steps if step.reason is Reason.NEVER_RAN]
    say(f"{count(len(never), 'step')} never ran, and can run now")
    for step in never[:_LISTED]:
        say(f"  {short(step.path)}")
    return DONE
