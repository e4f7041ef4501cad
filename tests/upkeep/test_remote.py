"""Care and the cache on servers: requests are counted below the protocol of retries."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runstore.cache.storage import cached
from runstore.dag import Dag
from runstore.errors import RunNotFoundError
from runstore.storage import open_storage
from runstore.storage.capabilities import Removing, Tagged
from runstore.storage.remote import RemoteStorage
from runstore.store import Store
from runstore.upkeep import Sweep, pack_run, remove_run
from tests.servers import server
from tests.transfer.lives import live, told
from tests.upkeep.test_packing import LINE, records

DAG = Dag.from_json(LINE)
ENGINES = [
    ("moto", "fsspec"), ("moto", "obstore"), ("radosgw", "obstore"), ("fake-gcs", "fsspec"),
    ("azurite", "fsspec"),
]  # fmt: skip


class Counted:
    """An engine that counts."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name not in ("judge", "name", "concurrency", "versions"):
            self.asked[name] += 1
        return getattr(self.engine, name)


@pytest.fixture(params=ENGINES, ids="-".join)
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RemoteStorage:
    name, engine = request.param
    running = server(name)
    for variable, value in running.environment.items():
        monkeypatch.setenv(variable, value)
    url = f"{running.scheme}://{running.bucket()}/store"
    made = open_storage(url, engine=engine, budget=15)
    assert isinstance(made, RemoteStorage)
    return made


def test_the_second_plan_asks_for_listings_only(storage: RemoteStorage, tmp_path: Path) -> None:
    truth = told(live(Store(storage), DAG, 3, "r"))
    for first in (True, False):
        opened: Any = pickle.loads(pickle.dumps(cached(storage, str(tmp_path))))
        opened.storage._engine = calls = Counted(opened.storage.engine)
        store = Store(opened)
        assert told(store.get_run("r")) == truth
        assert first or set(calls.asked) == {"entries"}
        if not first:
            calls.asked.clear()
            store.get_run("r").plan()
            assert calls.asked["entries"] <= 5  # run.json, three of a history, blobs


def test_tags_tell_contents_apart(storage: RemoteStorage) -> None:
    assert isinstance(storage, Tagged)
    storage.create("runs/a/blobs/x", b"one")
    (before,) = storage.entries("runs/a/")
    assert before[0] == "runs/a/blobs/x"
    assert before[1]
    assert list(storage.entries("runs/a/")) == [before]
    storage.create("runs/a/blobs/x", b"two", repair=True)
    assert next(storage.entries("runs/a/"))[1] != before[1]


def test_remove(storage: RemoteStorage) -> None:
    assert isinstance(storage, Removing)
    for number in range(40):
        storage.create(f"runs/a/{number}", b"x")
    storage.remove([])
    storage.remove([f"runs/a/{number}" for number in range(1, 60)])
    assert list(storage.list("")) == ["runs/a/0"]


def test_rm_gc_and_pack(storage: RemoteStorage) -> None:
    store = Store(storage)
    run = live(store, DAG, 3, "r")
    truth, digests = told(run), records(storage, "r")
    pack_run(run)
    assert records(storage, "r") == digests
    assert told(run) == truth
    live(store, DAG, 4, "gone")
    storage.remove(["runs/gone/run.json"])
    assert list(Sweep(storage).run(dry_run=False)) == []  # all of it is young
    time.sleep(2.1)
    found = list(Sweep(storage, timedelta(seconds=1)).run(dry_run=False))
    assert {each.what for each in found} == {
        "of a run that is not there", "left by a probe of the endpoint"
    }  # fmt: skip
    assert all(key.startswith(("runs/r/", "runstore.json")) for key in storage.list(""))
    assert told(run) == truth
    assert remove_run(storage, "r", force=True)
    assert list(storage.list("")) == ["runstore.json"]
    with pytest.raises(RunNotFoundError):
        store.get_run("r")
