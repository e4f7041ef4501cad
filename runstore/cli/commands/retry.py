"""``runstore retry``."""

from __future__ import annotations

from typing import Any

import click

from runstore.cli.options import Given, from_earlier, names_of_secrets, repeated, takeover_option

__all__ = ["command"]

_PATTERN = "a path, a template path, or a glob (* matches any text, ? one character); repeatable."


@click.command("retry")
@click.argument("run_id")
@click.argument("pipeline", required=False)
@click.option(
    "--force",
    multiple=True,
    metavar="PATTERN",
    help=f"Run these again, though they succeeded: {_PATTERN} PATH+ takes along what follows.",
)
@click.option(
    "--only", multiple=True, metavar="PATTERN", help=f"Run these, nothing else: {_PATTERN}"
)
@click.option(
    "--until", multiple=True, metavar="PATTERN", help=f"Run these and what comes before: {_PATTERN}"
)
@takeover_option
@from_earlier
def command(given: Given, /, *, run_id: str, pipeline: str | None, **options: Any) -> int:
    """Continue run RUN_ID: what succeeded is skipped, the rest runs.

    PIPELINE is the pipeline as it is now; without it, the file that the latest invocation used, if
    it is here, else what the run itself names: if that was your own work on this machine, else you
    are asked for it. The original parameters are used, whatever is given.
    """
    from runstore.cli.arguments import existing_run, read_pipeline, recorded_pipeline
    from runstore.cli.render.summary import Hints, work
    from runstore.executor import retry
    from runstore.store import Store

    run = existing_run(given.store, run_id, write=True)
    allowed = options["recorded_code"]
    loaded = read_pipeline(pipeline) if pipeline else recorded_pipeline(run, allowed=allowed)
    hidden = names_of_secrets(run.record.parameters)
    values = given.parameters(hidden)
    again = repeated(options) + (["--keep-unchanged"] if options["keep_unchanged"] else [])
    return work(
        lambda reporter: retry(
            run_id, loaded, values, store=Store(run.storage), reporter=reporter,
            secrets=given.secret_values(hidden),
            command=given.command, **options,
        ),
        Hints(given.store, pipeline, again, loaded.dag if loaded else None),
    )  # fmt: skip
