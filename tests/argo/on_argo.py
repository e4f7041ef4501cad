"""A pipeline on Argo, without a cluster: each pod of the emitted workflow is a real process, with
the environment that a pod has, at work on a real store."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from runstore.integrations.argo.options import Options
from runstore.integrations.argo.templates import RESULTS
from runstore.integrations.argo.workflow import to_argo
from runstore.pipeline import load_pipeline
from tests.argo.evaluator import Pod, PodResult, Workflow
from tests.examples.raw import outcomes, run_folder
from tests.forkserver import Child, fork_server
from tests.remote.conftest import enter
from tests.servers import Server, server

__all__ = ["Cluster", "attempts", "on_a_bucket"]

PIPELINE = Path(__file__).with_name("everything.py")


class Cluster:
    """Where workflows of a pipeline run. ``store``: the URL that pods have."""

    def __init__(
        self,
        folder: Path,
        store: str = "",
        pipeline: Path = PIPELINE,
        server: Server | None = None,
    ) -> None:
        self.folder = folder
        self.server = server
        self.pipeline = str(pipeline)
        self.store = store or str(folder / "store")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RUNSTORE_", "KUBERNETES_"))
        } | {
            "PYTHONUTF8": "1",
            "SCENARIO": str(folder),
            "RUNSTORE_ARGO_WAIT": "0",
            "RUNSTORE_SERVICE_ACCOUNT": str(folder / "account"),
        }
        (folder / "account").mkdir(parents=True)
        (folder / "account" / "ca.crt").write_text("a certificate")
        (folder / "account" / "namespace").write_text("argo")
        self.environment |= server.environment if server else {}
        self.at_work: dict[str, Child] = {}
        self.said: dict[str, str] = {}
        """Name of a pod -> what it said on stderr."""
        self._lock = threading.Lock()

    # -- what a user does

    def emit(self, **options: Any) -> dict[str, Any]:
        given = Options(image="i", store=self.store, pipeline=self.pipeline, name="p", **options)
        return to_argo(load_pipeline(self.pipeline), given)

    def submit(
        self, run_id: str = "r", document: dict[str, Any] | None = None, **parameters: str
    ) -> Workflow:
        given = {"run_id": run_id, **parameters}
        return Workflow(document or self.emit(), given, run_pod=self)

    def local(self, *words: str) -> tuple[int, str]:
        """The command, on a laptop; its exit code and what it printed."""
        return self.typed(*words, "--store", self.store)

    def typed(self, *words: str) -> tuple[int, str]:
        """The same, as it is, with the store that its environment names."""
        with tempfile.TemporaryFile() as out:
            child = self._begin(list(words), self.environment, out)
            code = child.wait(60)
            out.seek(0)
            return code, out.read().decode()

    def tell(self, **steps: str) -> None:
        """From now on these steps ``fail``, ``hang``, or ``die``, once; others do what they do."""
        (self.folder / "told").write_text(json.dumps(steps))

    def log(self) -> list[str]:
        """The steps that began since the last time this was asked."""
        file = self.folder / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    # -- what a cluster does

    def __call__(self, pod: Pod) -> PodResult:
        """Run a pod to its end."""
        assert pod.command == ["runstore"]
        with tempfile.TemporaryDirectory() as results, tempfile.TemporaryFile() as err:
            environment = {
                **self.environment, **pod.environment, "RUNSTORE_RESULTS": results,
                "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            }  # fmt: skip
            child = self._begin(pod.args, environment, err)
            with self._lock:
                self.at_work[pod.uid] = child
            code = child.wait(120)
            with self._lock:
                del self.at_work[pod.uid]
            err.seek(0)
            self.said[pod.node_name] = err.read().decode(errors="replace")
            found = {each.name: each.read_text() for each in Path(results).iterdir()}
        outputs = {
            each["name"]: found[os.path.basename(each["valueFrom"]["path"])]
            for each in pod.output_parameters
            if os.path.basename(each["valueFrom"]["path"]) in found
        }
        assert all(each["valueFrom"]["path"].startswith(RESULTS) for each in pod.output_parameters)
        return PodResult(code if code >= 0 else 128 - code, outputs)

    def terminate(self, pod: Pod) -> None:
        """SIGTERM, as the kubelet sends it."""
        with self._lock:
            child = self.at_work.get(pod.uid)
        if child is not None:
            child.kill(signal.SIGTERM)

    def _begin(self, words: list[str], environment: dict[str, str], stream: Any) -> Child:
        return fork_server("tests.cli.forked").spawn(
            "tests.cli.forked:pod", *words,
            streams=(None, stream.fileno(), stream.fileno()), folder=str(self.folder),
            environment=environment,
        )  # fmt: skip


def attempts(cluster: Cluster) -> dict[str, list[str]]:
    """Path -> the outcomes of its attempts, read with json and hashlib alone."""
    if cluster.server is None:
        return outcomes(run_folder(Path(cluster.store), "r"))
    bucket, _, prefix = cluster.store.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory() as folder:
        for key, data in cluster.server.objects(bucket, f"{prefix}/runs/r/").items():
            file = Path(folder, key.removeprefix(f"{prefix}/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return outcomes(run_folder(Path(folder), "r"))


def on_a_bucket(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pipeline: Path = PIPELINE
) -> Cluster:
    """A cluster whose pods share a bucket of a real S3 server. This process has its credentials."""
    running = server("radosgw")
    enter(monkeypatch, running)
    if not _bucket:
        _bucket.append(running.bucket())
    return Cluster(folder, f"s3://{_bucket[0]}/{uuid.uuid4().hex}", pipeline, running)


_bucket: list[str] = []
