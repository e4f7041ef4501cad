"""``runstore fork``."""

from __future__ import annotations

from typing import Any

import click

from runstore.cli.options import (
    at_work,
    keep_unchanged_option,
    label_option,
    names_of_secrets,
    parameters,
    recorded_code_option,
    recorded_command,
    repeated,
    secret_values,
)
from runstore.cli.store_url import StoreLocation

__all__ = ["command"]


@click.command("fork")
@click.argument("run_id")
@click.argument("pipeline", required=False)
@click.option(
    "--run-id", "new_run_id", metavar="ID", help="Id of the new run; one is made if not given."
)
@keep_unchanged_option
@recorded_code_option
@label_option
@at_work
def command(
    ctx: click.Context,
    /,
    *,
    run_id: str,
    pipeline: str | None,
    params: tuple[tuple[str, str], ...],
    params_file: str | None,
    labels: tuple[tuple[str, str], ...],
    secrets: tuple[tuple[str, str | None], ...],
    store: StoreLocation,
    **options: Any,
) -> int:
    """Start a new run that takes over what succeeded in run RUN_ID, which stays as it is.

    PIPELINE as for retry. Parameters given replace those of the origin: what read them runs again.
    """
    from runstore.cli.arguments import existing_run, read_pipeline, recorded_pipeline
    from runstore.cli.render.summary import Hints, work
    from runstore.executor import fork
    from runstore.store import Store

    origin = existing_run(store, run_id, write=True)
    allowed = options["recorded_code"]
    loaded = read_pipeline(pipeline) if pipeline else recorded_pipeline(origin, allowed=allowed)
    hidden = names_of_secrets(origin.record.parameters)
    given = parameters(params, params_file, [*hidden, *(loaded.secrets if loaded else ())])
    return work(
        lambda reporter: fork(
            run_id, loaded, given, store=Store(origin.storage), reporter=reporter,
            labels=dict(labels), secrets=secret_values(secrets, hidden),
            command=recorded_command(ctx.obj["arguments"]), **options,
        ),
        Hints(store, pipeline, repeated(options), loaded.dag if loaded else None),
    )  # fmt: skip
