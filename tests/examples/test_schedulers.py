"""The files of docs/schedulers.md, under what they are written for. What happened is read from the
raw store. xargs and make are run with the page itself (tests/test_readme.py)."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.examples.raw import ROOT, outcomes, run_folder
from tests.servers import server
from tests.test_readme import BLOCK

STEPS = ['visit["bern"]/count', 'visit["oslo"]/count', 'visit["rome"]/count', "total"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the files of the page."""
    text = (ROOT / "docs/schedulers.md").read_text(encoding="utf-8")
    for _, name, body in BLOCK.findall(text):
        if name:
            (tmp_path / name).write_text(body, encoding="utf-8")
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("RUNSTORE_", "SLURM_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), own["PATH"]])
    return {**own, "PATH": path, "PYTHONUTF8": "1", **more}


# What sbatch does with an array, as far as a job can tell: each task a process with its number,
# SIGTERM and then SIGKILL when its time is over; its exit code is the worst.
SBATCH = """\
import os, re, signal, subprocess, sys
script, job = sys.argv[1], sys.argv[2]
limit = float(sys.argv[3]) if len(sys.argv) > 3 else None
found = re.search(r"#SBATCH --array=(\\d+)-(\\d+)", open(script).read())
tasks = range(int(found[1]), int(found[2]) + 1) if found else [None]
at_work = []
for task in tasks:
    own = {"SLURM_JOB_ID": job} if task is None else {
        "SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": str(task)}
    at_work.append(subprocess.Popen(["/bin/sh", script], env={**os.environ, **own}))
codes = []
for process in at_work:
    try:
        codes.append(process.wait(limit))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        codes.append(process.wait(30))
print(sorted(codes))
sys.exit(max(codes, key=abs))
"""


def sbatch(files: Path, script: str, job: str, *limit: str, **more: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", SBATCH, script, job, *limit], cwd=files, check=False,
        capture_output=True, text=True, timeout=120, env=environment(RUN="survey", **more),
    )  # fmt: skip
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes


def test_a_slurm_array_that_fails_is_submitted_again(files: Path) -> None:
    assert sbatch(files, "count.sbatch", "100", CLOSED="yes") == [7, 7, 7]
    assert sbatch(files, "count.sbatch", "101") == [0, 0, 0]
    assert sbatch(files, "count.sbatch", "102") == [0, 0, 0]
    assert sbatch(files, "total.sbatch", "103") == [0]
    tried = ["failed", "failed", "failed", "succeeded"]  # retries: 2
    assert outcomes(run_folder(files / ".runstore")) == {
        **dict.fromkeys(STEPS[:3], tried), "total": ["succeeded"]
    }  # fmt: skip
    names = sorted(f.stem for f in (run_folder(files / ".runstore") / "invocations").iterdir())
    assert names == ["exec", "slurm-100", "slurm-101"]


def test_a_slurm_task_whose_time_is_over_is_cancelled_and_runs_again(files: Path) -> None:
    text = (files / "survey.yaml").read_text()
    (files / "survey.yaml").write_text(
        text.replace("test -z", 'test -z "$SLOW" || sleep 60; test -z')
    )
    assert sbatch(files, "count.sbatch", "100", "4", SLOW="yes") == [143, 143, 143]
    assert sbatch(files, "count.sbatch", "101") == [0, 0, 0]
    found = outcomes(run_folder(files / ".runstore"))
    assert found == {path: ["cancelled", "succeeded"] for path in STEPS[:3]}


def commands(job: dict, context: dict[str, str]) -> list[list[str]]:
    """The `run:` steps of a job that are ours, as Actions would start them."""
    found = []
    for step in job["steps"]:
        text = re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda m: context[m[1]], step.get("run", ""))
        assert "${{" not in text
        if text.startswith("runstore "):
            found.append(shlex.split(text))
    return found


def test_a_matrix_of_github_actions(files: Path) -> None:
    workflow = yaml.safe_load((files / "actions.yml").read_text())
    jobs = workflow["jobs"]
    assert jobs["total"]["needs"] == "count"
    for attempt in ("1", "2"):
        context = {"github.run_id": "77", "github.run_attempt": attempt}
        invocation = re.sub(
            r"\$\{\{ *([\w.]+) *\}\}", lambda m: context[m[1]],  # noqa: B023
            workflow["env"]["RUNSTORE_INVOCATION"],
        )  # fmt: skip
        given = environment(RUNSTORE_INVOCATION=invocation, CLOSED="yes" if attempt == "1" else "")
        items = [str(item) for item in jobs["count"]["strategy"]["matrix"]["item"]]
        lines = [
            words
            for item in items
            for words in commands(jobs["count"], {**context, "matrix.item": item})
        ] + commands(jobs["total"], context)
        ours = [sys.executable, "-m", "runstore.cli"]
        codes = [
            subprocess.run([*ours, *words[1:]], cwd=files, env=given, check=False).returncode
            for words in lines
        ]
        assert codes == ([7, 7, 7, 2] if attempt == "1" else [0, 0, 0, 0])
    found = outcomes(run_folder(files / ".runstore"))
    assert {path: each[-1] for path, each in found.items()} == dict.fromkeys(STEPS, "succeeded")
    assert {path: Counter(each)["succeeded"] for path, each in found.items()} == dict.fromkeys(
        STEPS, 1
    )


def on_a_bucket(files: Path, script: str, run: str) -> None:
    """Run a script twice, and look at what the bucket has after each time."""
    running = server("radosgw")
    bucket, s3 = running.bucket(), running.s3()
    given = environment(**running.environment, RUNSTORE_URL=f"s3://{bucket}/runs")
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, script], cwd=files, env=given, timeout=240, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"runs/runs/{run}/")["Contents"]
        seen.append(sorted(each["Key"] for each in listed))
    ends = [key for key in seen[0] if key.endswith(".end.json")]
    bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in ends]
    records = [json.loads(body)["record"] for body in bodies]
    assert sorted((r["path"], r["outcome"]) for r in records) == sorted(
        (path, "succeeded") for path in STEPS
    )
    assert seen[0] == seen[1]  # the second time nothing was done


def test_dask_with_workers_of_its_own_and_a_bucket(files: Path) -> None:
    on_a_bucket(files, "on_dask.py", "on-dask")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_and_a_bucket(files: Path) -> None:
    on_a_bucket(files, "on_ray.py", "on-ray")
