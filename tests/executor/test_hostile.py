"""Whatever a task raises, returns or sets, its step fails and says so; nothing else does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.executor.hostile import CASES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["threads", "processes"])
def ended(request, tmp_path_factory):
    """Path -> raw end record, of a run of them all, and how that ended."""
    folder = tmp_path_factory.mktemp("hostile")
    how = ["--processes"] if request.param == "processes" else []
    done = subprocess.run(
        [sys.executable, "-m", "runstore.cli", "run", str(ROOT / "tests/executor/hostile.py"),
         "--store", str(folder), "--run-id", "r", "--workers", "2", *how],
        capture_output=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    ends = {}
    for file in folder.glob("runs/r/**/attempts/*.end.json"):
        record = json.loads(file.read_bytes())["record"]
        ends[record["path"]] = record
    return ends, done, folder


def test_the_run_goes_on_and_fails_as_a_run_does(ended):
    ends, done, folder = ended
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1, said[-3000:]
    assert "bug in runstore" not in said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert "never awaited" not in said
    assert ends["after"]["outputs"] == {"a": "fine"}
    assert ends["limits_digits"]["outcome"] == "succeeded"
    assert set(ends) == {*CASES, "before", "after", "limits_digits"}
    starts = list(folder.glob("runs/r/**/attempts/*.start.json"))
    assert len(starts) == len(ends), "no attempt is left open"


@pytest.mark.parametrize("path", CASES)
def test_the_step_fails_and_says_what_the_task_did(ended, path):
    ends, *_ = ended
    end = ends[path]
    assert end["outcome"] == "failed"
    said = f"{end['error']['type']}: {end['error']['message']}"
    wanted = CASES[path]
    assert wanted in said or re.search(wanted, said), said[:500]
    assert len(said) < 20_000
    assert "runstore/executor" not in end["error"].get("traceback", "").replace(
        "tests/executor", ""
    )
