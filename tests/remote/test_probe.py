"""An endpoint that ignores the condition is refused by name, before a store is made there."""

from __future__ import annotations

import importlib.metadata
import pickle
import threading
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import runstore
from runstore.errors import AttemptTakenError, KeyExistsError, StorageError
from runstore.storage import has_single_writer, open_storage
from runstore.storage.probe import probe
from runstore.store.marker import heed_marker
from runstore.transfer import transfer_run
from runstore.upkeep.doctor import examine
from tests.places import prefix
from tests.remote.conftest import enter
from tests.servers import server

DAG = runstore.Dag.from_json({"nodes": [{"name": "a", "kind": "task"}]})


class LooksFirst(MemoryFileSystem):
    """As sftp, ftp and others are: no create of their own."""

    protocol = "looksfirst"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    pipe_file = fsspec.AbstractFileSystem.pipe_file

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).replace("looksfirst://", "memory://"))


class Exclusive(LooksFirst):
    """One that nobody has heard of, and that creates as it should."""

    protocol = "exclusive"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).replace("exclusive://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with self.lock:
            if mode == "create" and self.exists(path):
                raise FileExistsError(path)
            super().pipe_file(path, value, **kwargs)


@pytest.fixture
def rclone(monkeypatch):
    running = server("rclone")
    enter(monkeypatch, running)
    return running


def test_a_real_server_passes_and_the_marker_is_plain(radosgw, engine):
    bucket = radosgw.bucket()
    store = runstore.open_store(f"s3://{bucket}/x", engine=engine)
    store.create_run(DAG, run_id="r")
    assert store.marker().single_writer is False
    objects = radosgw.objects(bucket)
    probes = [name for name in objects if name.startswith("x/probe/")]
    assert len(probes) == 1
    assert objects[probes[0]].startswith(b"first")
    store.create_run(DAG, run_id="r2")
    assert len(radosgw.objects(bucket)) == len(objects) + 1, "one store is tried out once"


def test_a_server_that_ignores_the_condition_is_refused_by_name(rclone, engine):
    bucket = rclone.bucket()
    assert not probe(open_storage(f"s3://{bucket}", engine=engine)).exclusive
    store = runstore.open_store(f"s3://{bucket}/x", engine=engine)
    with pytest.raises(StorageError, match=f"s3://{bucket}/x.*single_writer=True"):
        store.create_run(DAG, run_id="r")
    assert not [name for name in rclone.objects(bucket) if "runstore.json" in name]


def test_a_single_writer_is_allowed_and_still_looks_first(rclone, engine):
    bucket = rclone.bucket()
    store = runstore.open_store(f"s3://{bucket}/x", engine=engine, single_writer=True)
    run = store.create_run(DAG, run_id="r")
    run.begin("a").succeed()
    assert runstore.open_store(f"s3://{bucket}/x", engine=engine).marker().single_writer is True
    storage = store.storage
    storage.create("k", b"1")
    storage.create("k", b"1")
    with pytest.raises(KeyExistsError):
        storage.create("k", b"2")
    assert storage.read("k") == b"1"


def test_the_promise_is_remembered_by_the_run_and_by_the_store(rclone, engine):
    bucket = rclone.bucket()
    url = f"s3://{bucket}/x"
    runstore.open_store(url, engine=engine, single_writer=True).create_run(DAG, run_id="r")
    later = runstore.open_store(url, engine=engine).get_run("r")
    zombie = runstore.open_store(url, engine=engine).get_run("r")
    later.begin_invocation("retry")
    attempt = later.begin("a")
    zombie.join(later.invocation)
    with pytest.raises(AttemptTakenError):
        zombie.begin("a", number=1, consumed=attempt.start.consumed)
    attempt.succeed()
    store = runstore.open_store(url, engine=engine)
    store.create_run(DAG, run_id="r2")
    with pytest.raises(KeyExistsError):
        store.storage.create("runs/r2/run.json", b"other")
    pickled = pickle.loads(pickle.dumps(later.storage))
    with pytest.raises(KeyExistsError):
        pickled.create("runs/r2/run.json", b"other")


def options(running):
    return {
        "endpoint_url": running.endpoint,
        "key": running.environment["AWS_ACCESS_KEY_ID"],
        "secret": running.environment["AWS_SECRET_ACCESS_KEY"],
    }


def test_a_run_that_was_moved_takes_no_promise_along(rclone, radosgw, engine):
    there = f"s3://{rclone.bucket()}/x"
    alone = runstore.open_store(
        there, engine=engine, single_writer=True, storage_options=options(rclone)
    )
    alone.create_run(DAG, run_id="moved")
    url = f"s3://{radosgw.bucket()}/x"
    target = runstore.open_store(url, engine=engine, storage_options=options(radosgw))
    transfer_run(alone, "moved", target)
    target.get_run("moved")
    assert not has_single_writer(target.storage), "its own marker says nothing of the kind"
    assert target.create_run(DAG, run_id="new").record.single_writer is False


def test_a_retry_takes_the_promise_from_the_marker(rclone, engine, tmp_path):
    here = runstore.open_store(str(tmp_path))
    here.create_run(DAG, run_id="moved")
    url = f"s3://{rclone.bucket()}/x"
    transfer_run(here, "moved", runstore.open_store(url, engine=engine, single_writer=True))
    store = runstore.open_store(url, engine=engine)
    heed_marker(store.storage)
    run = store.get_run("moved")
    run.begin_invocation("retry")
    run.begin("a").succeed()
    with pytest.raises(KeyExistsError):
        store.storage.create(
            prefix(store.storage, "moved") + "attempts/a.000001.end.json", b"other"
        )


def test_a_file_system_that_looks_and_then_writes_is_refused_by_name(tmp_path):
    # fsspec's generic create passes every probe that does not race.
    url = "looksfirst://store/x"
    fsspec.register_implementation("looksfirst", LooksFirst, clobber=True)
    store = runstore.open_store(url)
    with pytest.raises(StorageError, match=r"LooksFirst.*looks, then writes.*single_writer=True"):
        store.create_run(DAG, run_id="r")
    assert LooksFirst.store == {}
    alone = runstore.open_store(url, single_writer=True)
    alone.create_run(DAG, run_id="r").begin("a").succeed()
    assert alone.marker().single_writer is True
    assert list(alone.run_ids()) == ["r"]
    assert alone.get_run("r").history().last_number("a") == 1


def test_any_other_file_system_that_passes_is_a_store_like_others():
    fsspec.register_implementation("exclusive", Exclusive, clobber=True)
    store = runstore.open_store("exclusive://store/x")
    run = store.create_run(DAG, run_id="r")
    run.begin("a").succeed()
    assert store.marker().single_writer is False
    again = runstore.open_store("exclusive://store/x").get_run("r")
    assert again.plan().status == "succeeded"
    with pytest.raises(KeyExistsError):
        store.storage.create("runs/r/run.json", b"other")


def test_the_doctor_finds_a_good_place_good(radosgw, engine):
    found = {each.name: each for each in examine(f"s3://{radosgw.bucket()}/x", engine=engine)}
    assert set(found) == {"engine", "create", "exclusive", "read", "list", "clock"}
    assert all(each.ok is not False for each in found.values()), found
    assert found["engine"].facts["engine"] == engine
    client = {"fsspec": "s3fs", "obstore": "obstore"}[engine]
    for package in (client, "runstore"):
        version = importlib.metadata.version(package)
        assert found["engine"].facts["versions"][package] == version
        assert f"{package} {version}" in found["engine"].detail
    assert found["read"].facts["milliseconds"] > 0
    assert abs(found["clock"].facts["seconds"]) < 3


def test_the_doctor_names_what_is_wrong(rclone, engine):
    found = {each.name: each for each in examine(f"s3://{rclone.bucket()}/x", engine=engine)}
    assert found["exclusive"].ok is False
    assert "single_writer=True" in found["exclusive"].detail
    (_, last) = examine(f"s3://no-such-{rclone.bucket()}/x", engine=engine, budget=2)
    assert last.ok is False


def test_the_doctor_looks_at_local_disks_too(tmp_path):
    found = {each.name: each.ok for each in examine(tmp_path)}
    assert set(found) >= {"engine", "create", "exclusive", "read", "list"}
    assert False not in found.values()
    (last,) = examine("nothing://x")
    assert last.ok is False
