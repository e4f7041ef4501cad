"""``runstore fork``."""

from __future__ import annotations

from typing import Any

import click

from runstore.cli.options import Given, from_earlier, label_option, names_of_secrets, repeated

__all__ = ["command"]


@click.command("fork")
@click.argument("run_id")
@click.argument("pipeline", required=False)
@click.option(
    "--run-id", "new_run_id", metavar="ID", help="Id of the new run; one is made if not given."
)
@label_option
@from_earlier
def command(
    given: Given, /, *, run_id: str, pipeline: str | None, labels: Any, **options: Any
) -> int:
    """Start a new run that takes over what succeeded in run RUN_ID, which stays as it is.

    PIPELINE as for retry. Parameters given replace those of the origin: what read them runs again.
    """
    from runstore.cli.arguments import existing_run, read_pipeline, recorded_pipeline
    from runstore.cli.render.summary import Hints, work
    from runstore.executor import fork
    from runstore.store import Store

    origin = existing_run(given.store, run_id, write=True)
    allowed = options["recorded_code"]
    loaded = read_pipeline(pipeline) if pipeline else recorded_pipeline(origin, allowed=allowed)
    hidden = names_of_secrets(origin.record.parameters)
    values = given.parameters([*hidden, *(loaded.secrets if loaded else ())])
    return work(
        lambda reporter: fork(
            run_id, loaded, values, store=Store(origin.storage), reporter=reporter,
            labels=dict(labels), secrets=given.secret_values(hidden),
            command=given.command, **options,
        ),
        Hints(given.store, pipeline, repeated(options), loaded.dag if loaded else None),
    )  # fmt: skip
