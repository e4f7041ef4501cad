"""Who has no credentials is told so, and what to do, whichever client it is."""

from __future__ import annotations

import pytest

import runstore
from runstore.errors import StorageError


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_none_at_all(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    nowhere = {"endpoint_url": "http://127.0.0.1:9"}
    store = runstore.open_store("s3://bucket/x", engine=engine, storage_options=nowhere)
    with pytest.raises(StorageError, match=r"no credentials were found.*AWS_PROFILE.*anon=true"):
        list(store.run_ids())
