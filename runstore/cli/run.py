"""``runstore run``."""

from __future__ import annotations

import os
from typing import Any

import click

from runstore.cli.console import say
from runstore.cli.options import (
    at_work,
    label_option,
    parameters,
    recorded_command,
    repeated,
    secret_values,
)
from runstore.cli.place import Place

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
    store: Place,
    **options: Any,
) -> int:
    """Run PIPELINE as a new run.

    PIPELINE is file.py, file.py:name, file.yaml or file.json. With RUNSTORE_RETRY_RUN_ID in the
    environment it is a retry of that run.
    """
    from runstore.cli.outcome import Hints, work
    from runstore.cli.sources import read_pipeline
    from runstore.errors import InputError
    from runstore.executor import RETRY_VARIABLES, start

    opened = store.open_to_write()
    loaded = read_pipeline(pipeline)
    given = parameters(params, params_file, [*loaded.secrets, *(name for name, _ in secrets)])
    variable = next((name for name in RETRY_VARIABLES if os.environ.get(name)), None)
    if variable is not None:
        again = os.environ[variable]
        if run_id not in (None, again):
            raise InputError(
                f"{variable} asks for a retry of run {again!r}, and --run-id for {run_id!r}: "
                f"unset the one, or leave out the other"
            )
        say(f"{variable} is set: this is a retry of run {again}", err=True)
    return work(
        lambda reporter: start(
            loaded, given, store=opened, run_id=run_id, labels=dict(labels), reporter=reporter,
            secrets=secret_values(secrets, loaded.secrets),
            command=recorded_command(ctx.obj["arguments"]), **options,
        ),
        Hints(store, pipeline, repeated(options), loaded.dag),
    )  # fmt: skip
