"""The commands of docs/argo.md, on a bucket of a real S3 server: `argo submit` submits to the
evaluator, whose pods are interpreters of their own; all else is typed as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

from tests.argo.evaluator import Workflow
from tests.argo.on_argo import Cluster
from tests.examples.raw import ROOT
from tests.examples.test_schedulers import environment
from tests.servers import server
from tests.test_readme import BLOCK


def block(page: str, language: str, name: str = "") -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return next(
        body for kind, file, body in BLOCK.findall(text) if (kind, file) == (language, name)
    )


def test_from_a_pipeline_to_a_workflow_and_a_retry_on_a_laptop(tmp_path: Path) -> None:
    running = server("radosgw")
    bucket = running.bucket()
    (tmp_path / "survey.yaml").write_text(block("docs/schedulers.md", "yaml", "survey.yaml"))
    cluster = Cluster(tmp_path, f"s3://{bucket}/runs", **running.environment)
    said = []
    for line in block("docs/argo.md", "sh").splitlines():
        words = shlex.split(line.partition(" #")[0].replace("s3://bucket", f"s3://{bucket}"))
        # What fails on Argo, twice, is mended when it is retried here.
        cluster.environment["CLOSED"] = "yes" if words[0] == "argo" else ""
        if words[:2] == ["argo", "submit"]:
            given = dict(each.split("=", 1) for each in words if re.fullmatch(r"\w+=.*", each))
            document = yaml.safe_load((tmp_path / words[2]).read_text())
            workflow = Workflow(document, given, run_pod=cluster)
            said.append(workflow.run(workers=2).phase)
        else:
            assert words[0] == "runstore"
            done = subprocess.run(
                [sys.executable, "-m", "runstore.cli", *words[1:]], check=False, cwd=tmp_path,
                env=environment(**cluster.environment),
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            said.append(str(done.returncode))
            assert done.returncode == 0, done.stderr
    assert said == ["0", "Failed", "Failed", "0"]
    s3, outcomes = running.s3(), Counter()
    for each in s3.list_objects_v2(Bucket=bucket, Prefix="runs/runs/monday/")["Contents"]:
        if each["Key"].endswith(".end.json"):
            body = s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            record = json.loads(body)["record"]
            outcomes[record["path"], record["outcome"]] += 1
    cities = [f'visit["{city}"]/count' for city in ("oslo", "bern", "rome")]
    assert outcomes == {
        **{(path, "succeeded"): 1 for path in (*cities, "total")},
        # retries: 2, in each of two workflows
        **{(path, "failed"): 6 for path in cities},
    }
