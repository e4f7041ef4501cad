"""The options of s3fs, gcsfs and adlfs, in the words of obstore.

Whoever moves from one engine to the other changes nothing. What has no counterpart is named in
`Untranslatable`: it must never be dropped in silence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from runstore.storage.url import Address

__all__ = ["Translated", "Untranslatable", "translate"]


class Untranslatable(Exception):  # noqa: N818 - says what it says of an option; caught at once
    """``str()`` names the option and its meaning."""


class Translated(NamedTuple):
    """What the stores of obstore take: ``S3Store(bucket, config=..., client_options=...)``."""

    config: dict[str, Any]
    client: dict[str, Any]
    credentials: Callable[[], dict[str, Any]] | None = None


# They tune what fsspec does in its own process, and mean nothing here.
_TUNING = {
    "asynchronous", "batch_size", "blocksize", "block_size", "cache_regions", "cache_timeout",
    "check_connection", "consistency", "default_block_size", "default_cache_type",
    "default_fill_cache", "fixed_upload_size", "listings_expiry_time", "loop", "max_concurrency",
    "max_paths", "requests_timeout", "skip_instance_cache", "use_listings_cache", "version_aware",
}  # fmt: skip


def translate(address: Address, options: Mapping[str, Any]) -> Translated:
    """Raises `Untranslatable`. Reads the environment, and the AWS profile files if they matter."""
    family = {"s3": "S3", "gs": "GS", "az": "AZ"}[address.family]
    for name in os.environ:
        if name.upper().startswith((f"FSSPEC_{family}", f"FSSPEC_{address.scheme.upper()}")):
            raise Untranslatable(f"it does not read the setting {name}")
    folder = os.environ.get("FSSPEC_CONFIG_DIR") or os.path.expanduser("~/.config/fsspec")
    if os.path.isdir(folder) and any(
        name.endswith((".json", ".ini")) for name in os.listdir(folder)
    ):
        raise Untranslatable(f"it does not read the settings in {folder}")
    given = {
        name: value for name, value in options.items() if value is not None and name not in _TUNING
    }
    translated = {"s3": _s3, "gs": _gs, "az": _az}[address.family](address, given)
    if given:
        raise Untranslatable(f"the option {min(given)!r} has no counterpart there")
    return translated


def _take(given: dict[str, Any], *names: str) -> Any:
    """The first of the options that was given; all of them count as understood."""
    found = [given.pop(name, None) for name in names]
    return next((value for value in found if value is not None), None)


def _s3(address: Address, given: dict[str, Any]) -> Translated:
    if ":" in address.bucket:
        raise Untranslatable("it takes no access point for a bucket")
    more = dict(_take(given, "client_kwargs") or {})
    botocore = dict(_take(given, "config_kwargs") or {})
    config: dict[str, Any] = {"conditional_put": "etag"}
    client: dict[str, Any] = {}
    environment = os.environ
    key = _take(given, "key", "username") or _take(more, "aws_access_key_id")
    secret = _take(given, "secret", "password") or _take(more, "aws_secret_access_key")
    token = _take(given, "token") or _take(more, "aws_session_token")
    profile = _take(given, "profile")
    endpoint = (
        _take(given, "endpoint_url")
        or _take(more, "endpoint_url")
        or environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
    )
    region = (
        _take(more, "region_name")
        or environment.get("AWS_DEFAULT_REGION")
        or environment.get("AWS_REGION")
    )
    if key is None and profile is None:
        key = environment.get("AWS_ACCESS_KEY_ID")
        secret = environment.get("AWS_SECRET_ACCESS_KEY")
        token = environment.get("AWS_SESSION_TOKEN")
    anonymous = bool(_take(given, "anon"))
    credentials = None
    if profile or _profiles_matter(key or anonymous, region or endpoint):
        found = _Profile(profile)
        endpoint, region = endpoint or found.endpoint, region or found.region
        if not key and not anonymous:
            credentials = found.credentials()
    if anonymous:
        config["skip_signature"] = True
    elif key:
        config |= {"access_key_id": key, "secret_access_key": secret}
        if token:
            config["session_token"] = token
    if endpoint:
        config["endpoint"] = endpoint
    elif not region:
        raise Untranslatable("no region is set, and it cannot find that of the bucket")
    config["region"] = region or "us-east-1"
    style = _take(botocore.pop("s3", None) or {}, "addressing_style")
    if style == "virtual":
        config["virtual_hosted_style_request"] = True
    if _take(given, "use_ssl") is False and not str(endpoint).startswith("http://"):
        raise Untranslatable("use_ssl=False goes by the endpoint there: write http:// in it")
    if _take(given, "requester_pays"):
        config["request_payer"] = True
    encryption = dict(_take(given, "s3_additional_kwargs") or {})
    if kind := encryption.pop("ServerSideEncryption", None):
        config["server_side_encryption"] = kind
    if kms := encryption.pop("SSEKMSKeyId", None):
        config["sse_kms_key_id"] = kms
    verify = _take(more, "verify")
    bundle = environment.get("AWS_CA_BUNDLE") or environment.get("REQUESTS_CA_BUNDLE")
    if verify is False:
        client["allow_invalid_certificates"] = True
    elif isinstance(verify, str) or bundle:
        client["root_certificate"] = _contents(verify if isinstance(verify, str) else str(bundle))
    for name in ("max_pool_connections", "retries", "connect_timeout", "read_timeout"):
        botocore.pop(name, None)
    if botocore.get("signature_version") == "s3v4":
        botocore.pop("signature_version")
    for name, rest in (
        ("client_kwargs", more), ("config_kwargs", botocore), ("s3_additional_kwargs", encryption)
    ):  # fmt: skip
        if rest:
            raise Untranslatable(f"the option {name}[{min(rest)!r}] has no counterpart there")
    return Translated(config, _http(client, endpoint), credentials)


def _profiles_matter(key: object, region: object) -> bool:
    if os.environ.get("AWS_PROFILE"):
        return True
    there = False
    for name, default in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        file = os.path.expanduser(os.environ.get(name) or default)
        if os.path.isfile(file):
            there = True
            if "endpoint_url" in _contents(file):
                return True
    return there and not (key and region)


class _Profile:
    """An AWS profile, read by botocore as s3fs does: SSO, assumed roles and all."""

    def __init__(self, name: str | None) -> None:
        import botocore.session  # ships no types

        self._session = botocore.session.Session(profile=name)
        try:
            self.region = self._session.get_config_variable("region")
            scoped = self._session.get_scoped_config()
        except Exception as error:  # noqa: BLE001 - botocore's errors are read elsewhere
            raise Untranslatable(f"the AWS profile cannot be read ({error})") from None
        if "services" in scoped:
            raise Untranslatable("it does not read the 'services' of an AWS profile")
        self.endpoint = scoped.get("endpoint_url")

    def credentials(self) -> Callable[[], dict[str, Any]] | None:
        found = self._session.get_credentials()
        if found is None:
            return None

        def current() -> dict[str, Any]:
            now = found.get_frozen_credentials()  # fetched anew by botocore when they expire
            passing = hasattr(found, "refresh_needed")
            return {
                "access_key_id": now.access_key,
                "secret_access_key": now.secret_key,
                "token": now.token,
                "expires_at": datetime.now(UTC) + timedelta(minutes=5) if passing else None,
            }

        return current


def _gs(address: Address, given: dict[str, Any]) -> Translated:
    config: dict[str, Any] = {}
    endpoint = _take(given, "endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")
    token = _take(given, "token")
    _take(given, "project", "access")
    if endpoint not in ("", "default", None):
        raise Untranslatable("emulators of Google storage do not speak the API it uses")
    if token == "anon":
        config["skip_signature"] = True
    elif isinstance(token, str) and os.path.isfile(os.path.expanduser(token)):
        config["application_credentials"] = os.path.expanduser(token)
    elif token not in (None, "google_default", "cloud"):
        raise Untranslatable(f"it has no counterpart of token={str(token)[:20]!r}")
    file = config.get("application_credentials") or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if file and os.path.isfile(file) and '"external_account"' in _contents(file):
        raise Untranslatable("it does not log in by workload identity federation")
    return Translated(config, {})


def _az(address: Address, given: dict[str, Any]) -> Translated:
    def option(name: str) -> Any:
        return _take(given, name) or os.environ.get(f"AZURE_STORAGE_{name.upper()}")

    parts = dict(
        part.split("=", 1) for part in (option("connection_string") or "").split(";") if "=" in part
    )
    _, _, host = address.bucket.partition("@")
    account = parts.get("AccountName") or option("account_name") or host.partition(".")[0]
    endpoint = parts.get("BlobEndpoint")
    if parts.get("EndpointSuffix", "core.windows.net") != "core.windows.net":
        raise Untranslatable("it does not read EndpointSuffix of a connection string")
    config: dict[str, Any] = {"account_name": account}
    if key := parts.get("AccountKey") or option("account_key"):
        config["account_key"] = key
    elif sas := parts.get("SharedAccessSignature") or option("sas_token"):
        config["sas_key"] = sas.lstrip("?")
    else:
        login = {name: option(name) for name in ("client_id", "client_secret", "tenant_id")}
        if all(login.values()):
            config |= login
        elif given.get("anon") is True:
            config["skip_signature"] = True
        else:
            raise Untranslatable("it does not search for Azure credentials as adlfs does")
    for name in ("anon", "client_id", "client_secret", "tenant_id", "sas_token", "account_key"):
        given.pop(name, None)
    if not account:
        raise Untranslatable("no account_name is given")
    if endpoint:
        config["endpoint"] = endpoint
    return Translated(config, _http({}, endpoint))


def _http(client: dict[str, Any], endpoint: str | None) -> dict[str, Any]:
    if endpoint and endpoint.startswith("http://"):
        client["allow_http"] = True
    return client


def _contents(file: str) -> str:
    with open(file, encoding="utf-8") as opened:
        return opened.read()
