"""The options of fsspec's family mean the same with obstore, or are refused by name."""

from __future__ import annotations

import json
import os

import pytest

from runstore.errors import StorageError
from runstore.storage import open_storage
from runstore.storage.engines import _choose
from runstore.storage.obstore_options import Untranslatable, translate
from runstore.storage.url import parse_address

pytest.importorskip("obstore")
S3, GS, AZ = (parse_address(url) for url in ("s3://b/x", "gs://b/x", "az://b/x"))
KEYS = {"key": "k", "secret": "s"}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_", "FSSPEC_", "REQUESTS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({**KEYS, "endpoint_url": "https://e"}, {"endpoint": "https://e", "access_key_id": "k"}),
        ({**KEYS, "client_kwargs": {"endpoint_url": "https://e"}}, {"endpoint": "https://e"}),
        ({**KEYS, "client_kwargs": {"region_name": "r"}}, {"region": "r"}),
        ({**KEYS, "token": "t", "endpoint_url": "https://e"}, {"session_token": "t"}),
        ({"username": "k", "password": "s", "endpoint_url": "https://e"}, {"access_key_id": "k"}),
        ({"anon": True, "endpoint_url": "https://e"}, {"skip_signature": True}),
        (
            {**KEYS, "endpoint_url": "https://e", "s3_additional_kwargs": {
                "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "id"}},
            {"server_side_encryption": "aws:kms", "sse_kms_key_id": "id"},
        ),
        (
            {**KEYS, "endpoint_url": "https://e",
             "config_kwargs": {"s3": {"addressing_style": "virtual"}, "max_pool_connections": 9}},
            {"virtual_hosted_style_request": True},
        ),
        ({**KEYS, "endpoint_url": "https://e", "default_block_size": 9, "max_concurrency": 3}, {}),
    ],
)  # fmt: skip
def test_options_of_s3fs(options, config):
    found = translate(S3, options).config
    assert {name: found[name] for name in config} == config
    assert found["conditional_put"] == "etag"


@pytest.mark.parametrize(
    ("address", "options", "named"),
    [
        (S3, {**KEYS, "endpoint_url": "https://e", "session": object()}, "session"),
        (S3, {**KEYS, "endpoint_url": "https://e", "config_kwargs": {"proxies": {}}}, "proxies"),
        (S3, {**KEYS, "endpoint_url": "https://e", "client_kwargs": {"x": 1}}, "x"),
        (S3, KEYS, "region"),
        (S3, {**KEYS, "endpoint_url": "https://e", "use_ssl": False}, "use_ssl"),
        (GS, {"token": "browser"}, "browser"),
        (GS, {"requester_pays": True}, "requester_pays"),
        (GS, {"endpoint_url": "http://e"}, "emulators"),
        (AZ, {"account_name": "a"}, "credentials"),
        (AZ, {"account_name": "a", "account_key": "k", "credential": object()}, "credential"),
    ],
)
def test_what_has_no_counterpart_is_named_or_left_to_fsspec(address, options, named):
    with pytest.raises(StorageError, match=named) as raised:
        open_storage(address.url, storage_options=options, engine="obstore")
    assert 'engine="fsspec"' in str(raised.value)
    assert _choose(address, options, None) == "fsspec"


def test_the_environment_of_aws(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general")
    found = translate(S3, {})
    assert found.config["endpoint"] == "http://general"
    assert found.client["allow_http"] is True
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://special")
    assert translate(S3, {}).config["endpoint"] == "https://special"
    assert translate(S3, KEYS).config["access_key_id"] == "k"
    assert _choose(S3, {}, None) == "obstore"


def test_a_profile_is_read_as_s3fs_reads_it(monkeypatch, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        "[profile lab]\nregion = r1\nendpoint_url = http://lab\n"
        "aws_access_key_id = pk\naws_secret_access_key = ps\n"
    )
    found = translate(S3, {"profile": "lab"})
    assert (found.config["endpoint"], found.config["region"]) == ("http://lab", "r1")
    assert found.credentials is not None
    assert found.credentials()["access_key_id"] == "pk"
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert translate(S3, {}).config["endpoint"] == "http://lab"
    with pytest.raises(Untranslatable, match="profile"):
        translate(S3, {"profile": "nobody"})


def test_settings_of_fsspec_are_never_dropped(monkeypatch, tmp_path):
    options = {**KEYS, "endpoint_url": "https://e"}
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", "http://x")
    assert _choose(S3, options, None) == "fsspec"
    monkeypatch.delenv("FSSPEC_S3_ENDPOINT_URL")
    monkeypatch.setenv("FSSPEC_CONFIG_DIR", str(tmp_path))
    (tmp_path / "conf.json").write_text("{}")
    assert _choose(S3, options, None) == "fsspec"


def test_options_of_gcsfs_and_adlfs(monkeypatch, tmp_path):
    assert translate(GS, {"token": "anon"}).config == {"skip_signature": True}
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": "service_account"}))
    assert translate(GS, {"token": str(file)}).config == {"application_credentials": str(file)}
    file.write_text(json.dumps({"type": "external_account"}))
    with pytest.raises(Untranslatable, match="federation"):
        translate(GS, {"token": str(file)})
    found = translate(AZ, {"account_name": "a", "account_key": "k"}).config
    assert found == {"account_name": "a", "account_key": "k"}
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=n;AccountKey=k==;")
    assert translate(AZ, {}).config == {"account_name": "n", "account_key": "k=="}
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    url = "abfss://box@acc.dfs.core.windows.net/x"
    assert translate(parse_address(url), {"sas_token": "?s"}).config["account_name"] == "acc"
