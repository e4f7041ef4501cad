"""What the fork server of the command-line tests has imported, and how a fork becomes a command."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import traceback
from pathlib import Path

import runstore.cli

for _file in sorted(Path(runstore.cli.__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(f"runstore.cli.{_file.stem}")
for _name in (
    "runstore.cli.commands.exec", "runstore.cli.commands.pod", "runstore.executor.node",
    "runstore.executor.scheduler", "runstore.integrations.argo.pods", "runstore.pipeline.document",
    "runstore.transfer", "yaml",
):  # fmt: skip
    importlib.import_module(_name)


def command(*words: str) -> None:
    """What ``python -m runstore.cli`` does."""
    sys.path[0] = os.getcwd()
    sys.argv[1:] = words
    runpy.run_module("runstore.cli", run_name="__main__", alter_sys=True)


def pod(*words: str) -> None:
    """:func:`command`, which ends at once when it is done: nobody looks at how it comes down."""
    code: object = 1
    try:
        command(*words)
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 - as an interpreter, it says so and ends
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
