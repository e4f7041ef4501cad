"""Whatever a task makes of `sys.stdout`, its attempt ends, and so does the run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("how", [[], ["--processes"]], ids=["threads", "processes"])
@pytest.mark.parametrize("what", ["none", "closed", "deleted", "replaced", "left"])
def test_a_stream_that_a_task_broke(tmp_path, what, how):
    file = f"{ROOT}/tests/executor/streams_broken.py:{what}"
    done = subprocess.run(
        [sys.executable, "-m", "runstore.cli", "run", file, "--store", str(tmp_path), "--run-id",
         "r", *how],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "bug in runstore" not in said, said
    assert "Traceback" not in said
    found = {}
    for end in tmp_path.glob("runs/r/**/attempts/*.end.json"):
        record = json.loads(end.read_bytes())["record"]
        found[record["path"]] = record["outcome"]
    assert len(found) == 2
    assert found["after"] == "succeeded"
    assert len(list(tmp_path.glob("runs/r/**/attempts/*.start.json"))) == 2
    if "failed" not in found.values():
        assert "run r succeeded" in done.stdout, "the program's own streams are as they were"
    assert done.returncode == (1 if "failed" in found.values() else 0), said
