"""An AWS profile is all that a user needs to give, whichever engine serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from runstore.storage import open_storage
from tests.servers import Server


def test_a_profile_says_where_and_who(
    radosgw: Server, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = (radosgw.environment[f"AWS_{x}"] for x in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    (tmp_path / "config").write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = {radosgw.endpoint}\n"
    )
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    )
    for name in radosgw.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    bucket = radosgw.bucket()
    by_option = open_storage(
        f"s3://{bucket}/x", engine=engine, storage_options={"profile": "lab"}, budget=5
    )
    by_option.create("a", b"1")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    by_environment = open_storage(f"s3://{bucket}/x", engine=engine, budget=5)
    by_environment.create("b", b"2")
    assert radosgw.objects(bucket) == {"x/a": b"1", "x/b": b"2"}
