"""Which URLs open which storage, and what is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runstore.errors import StorageError
from runstore.storage import open_storage


def test_a_url_opens_its_own_store_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("store", Path("store"), f"file://{tmp_path}/store", f"{tmp_path}/x/../store/"):
        storage = open_storage(place)
        assert storage.url == f"{tmp_path}/store"
        assert storage.durable is True
    assert not os.path.exists("store"), "opening touches nothing"
    assert open_storage("store", durable=False).durable is False
    assert open_storage(storage.url).url == storage.url

    memory = open_storage("memory://some/name")
    memory.create("a", b"1")
    assert open_storage(memory.url).read("a") == b"1"
    assert open_storage("memory://other").url != memory.url
    assert memory.durable is False


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///x", "gs://", "simplecache::s3://b", "s3://b/x::y", "s3://b/a//b", "s3://b/../x",
     "s3://b/x?y", "s3://b/[x]", "local://x", "nothing://b/x", "file://x", "memory://", "",
     Path("s3://bucket"), "file:/x"],
)  # fmt: skip
def test_other_urls_are_refused_and_no_folder_is_named_after_them(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError) as raised:
        open_storage(url)
    assert raised.value.url == os.fspath(url)
    assert os.listdir() == []


def test_importing_the_seam_loads_no_backend():
    code = "import sys, runstore.storage; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "runstore.storage" in loaded
    assert not loaded & {"fsspec", "s3fs", "asyncio", "runstore.storage.local"}


REMOTE = {"fsspec", "s3fs", "asyncio", "obstore", "botocore", "aiobotocore", "gcsfs", "adlfs"}


def _loaded(code: str, **environment: str) -> set[str]:
    code += "; import sys; print(*sys.modules)"
    env = {**os.environ, **environment}
    return set(subprocess.check_output([sys.executable, "-c", code], text=True, env=env).split())


def test_a_local_store_loads_nothing_remote(tmp_path):
    loaded = _loaded(f"import runstore; runstore.open_store({str(tmp_path)!r}).storage.list('')")
    assert "runstore.storage.local" in loaded
    assert not loaded & {*REMOTE, "runstore.storage.remote", "runstore.storage.engines"}


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_opening_a_remote_store_asks_nobody_and_loads_no_client(engine):
    code = f"import runstore; runstore.open_store('s3://bucket/x', engine={engine!r})"
    loaded = _loaded(code, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_REGION="r")
    assert "runstore.storage.remote" in loaded
    assert not loaded & REMOTE


def test_local_stores_take_no_remote_options(tmp_path):
    with pytest.raises(StorageError, match="storage_options"):
        open_storage(tmp_path, storage_options={"key": "x"})
    with pytest.raises(StorageError, match="engine"):
        open_storage("memory://x", engine="obstore")


def test_engines_are_two():
    with pytest.raises(StorageError, match=r"'boto'.*fsspec, obstore"):
        open_storage("s3://b/x", engine="boto")
    with pytest.raises(StorageError, match="serves s3, gs and az"):
        open_storage("http://b/x", engine="obstore")
