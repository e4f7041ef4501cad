"""A store that is closed: what it kept open is let go, and it opens again, but for a file."""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path

import pytest

import runstore
from runstore.cache.storage import CachedStorage
from runstore.errors import StorageError
from runstore.records import Consumed
from runstore.store import Store
from runstore.transfer import export_run
from tests.upkeep.test_cache import DAG, Bucket, live


def opened(path: Path) -> list[str]:
    """The descriptors of this process that lead to a file, by the kernel."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{each}"))
        except FileNotFoundError:
            continue
    return [name for name in found if name == str(path)]


def test_an_exported_file_is_closed_for_good(tmp_path: Path) -> None:
    here = runstore.open_store(tmp_path / "s", durable=False)
    run = here.create_run(DAG, run_id="r")
    blob = run.blobs.put(os.urandom(3_000_000))
    attempt = run.begin(next(iter(run.plan().ready)), consumed=Consumed())
    attempt.save_bytes("file", run.blobs.read(blob))
    attempt.fail("so that there is an end")
    export_run(run, tmp_path / "r.json", artifacts="all")
    with runstore.open_store(tmp_path / "r.json") as store:
        assert store.get_run("r").run_id == "r"
        source = store.storage.stream(store.get_run("r").blobs.key(blob.sha256))
        assert source.read(10)
        assert opened(tmp_path / "r.json")
    assert not opened(tmp_path / "r.json")
    with pytest.raises(StorageError, match="was closed: open it again"):
        store.get_run("r")
    with pytest.raises(StorageError, match="was closed"):
        source.read()
    store.close()  # again


def test_a_folder_and_memory_have_nothing_to_close(tmp_path: Path) -> None:
    for url in (str(tmp_path / "s"), f"memory://{tmp_path}"):
        with runstore.open_store(url) as store:
            store.create_run(DAG, run_id="r")
        assert store.get_run("r").run_id == "r"


def test_the_cache_is_closed_and_opens_again(tmp_path: Path) -> None:
    bucket = Bucket()
    live(Store(bucket), DAG, 3, "r")
    file = tmp_path / "v2.sqlite3"
    with Store(CachedStorage(bucket, str(tmp_path))) as store:
        store.get_run("r").plan()
        assert opened(file)
    assert not opened(file)
    bucket.asked.clear()
    store.get_run("r").plan()
    assert "get" not in bucket.asked, "what was read is kept"


def test_a_cache_that_nobody_closes_is_closed_with_its_storage(tmp_path: Path) -> None:
    """Python 3.13 warns of a connection that is not."""
    bucket = Bucket()
    live(Store(bucket), DAG, 3, "r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store(CachedStorage(bucket, str(tmp_path))).get_run("r").plan()
        gc.collect()
    assert not opened(tmp_path / "v2.sqlite3")
