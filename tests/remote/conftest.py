"""A bucket on a real server, reached directly or through the proxy that hurts requests."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server, server
from tests.servers.processes import Processes, free_port

ENGINES = ("fsspec", "obstore")


def enter(monkeypatch: pytest.MonkeyPatch, running: Server, endpoint: str = "") -> None:
    """The environment of a user of this server, for this process and its children."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


class Proxy:
    """The running proxy, and what it is told."""

    def __init__(self, endpoint: str, upstream: Server) -> None:
        self.endpoint = endpoint
        self.upstream = upstream

    def hurt(
        self,
        *faults: str,
        methods: tuple[str, ...] = ("PUT",),
        share: float = 1.0,
        times: int = -1,
        part: str = "",
    ) -> None:
        """From now on, and instead of what was told before; without arguments, nothing."""
        rule = {"fault": faults, "methods": methods, "share": share, "times": times, "part": part}
        self._tell("rules", json.dumps([rule] if faults else []).encode())

    def log(self) -> list[tuple[str, str, str]]:
        """(method, path, status and fault) of the requests since the last call."""
        return [tuple(entry) for entry in json.loads(self._tell("log"))]

    def _tell(self, what: str, body: bytes = b"") -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/__proxy__/{what}", body, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
            return data


@pytest.fixture(scope="session")
def running_proxy() -> Iterator[Proxy]:
    upstream = server("radosgw")
    processes, port = Processes("proxy"), free_port()
    program = str(Path(__file__).with_name("faultproxy.py"))
    processes.start(sys.executable, program, str(port), upstream.endpoint.partition("//")[2])
    try:
        processes.wait_for(port)
        yield Proxy(f"http://127.0.0.1:{port}", upstream)
    finally:
        processes.stop()


@pytest.fixture
def proxy(running_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The environment leads through it, and nothing is hurt yet."""
    enter(monkeypatch, running_proxy.upstream, running_proxy.endpoint)
    running_proxy.hurt()
    running_proxy.log()
    yield running_proxy
    running_proxy.hurt()


@pytest.fixture
def radosgw(monkeypatch: pytest.MonkeyPatch) -> Server:
    running = server("radosgw")
    enter(monkeypatch, running)
    return running


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param
