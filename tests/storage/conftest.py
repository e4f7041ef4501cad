"""The backends of the conformance suite.

A backend plugs in with one entry in ``BACKENDS``: a function that makes a storage, and an oracle
that reads what is really there, never through the code under test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

    def objects(self) -> dict[str, bytes]:
        return self.server.objects(self.bucket)


def _remote(name: str, engine: str) -> Callable[[Path], Backend]:
    def make(folder: Path) -> Backend:
        running = server(name)
        for variable, value in running.environment.items():
            os.environ[variable] = value  # undone by the fixture
        bucket = running.bucket()
        storage = open_storage(f"{running.scheme}://{bucket}", engine=engine, budget=15)
        return Backend(storage, BucketOracle(running, bucket))

    return make


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "local": lambda folder: _local(folder, durable=True),
    "local-not-durable": lambda folder: _local(folder, durable=False),
    "memory": _memory,
    "fsspec-radosgw": _remote("radosgw", "fsspec"),
    "obstore-radosgw": _remote("radosgw", "obstore"),
    "fsspec-moto": _remote("moto", "fsspec"),
    "obstore-moto": _remote("moto", "obstore"),
    "fsspec-fake-gcs": _remote("fake-gcs", "fsspec"),
    "fsspec-azurite": _remote("azurite", "fsspec"),
    "obstore-azurite": _remote("azurite", "obstore"),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with mock.patch.dict(os.environ):
        yield BACKENDS[request.param](tmp_path)


@pytest.fixture
def storage(backend: Backend) -> Storage:
    return backend.storage


@pytest.fixture
def oracle(backend: Backend) -> Oracle:
    return backend.oracle
