"""`Dated.info`: what it says of an object, and how it tells one object of a key from another."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from runstore.cache.storage import CachedStorage
from runstore.errors import KeyMissingError, StorageError
from runstore.storage import Storage
from runstore.storage.capabilities import Dated, Removing, Tagged
from runstore.storage.local import LocalStorage

_TICK = 0.03
"""Longer than a file system takes for one moment."""


def test_the_version_of_an_object_stays_and_that_of_another_one_differs(storage: Storage) -> None:
    assert isinstance(storage, Dated)
    assert isinstance(storage, Removing)
    storage.create("runs/k/run.json", b"first")
    first = storage.info("runs/k/run.json")
    assert first.size == 5
    assert first.version
    storage.create("runs/k/run.json", b"first")  # nothing is made
    assert storage.info("runs/k/run.json").version == first.version
    time.sleep(_TICK)
    storage.remove(["runs/k/run.json"])
    with pytest.raises(KeyMissingError):
        storage.info("runs/k/run.json")
    storage.create("runs/k/run.json", b"other")
    assert storage.info("runs/k/run.json").version not in ("", first.version)


def test_a_repaired_object_has_another_version(storage: Storage) -> None:
    assert isinstance(storage, Dated)
    storage.create("blobs/x", b"damaged")
    before = storage.info("blobs/x").version
    time.sleep(_TICK)
    storage.create("blobs/x", b"damages", repair=True)
    assert storage.info("blobs/x").version != before


def test_what_is_no_key_has_no_info(storage: Storage) -> None:
    assert isinstance(storage, Dated)
    with pytest.raises(StorageError, match="not a key"):
        storage.info("../x")
    with pytest.raises(KeyMissingError):
        storage.info("x")


def test_a_cache_asks_for_the_version_anew(storage: Storage, tmp_path: Path) -> None:
    if not isinstance(storage, Tagged):
        return  # it has no cache
    cache = CachedStorage(storage, str(tmp_path / "cache"))
    assert isinstance(storage, Removing)
    storage.create("runs/k/run.json", b"first")
    before = cache.info("runs/k/run.json").version
    storage.remove(["runs/k/run.json"])
    storage.create("runs/k/run.json", b"other")
    assert cache.info("runs/k/run.json").version != before


def test_a_backup_that_links_and_a_change_of_mode_make_no_other_object(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")
    storage.create("a/b", b"1")
    before = storage.info("a/b").version
    subprocess.run(["cp", "-al", tmp_path / "store", tmp_path / "backup"], check=True)
    os.chmod(tmp_path / "store/a/b", 0o640)
    assert storage.info("a/b").version == before


def test_the_same_bytes_made_again_on_a_disk_are_another_object(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")
    seen = set()
    for _ in range(5):  # the file system gives one inode again and again
        storage.create("a/b", b"1")
        seen.add(storage.info("a/b").version)
        storage.remove(["a/b"])
        time.sleep(_TICK)
    assert len(seen) == 5
