"""Help is quick and says what the exit codes are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runstore.cli import VERBS
from tests.cli.conftest import Shell

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def test_help_loads_nothing_but_click() -> None:
    code = (
        "import sys, json, runstore.cli\n"
        "try: runstore.cli.program.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    loaded = json.loads(out.splitlines()[-1])
    assert {m for m in loaded if m.startswith("runstore")} <= {
        "runstore", "runstore.errors", "runstore.signal_handlers", "runstore.version",
        "runstore.cli", "runstore.cli.exit_codes", "runstore.cli.render",
        "runstore.cli.render.console", "runstore.cli.render.text",
    }  # fmt: skip
    assert not {"rich", "msgspec", "yaml", "fsspec", "orjson"} & set(loaded)


def test_rich_is_not_loaded_where_there_is_no_terminal(once: Shell) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "runstore.cli", "plan", "good"]
    done = subprocess.run(
        command, cwd=once.folder, env=once.environment, capture_output=True, text=True, check=True
    )
    assert "rich" not in done.stderr


def test_exit_codes_are_in_the_help_and_in_the_docs(once: Shell) -> None:
    code, out, _ = once("--help")
    assert code == 0
    docs = DOCS.read_text()
    for number in ("0", "1", "2", "3", "70", "130", "143"):
        assert f" {number}" in out
        assert f"| {number} |" in docs


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_docs(once: Shell, verb: str) -> None:
    code, out, _ = once(verb, "--help")
    assert code == 0
    assert "--store" in out
    assert "--debug" in out
    assert f"runstore {verb}" in DOCS.read_text()


def test_no_verb_shows_the_help(once: Shell) -> None:
    code, out, err = once()
    assert "Commands:" in out + err
    assert code == 2


def test_version(once: Shell) -> None:
    assert "0.1.0" in once("--version")[1]
