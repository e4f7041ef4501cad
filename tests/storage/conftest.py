"""The backends of the conformance suite.

A backend plugs in with one entry in ``BACKENDS``: a function that makes a storage, and an oracle
that reads what is really there, never through the code under test.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from unittest import mock

import pytest

from runstore.storage import Storage, open_storage
from runstore.storage.local import LocalStorage
from runstore.storage.memory import MemoryStorage
from tests.servers import Server, server


class Oracle(Protocol):
    def objects(self) -> dict[str, bytes]:
        """Everything in the store, what ought not to be there (temp files) included."""


@dataclass
class DiskOracle:
    root: Path

    def objects(self) -> dict[str, bytes]:
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}


@dataclass
class DictOracle:
    storage: MemoryStorage

    def objects(self) -> dict[str, bytes]:
        return dict(self.storage._objects)


@dataclass
class Backend:
    storage: Storage
    oracle: Oracle


def _local(folder: Path, *, durable: bool) -> Backend:
    root = folder / "store"
    return Backend(LocalStorage(root, durable=durable), DiskOracle(root))


def _memory(folder: Path) -> Backend:
    storage = MemoryStorage(str(folder))
    return Backend(storage, DictOracle(storage))


@dataclass
class BucketOracle:
    server: Server
    bucket: str
    prefix: str = ""

    def objects(self) -> dict[str, bytes]:
        found = self.server.objects(self.bucket, self.prefix)
        assert all(name.startswith(self.prefix) for name in found)
        return {name.removeprefix(self.prefix): body for name, body in found.items()}


_BUCKETS: dict[str, str] = {}
"""Server -> the bucket of this process: each test has a prefix of its own in it."""


def _remote(name: str, engine: str, *, at_root: bool = False) -> Callable[[Path], Backend]:
    """
    :param at_root: each store has a bucket, and is all of it.
    """

    def make(folder: Path, *, at_root: bool = at_root) -> Backend:
        running = server(name)
        for variable, value in running.environment.items():
            os.environ[variable] = value  # undone by the fixture
        bucket, prefix = "", ""
        if at_root:
            bucket = running.bucket()
        else:
            bucket = _BUCKETS.get(name) or _BUCKETS.setdefault(name, running.bucket())
            prefix = f"{uuid.uuid4().hex}/"
        url = f"{running.scheme}://{bucket}/{prefix}".rstrip("/")
        storage = open_storage(url, engine=engine, budget=15)
        return Backend(storage, BucketOracle(running, bucket, prefix))

    return make


REMOTE: dict[str, Callable[..., Backend]] = {
    "fsspec-radosgw": _remote("radosgw", "fsspec"),
    "obstore-radosgw": _remote("radosgw", "obstore"),
    "fsspec-moto": _remote("moto", "fsspec", at_root=True),
    "obstore-moto": _remote("moto", "obstore", at_root=True),
    "fsspec-fake-gcs": _remote("fake-gcs", "fsspec"),
    "fsspec-azurite": _remote("azurite", "fsspec"),
    "obstore-azurite": _remote("azurite", "obstore"),
}
BACKENDS: dict[str, Callable[..., Backend]] = {
    "local": lambda folder: _local(folder, durable=True),
    "local-not-durable": lambda folder: _local(folder, durable=False),
    "memory": _memory,
    **REMOTE,
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with mock.patch.dict(os.environ):
        make = BACKENDS[request.param]
        if request.node.get_closest_marker("at_root") and request.param in REMOTE:
            make = partial(make, at_root=True)
        yield make(tmp_path)


@pytest.fixture
def storage(backend: Backend) -> Storage:
    return backend.storage


@pytest.fixture
def oracle(backend: Backend) -> Oracle:
    return backend.oracle
