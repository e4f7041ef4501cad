"""``runstore run``."""

from __future__ import annotations

import os
from typing import Any

import click

from runstore.cli.options import Given, at_work, label_option, repeated
from runstore.cli.render.console import say

__all__ = ["command"]


@click.command("run")
@click.argument("pipeline")
@click.option("--run-id", metavar="ID", help="Id of the new run; one is made if not given.")
@label_option
@at_work
def command(
    given: Given, /, *, pipeline: str, run_id: str | None, labels: Any, **options: Any
) -> int:
    """Run PIPELINE as a new run.

    PIPELINE is file.py, file.py:name, file.yaml or file.json. With RUNSTORE_RETRY_RUN_ID in the
    environment it is a retry of that run.
    """
    from runstore.cli.arguments import read_pipeline
    from runstore.cli.render.summary import Hints, work
    from runstore.executor import start
    from runstore.executor.retry_variable import run_to_retry

    opened = given.store.open_to_write()
    loaded = read_pipeline(pipeline)
    values = given.parameters([*loaded.secrets, *(name for name, _ in given.secrets)])
    if asked := run_to_retry(os.environ, run_id):
        say(f"{asked[0]} is set: this is a retry of run {asked[1]}", err=True)
    return work(
        lambda reporter: start(
            loaded, values, store=opened, run_id=run_id, labels=dict(labels), reporter=reporter,
            secrets=given.secret_values(loaded.secrets), command=given.command, **options,
        ),
        Hints(given.store, pipeline, repeated(options), loaded.dag),
    )  # fmt: skip
