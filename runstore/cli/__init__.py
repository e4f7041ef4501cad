"""The command line, ``runstore``: one file a verb, each loaded when it is used.

Importing this package costs click and nothing else; ``runstore --help`` imports no more than that.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from runstore.version import __version__

__all__ = ["main", "program"]

VERBS = {
    "run": "Run a pipeline, as a new run.",
    "retry": "Continue a run: skip what succeeded, run the rest.",
    "fork": "Start a new run that takes over what another has.",
    "exec": "Do what is left of one step of a run, for any scheduler.",
    "argo": "Write a pipeline as an Argo Workflow.",
    "argo-import": "Settle a run by the status of its Argo Workflow.",
    "plan": "Say what is left to do of a run, and why.",
    "ls": "List the runs of a store.",
    "show": "Show a run: parameters, invocations, attempts, artifacts.",
    "diff": "Compare a run's structure with a pipeline's.",
    "logs": "Print what a step wrote to stdout and stderr.",
    "get": "Fetch an artifact of a run.",
    "export": "Write a run into one file.",
    "import": "Put an exported run into a store.",
    "pull": "Bring a run here from another store.",
    "push": "Bring a run from here to another store.",
    "verify": "Check every record and blob of a run.",
    "pack": "Put the records of a run into one object, for quick reading.",
    "rm": "Remove a run.",
    "gc": "Remove what nobody will use any more.",
    "doctor": "Try out whether a store can be at a URL.",
}

_MODULES = {"import": "importing", "argo-import": "argo_import"}  # no modules have such names
_HIDDEN = ("pod",)
"""Verbs that are not listed: programs use them."""

EPILOG = """\b
Exit codes:
    0    done (also: stopped where --only or --until said)
    1    the run failed; of diff: there are differences
    2    wrong usage, or refused (also: what is left is in progress elsewhere)
    3    the store is damaged or out of reach
   70    a bug in runstore
   75    of exec: others are at work on it, or on what comes before: ask again
  130    cancelled by SIGINT (Ctrl-C); 143: by SIGTERM; 129: by SIGHUP

\b
A PIPELINE is file.py, file.py:name, file.yaml or file.json. The store is
--store, else $RUNSTORE_URL, else ./.runstore. An exported file (run.json) is
taken in place of a store, and of a RUN_ID, by whatever only reads.
"""


class Commands(click.Group):
    """The verbs, by name; their modules are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS and cmd_name not in _HIDDEN:
            return None
        name = _MODULES.get(cmd_name, cmd_name)
        module = importlib.import_module(f"runstore.cli.commands.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # As in click, without loading every verb for its first line.
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> Any:
        from runstore.cli.exit_codes import exit_process, run_command

        arguments = sys.argv[1:] if args is None else list(args)
        exit_process(run_command(lambda state: self._call(arguments, state)))

    def _call(self, arguments: list[str], state: dict[str, Any]) -> Any:
        state["arguments"] = arguments
        asked = os.environ.get("_RUNSTORE_COMPLETE")
        if asked:
            from click.shell_completion import shell_complete

            return shell_complete(self, {}, "runstore", "_RUNSTORE_COMPLETE", asked)
        # Not click's own main: that one has an exit code of its own for a pipe that broke.
        with self.make_context("runstore", list(arguments), obj=state) as context:
            return self.invoke(context)


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().obj["debug"] = True


debug = click.option(
    "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_debug,
    help="Show tracebacks.",
)  # fmt: skip


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runstore")
@debug
def program() -> None:
    """A durable, shared memory for pipeline runs: what every step did, and what is left to do."""


def main() -> None:
    """The console script."""
    try:
        program.main()
    except KeyboardInterrupt:  # while the rest was being imported
        sys.exit(130)
