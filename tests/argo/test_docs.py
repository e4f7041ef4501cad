"""The commands of docs/argo.md, on a bucket of a real S3 server: `argo` submits to the evaluator,
whose pods are processes of their own; all else is typed as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.argo.evaluator import PodResult, Workflow
from tests.argo.on_argo import Cluster, on_a_bucket
from tests.examples.raw import ROOT
from tests.test_readme import BLOCK


def blocks(page: str, language: str, name: str = "") -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for kind, file, body in BLOCK.findall(text) if (kind, file) == (language, name)]


class Argo:
    """The commands of Argo that the page has."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.latest: Workflow | None = None
        self.kept: dict[str, dict[str, Any]] = {}
        """What `argo template create` and `argo cron create` have made, by kind and name."""

    def __call__(self, *words: str) -> str:
        """What it prints, or how the workflow ended."""
        match words:
            case ["submit", "--from", source, *rest]:
                return self.submit(self.kept[source], rest)
            case ["submit", file, *rest]:
                return self.submit(self.read(file), rest)
            case ["get", "theirs-x7k2p", "-o", "json"]:
                return json.dumps(theirs())
            case ["get", "@latest", "-o", "json"]:
                assert self.latest is not None
                return json.dumps(self.latest.document)
            case ["retry", "@latest"]:
                assert self.latest is not None
                self.latest.retry()
                return self.latest.run(workers=2).phase
            case ["template" | "cron" as what, "create", file]:
                document = self.read(file)
                kind = {"template": "WorkflowTemplate", "cron": "CronWorkflow"}[what]
                assert document["kind"] == kind
                short = {"template": "workflowtemplate", "cron": "cronwf"}[what]
                self.kept[f"{short}/{document['metadata']['name']}"] = document
                return "created"
        raise AssertionError(f"argo {words} is not known here")

    def read(self, file: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.cluster.folder / file).read_text())
        return found

    def submit(self, document: dict[str, Any], rest: list[str]) -> str:
        given = dict(each.split("=", 1) for each in rest if each != "-p")
        assert len(rest) == 2 * len(given)
        self.latest = Workflow(document, given, run_pod=self.cluster)
        return self.latest.run(workers=2).phase


def theirs() -> dict[str, Any]:
    """Of a workflow that was written by hand: its second step failed."""
    templates: list[dict[str, Any]] = [
        {"name": "main", "steps": [[{"name": "fetch", "template": "fetch"}],
                                   [{"name": "count", "template": "count"}]]},
        {"name": "fetch", "container": {"image": "i", "command": ["fetch"]},
         "outputs": {"parameters": [{"name": "rows", "valueFrom": {"path": "/tmp/rows"}}]}},
        {"name": "count", "container": {"image": "i", "command": ["count"]}},
    ]  # fmt: skip
    document = {
        "kind": "Workflow", "metadata": {"name": "theirs-x7k2p"},
        "spec": {"entrypoint": "main", "templates": templates},
    }  # fmt: skip
    ends = {"fetch": PodResult(0, {"rows": "[1, 2]"}), "count": PodResult(1)}
    workflow = Workflow(document, run_pod=lambda pod: ends[pod.template])
    assert workflow.run().phase == "Failed"
    return workflow.document


THEIRS = """
from runstore import Dag, task

def fetch():
    raise AssertionError("it is done")

def count(rows):
    return len(rows)

pipeline = Dag([task(fetch, returns="rows"), task(count, after="fetch", returns="n")])
"""

MONDAY = ["0", "Failed", "Failed", "0", "0"]
TUESDAY = ["1", "Succeeded"]
WEDNESDAY = ["Failed", "", "0", "0"]
THURSDAY = ["Failed", "Succeeded"]
FRIDAY = ["0", "created", "Succeeded", "0", "created", "Succeeded", "Succeeded"]
ANOTHER = ["", "0", "0", "0"]
DAYS = (MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, ANOTHER)


def test_every_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = on_a_bucket(tmp_path, monkeypatch)
    assert cluster.server is not None
    argo = Argo(cluster)
    (pipeline,) = blocks("docs/schedulers.md", "yaml", "survey.yaml")
    file = tmp_path / "survey.yaml"
    (tmp_path / "theirs.py").write_text(THEIRS)
    for lines, came_to in zip(blocks("docs/argo.md", "sh"), DAYS, strict=True):
        said = []
        for line in lines.replace("\\\n", "").splitlines():
            # The shell of the last step kills the command that started it.
            killed = "killed" in line
            file.write_text(pipeline.replace('echo "letters', "kill -9 $PPID; echo \"letters")
                            if killed else pipeline)  # fmt: skip
            cluster.environment["CLOSED"] = "yes" if "closed" in line else ""
            command, _, target = line.partition(" #")[0].partition(" > ")
            words = shlex.split(command)
            if words[0] == "export":
                assert words == ["export", "RUNSTORE_URL=s3://bucket/runs"]
                cluster.environment["RUNSTORE_URL"] = cluster.store
            elif words[0] == "argo":
                out = argo(*words[1:])
                if target:
                    (tmp_path / target.strip()).write_text(out)
                said.append("" if target else out)
            else:
                assert words[0] == "runstore"
                code, out = cluster.typed(*words[1:])
                said.append(str(code))
                if words[1] == "argo-import":
                    own = "1 attempt of dead pods ended as lost"
                    assert (own if "theirs.py" not in words else "2 attempts recorded") in out
        assert said == came_to
    cities = [f'visit["{city}"]/count' for city in ("oslo", "bern", "rome")]
    seen = outcomes(cluster)
    nightly = next(run for run in seen if re.fullmatch(r"nightly-\d{4}-\d\d-\d\d", run))
    for run in ("monday", "tuesday", "wednesday", "thursday", "friday", nightly):
        failed = {"monday": 6, "tuesday": 3, "thursday": 3}.get(run)
        assert seen.pop(run) == {
            **{(path, "succeeded"): 1 for path in (*cities, "total")},
            # retries: 2, in each of two workflows on Monday
            **({(path, "failed"): failed for path in cities} if failed else {}),
            **({("total", "lost"): 6} if run == "wednesday" else {}),
        }
    assert seen == {
        "theirs-x7k2p": {
            ("fetch", "succeeded"): 1, ("count", "failed"): 1, ("count", "succeeded"): 1
        }
    }  # fmt: skip


def outcomes(cluster: Cluster) -> dict[str, Counter[tuple[str, str]]]:
    """Run -> how often a path had an outcome."""
    assert cluster.server is not None
    bucket, _, prefix = cluster.store.removeprefix("s3://").partition("/")
    found: dict[str, Counter[tuple[str, str]]] = {}
    for key, data in cluster.server.objects(bucket, f"{prefix}/runs/").items():
        if key.endswith(".end.json"):
            record = json.loads(data)["record"]
            each = found.setdefault(record["run_id"], Counter())
            each[record["path"], record["outcome"]] += 1
    return found
