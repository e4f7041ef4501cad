"""``runstore run``."""

from __future__ import annotations

import os
from typing import Any

import click

from runstore.cli.options import (
    at_work,
    label_option,
    parameters,
    recorded_command,
    repeated,
    secret_values,
)
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("run")
@click.argument("pipeline")
@click.option("--run-id", metavar="ID", help="Id of the new run; one is made if not given.")
@label_option
@at_work
def command(
    ctx: click.Context,
    /,
    *,
    pipeline: str,
    run_id: str | None,
    params: tuple[tuple[str, str], ...],
    params_file: str | None,
    labels: tuple[tuple[str, str], ...],
    secrets: tuple[tuple[str, str | None], ...],
    store: StoreLocation,
    **options: Any,
) -> int:
    """Run PIPELINE as a new run.

    PIPELINE is file.py, file.py:name, file.yaml or file.json. With RUNSTORE_RETRY_RUN_ID in the
    environment it is a retry of that run.
    """
    from runstore.cli.arguments import read_pipeline
    from runstore.cli.render.summary import Hints, work
    from runstore.executor import start
    from runstore.executor.retry_variable import run_to_retry

    opened = store.open_to_write()
    loaded = read_pipeline(pipeline)
    given = parameters(params, params_file, [*loaded.secrets, *(name for name, _ in secrets)])
    if asked := run_to_retry(os.environ, run_id):
        say(f"{asked[0]} is set: this is a retry of run {asked[1]}", err=True)
    return work(
        lambda reporter: start(
            loaded, given, store=opened, run_id=run_id, labels=dict(labels), reporter=reporter,
            secrets=secret_values(secrets, loaded.secrets),
            command=recorded_command(ctx.obj["arguments"]), **options,
        ),
        Hints(store, pipeline, repeated(options), loaded.dag),
    )  # fmt: skip
