"""The two YAML files, through the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.examples.raw import EXAMPLES, artifact, ends, outcomes, run_folder

FOLDER = EXAMPLES / "wrong-file-name"
FAILING, FIXED = FOLDER / "failing.yaml", FOLDER / "fixed.yaml"


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    """A folder with a store in which the run failed."""
    code, out, err = Shell(tmp_path)("run", str(FAILING), "--run-id", "wrong-file-name")
    assert code == 1, err
    assert "loads 'data/hello1.csv', and no step before it saved that" in err + out
    return tmp_path


def test_the_failure_is_recorded(failed: Path) -> None:
    run = run_folder(failed / ".runstore")
    assert outcomes(run) == {"write": ["succeeded"], "read": ["failed"]}
    assert "data/hello.csv" in ends(run)["read"][0]["error"]["message"]  # what there is instead
    assert artifact(run, "write", "data/hello.csv") == b"Hello from the first step\n"


def test_retry_goes_on_where_it_stopped(failed: Path) -> None:
    program = Path(sys.executable).with_name("runstore")
    done = subprocess.run(
        [program, "retry", "wrong-file-name", FIXED],
        cwd=failed, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = run_folder(failed / ".runstore")
    assert outcomes(run) == {
        "write": ["succeeded"],
        "read": ["failed", "succeeded"],
        "greet": ["succeeded"],
    }
    assert ends(run)["read"][-1]["outputs"] == {"words": 5}
    assert Shell(failed)("logs", "wrong-file-name", "greet")[1] == "5 words arrived\n"


def test_retry_with_the_same_file_fails_again(failed: Path) -> None:
    assert Shell(failed)("retry", "wrong-file-name", str(FAILING))[0] == 1
    assert outcomes(run_folder(failed / ".runstore"))["read"] == ["failed", "failed"]


def test_fork_takes_over_what_succeeded(failed: Path) -> None:
    words = ("fork", "wrong-file-name", str(FIXED), "--run-id", "right-file-name")
    code, _, err = Shell(failed)(*words)
    assert code == 0, err
    store = failed / ".runstore"
    assert outcomes(run_folder(store, "right-file-name")) == {
        "read": ["succeeded"],
        "greet": ["succeeded"],
    }
    origin = outcomes(run_folder(store, "wrong-file-name"))
    assert origin == {"write": ["succeeded"], "read": ["failed"]}
