"""The local cache: what was read once is not read again, and nothing else is ever different."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.cache.database import Database
from runstore.cache.storage import CachedStorage, cached, default_folder
from runstore.dag import Dag
from runstore.errors import KeyMissingError, StorageError
from runstore.records import keys
from runstore.storage import open_storage
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from runstore.upkeep import pack_run, remove_run
from tests.exploration import SEEDS, reached, reaches, scaled
from tests.planning.generate import dags
from tests.transfer.lives import RUN_ID, invoke, live, told
from tests.upkeep.test_packing import LINE

DAG = Dag.from_json(LINE)
FILE = "v2.sqlite3"


class Bucket(MemoryStorage):
    """Memory whose listings have tags, as those of buckets; it counts the requests."""

    def __init__(self) -> None:
        super().__init__(uuid.uuid4().hex)
        self.asked: Counter[str] = Counter()

    def entries(self, prefix: str) -> Iterator[tuple[str, str]]:
        self.asked["list"] += 1
        for key in super().list(prefix):
            yield key, f'"{hashlib.md5(self._objects[key]).hexdigest()}"'

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        self.asked["list"] += 1
        return super().list(prefix, shallow=shallow)

    def read(self, key: str) -> bytes:
        self.asked["get"] += 1
        return super().read(key)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def at(bucket: Bucket, folder: Path, limit: int = 1 << 30) -> Store:
    """As another process would open it."""
    bucket.asked.clear()
    return Store(CachedStorage(bucket, str(folder), limit))


@reaches(0.3)
@settings(max_examples=scaled(0.4))
@given(dag=dags(), seed=SEEDS, packed=st.booleans())
def test_the_second_time_only_listings_are_asked_for(
    dag: Dag, seed: int, packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, bucket = tmp_path_factory.mktemp("cache"), Bucket()
    run = live(Store(bucket), dag, seed)
    if packed:
        pack_run(run)
    truth = told(run)
    reached(times=len(truth["attempts"]) > 2)
    assert told(at(bucket, folder).get_run(RUN_ID)) == truth
    assert told(at(bucket, folder).get_run(RUN_ID)) == truth
    assert "get" not in bucket.asked
    # What is new is read, and nothing else.
    invoke(run, random.Random(seed), "retry")
    truth = told(run)
    reached(times=len(truth["attempts"]) > 2)
    assert told(at(bucket, folder).get_run(RUN_ID)) == truth
    assert told(at(bucket, folder).get_run(RUN_ID)) == truth
    assert "get" not in bucket.asked


def test_a_plan_is_four_listings(bucket: Bucket, tmp_path: Path) -> None:
    live(Store(bucket), DAG, 3, "r")
    at(bucket, tmp_path).get_run("r").plan()
    store = at(bucket, tmp_path)
    store.get_run("r").plan()
    # Of run.json, packs, invocations, attempts, and, if a record names blobs, of those.
    assert set(bucket.asked) == {"list"}
    assert bucket.asked["list"] <= 5


def test_another_run_under_the_same_id(bucket: Bucket, tmp_path: Path) -> None:
    """Its records have the names of those that are in the cache."""
    for seed in (3, 4, 5):
        run = live(Store(bucket), DAG, seed, "r")
        assert told(at(bucket, tmp_path).get_run("r")) == told(run)
        open_since = at(bucket, tmp_path)
        assert told(open_since.get_run("r")) == told(run)
        remove_run(bucket, "r", force=True)
        again = live(Store(bucket), DAG, seed + 10, "r")
        assert told(open_since.get_run("r")) == told(again)
        assert told(at(bucket, tmp_path).get_run("r")) == told(again)
        remove_run(bucket, "r", force=True)
        with pytest.raises(FileNotFoundError):
            open_since.get_run("r")


def damage(folder: Path, how: Callable[[bytes], bytes]) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(how(file.read_bytes()))


@pytest.mark.parametrize(
    "how",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"half an entry",
        lambda data: data[: len(data) // 2] + b"!" + data[len(data) // 2 + 1 :],
        lambda data: data.replace(b"succeeded", b"succeedeD"),
        lambda data: data[::-1],
        lambda data: data[100:] + data[:100],
        lambda data: b"\0" * len(data),
    ],
    ids=range(9),
)
def test_a_damaged_cache_is_read_again(
    bucket: Bucket, tmp_path: Path, how: Callable[[bytes], bytes]
) -> None:
    run = live(Store(bucket), DAG, 3, "r")
    truth = told(run)
    assert told(at(bucket, tmp_path).get_run("r")) == truth
    damage(tmp_path, how)
    # A page that cannot be read is met half-way, and the file is begun anew with what comes then.
    for _ in range(3):
        assert told(at(bucket, tmp_path).get_run("r")) == truth
    assert "get" not in bucket.asked  # it is whole again


def test_what_stands_in_the_place_of_another_one_is_read_again(
    bucket: Bucket, tmp_path: Path
) -> None:
    """Whole as it is: the records of two attempts, changed round in the file."""
    run = live(Store(bucket), DAG, 3, "r")
    truth = told(at(bucket, tmp_path).get_run("r"))
    with sqlite3.connect(tmp_path / FILE) as database:
        rows = database.execute("SELECT id, data FROM parts ORDER BY id").fetchall()
        for (number, _), (_, data) in zip(rows, [*rows[1:], rows[0]], strict=True):
            database.execute("UPDATE parts SET data = ? WHERE id = ?", (data, number))
    database.close()
    assert len(rows) > 2
    assert told(at(bucket, tmp_path).get_run("r")) == truth == told(run)
    assert bucket.asked["get"] > 2


def test_nothing_that_is_damaged_in_the_store_is_kept(bucket: Bucket, tmp_path: Path) -> None:
    run = live(Store(bucket), DAG, 3, "r")
    key = next(key for key in bucket._objects if key.endswith(".end.json"))
    for pack in [key for key in bucket._objects if "/packs/" in key]:
        bucket.remove([pack])
    whole = bucket._objects[key]
    bucket._objects[key] = whole[:-1]
    assert told(at(bucket, tmp_path).get_run("r"))["damaged"] == [key]
    assert told(at(bucket, tmp_path).get_run("r"))["damaged"] == [key]
    assert bucket.asked["get"] > 0
    bucket._objects[key] = whole
    assert told(at(bucket, tmp_path).get_run("r")) == told(run)


def test_artifacts_are_fetched_once(bucket: Bucket, tmp_path: Path) -> None:
    run = Store(bucket).create_run(DAG, run_id="r")
    data = os.urandom(3_000_000)
    blob = run.blobs.put(data)
    for count in range(3):
        store = at(bucket, tmp_path / "cache")
        target = tmp_path / f"{count}"
        store.get_run("r").blobs.copy_to(blob, str(target))
        assert target.read_bytes() == data
        assert bucket.asked["get"] == (2 if count == 0 else 0)  # run.json, and the blob
    (file,) = (tmp_path / "cache").iterdir()
    kept = file.read_bytes()
    at_ = kept.index(data[1_000_000:1_000_100])
    file.write_bytes(kept[:at_] + b"!!" + kept[at_ + 2 :])
    assert at(bucket, tmp_path / "cache").get_run("r").blobs.read(blob) == data
    # Read in part: nothing is kept.
    file.unlink()
    with at(bucket, tmp_path / "cache").storage.stream(run.blobs.key(blob.sha256)) as source:
        assert source.read(10) == data[:10]
    assert names(tmp_path / "cache") == set()


def names(folder: Path) -> set[str]:
    """What is kept, by the last part of its key."""
    with sqlite3.connect(folder / FILE) as database:
        found = {key.rpartition("/")[2] for (key,) in database.execute("SELECT key FROM objects")}
    database.close()
    return found


def test_it_is_bounded_and_the_oldest_go(bucket: Bucket, tmp_path: Path) -> None:
    run = Store(bucket).create_run(DAG, run_id="r")
    blobs = [run.blobs.put(os.urandom(100_000)) for _ in range(40)]
    limit = 1_000_000
    for blob in blobs:
        store = at(bucket, tmp_path, limit)
        store.get_run("r").blobs.read(blobs[0])  # used all the time
        store.get_run("r").blobs.read(blob)
        size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
        assert size <= limit
        # As if an hour had passed: more often it is not written down that something was used.
        with sqlite3.connect(tmp_path / FILE) as database:
            database.execute("UPDATE objects SET used = used - 4000")
        database.close()
    kept = names(tmp_path)
    assert {blobs[0].sha256, blobs[-1].sha256} <= kept
    assert blobs[1].sha256 not in kept
    too_large = run.blobs.put(os.urandom(600_000))
    assert at(bucket, tmp_path, limit).get_run("r").blobs.read(too_large)
    with at(bucket, tmp_path, limit).storage.stream(run.blobs.key(too_large.sha256)) as source:
        assert len(source.read()) == 600_000
    assert too_large.sha256 not in names(tmp_path)


@pytest.mark.parametrize("how", ["file", "denied", "full"])
def test_a_cache_that_cannot_be_written_harms_nobody(
    bucket: Bucket, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = live(Store(bucket), DAG, 3, "r")
    blob = run.blobs.put(b"x" * 100)
    folder = tmp_path / "cache"
    if how == "file":
        folder.write_bytes(b"")
    if how == "full":  # what SQLite is told by a disk without room: the file takes a few pages more
        opened = Database._open

        def small(database: Database) -> sqlite3.Connection:
            connection = opened(database)
            connection.execute("PRAGMA max_page_count = 8")
            return connection

        monkeypatch.setattr(Database, "_open", small)
    store = at(bucket, folder)
    refuse: Callable[..., object] = mock.Mock(side_effect=OSError(28, "No space left on device"))
    patches = {"file": {}, "denied": {"makedirs": refuse}, "full": {}}[how]
    with contextlib.ExitStack() as stack:
        for name, mocked in patches.items():
            stack.enter_context(mock.patch(f"runstore.cache.database.os.{name}", mocked))
        assert told(store.get_run("r")) == told(run)
        with store.storage.stream(run.blobs.key(blob.sha256)) as source:
            assert source.read() == b"x" * 100
        assert told(store.get_run("r")) == told(run)


def test_processes_and_threads_share_it(bucket: Bucket, tmp_path: Path) -> None:
    run = live(Store(bucket), DAG, 3, "r")
    truth = told(run)
    pid = os.fork()
    shared = at(bucket, tmp_path)
    if not pid:
        ok = all(told(shared.get_run("r")) == truth for _ in range(5))
        os._exit(0 if ok else 1)
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(told(shared.get_run("r")) == truth))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6
    assert os.waitpid(pid, 0)[1] == 0
    assert told(at(bucket, tmp_path).get_run("r")) == truth
    pid = os.fork()  # and one that is open when it forks
    if not pid:
        os._exit(0 if told(shared.get_run("r")) == truth else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_only_remote_storages_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (str(tmp_path / "s"), "memory://x"):
        storage = open_storage(url)
        assert cached(storage) is storage
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == str(tmp_path / "runstore")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/x")
    assert default_folder() == "/home/x/.cache/runstore"


def test_who_may_not_list_may_read(bucket: Bucket, tmp_path: Path) -> None:
    live(Store(bucket), DAG, 3, "r")
    store = at(bucket, tmp_path)
    refused = StorageError("no", answer="refused")
    with mock.patch.object(bucket, "entries", side_effect=refused):
        assert store.get_run("r").run_id == "r"
    away = mock.patch.object(bucket, "entries", side_effect=StorageError("away"))
    with away, pytest.raises(StorageError, match="away"):
        store.get_run("r")
    with pytest.raises(KeyMissingError):
        store.storage.read(keys.run_key("other"))
