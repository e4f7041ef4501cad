"""The room where fsspec and its family live: s3fs, gcsfs, adlfs, and whatever else it opens.

Every quirk of theirs is here, once. Instances and listings are never cached: a cached listing says
"not there" of a key that is. Retries are `RemoteStorage`'s, which knows what a lost answer means.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime
from typing import Any

from runstore.errors import StorageError
from runstore.storage.base import is_key
from runstore.storage.client import (
    NO_CREDENTIALS,
    REQUEST_SECONDS,
    Answer,
    Info,
    NotExclusive,
    Verdict,
    by_status,
    chain,
    in_words,
)
from runstore.storage.streams import PART_BYTES
from runstore.storage.url import PACKAGES, Address

__all__ = ["FsspecEngine", "check_scheme"]

# One request, whatever the size: multipart uploads and resumable ones lose the condition on some
# servers (radosgw, fake-gcs-server).
_ONE_REQUEST: dict[str, dict[str, Any]] = {
    "s3": {"chunksize": 5 << 30},
    "gs": {"chunksize": 5 << 30},
}

# s3fs asks for the size before it reads, to read in parallel; that would be a HEAD for each GET.
_ONE_GET: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}}

# The boundary of its multipart uploads is fixed. No record holds it: they are one line of JSON.
_GCSFS_BOUNDARY = b"\n--==0=="

_CONNECTIONS = 64

# A whole object or its upload may take longer than an answer to a small request.
_TRANSFER_SECONDS = 3600.0
_BYTES_A_SECOND = 256 << 10


def check_scheme(address: Address) -> None:
    """Raise `StorageError` if fsspec does not know the scheme of a URL, or lacks its package."""
    import fsspec

    try:
        fsspec.get_filesystem_class(address.scheme)
    except (ValueError, ImportError) as error:
        raise StorageError(
            f"Cannot open {address.url!r}: {error}",
            advice="use a path, s3://, gs://, az://, or another URL that fsspec opens",
            url=address.url,
        ) from error


class FsspecEngine:
    """See `Engine`. Making one may read credentials; it reads and writes no object."""

    name = "fsspec"

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        self._family = address.family
        self._fs, path = _open(address, dict(options))
        self._base = path.strip("/") + "/" if address.family else path.rstrip("/") + "/"
        self._async = bool(getattr(self._fs, "async_impl", False))
        self.concurrency = _CONNECTIONS if self._async else 1

    def put(self, key: str, body: bytes) -> None:
        if not self._creates():
            raise NotExclusive(
                f"{type(self._fs).__name__} has no exclusive create: it looks, then writes"
            )
        if self._family == "gs" and _GCSFS_BOUNDARY in body:
            raise ValueError("gcsfs cuts a body off where its own boundary is in it")
        extra = _ONE_REQUEST.get(self._family, {})
        self._call("pipe_file", self._base + key, body, mode="create", timeout=_time(body), **extra)

    def replace(self, key: str, body: bytes | str) -> None:
        path = self._base + key
        if not self._family:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if isinstance(body, str):
            # s3fs holds ten parts of 50 MiB, or all of what is below 100 MiB, if not told.
            few = {"chunksize": PART_BYTES, "max_concurrency": 4} if self._family == "s3" else {}
            self._call("put_file", body, path, timeout=_TRANSFER_SECONDS, **few)
        else:
            extra = {}
            if self._family == "gs" and _GCSFS_BOUNDARY in body:
                extra["chunksize"] = len(body)  # a resumable upload, which has no boundary
            self._call("pipe_file", path, body, timeout=_time(body), **extra)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        if start is None:
            data: bytes = self._wait(self.begin_get(key), _TRANSFER_SECONDS)
        else:
            data = self._call("cat_file", self._base + key, start=start, end=end)
        return data

    def begin_get(self, key: str) -> Future[bytes]:
        extra = _ONE_GET.get(self._family, {})
        return self._begin("cat_file", self._base + key, **extra)

    def info(self, key: str) -> Info:
        found = self._call("info", self._base + key)
        if found["type"] != "file":
            raise FileNotFoundError(key)
        times = (found.get(name) for name in ("LastModified", "last_modified", "mtime"))
        at = next((value for value in times if isinstance(value, datetime)), None)
        return Info(found["size"], at, str(found.get("generation") or _tag(found)))

    def list(self, prefix: str, *, shallow: bool, after: str) -> Iterator[str]:
        if not shallow:
            yield from (key for key, _ in self.entries(prefix, after=after))
            return
        folder = (self._base + prefix.rpartition("/")[0]).rstrip("/")
        found = self._call("ls", folder, detail=True, timeout=_TRANSFER_SECONDS)
        for info in found:
            key = info["name"].rstrip("/")[len(self._base) :]
            if key.startswith(prefix) and is_key(key):
                yield key + ("/" if info["type"] == "directory" else "")

    def entries(self, prefix: str, *, after: str) -> Iterator[tuple[str, str]]:
        # A bucket finds by prefix; any other file system below a folder.
        folder = self._base if self._family else self._base + prefix.rpartition("/")[0]
        more = {"prefix": prefix} if self._family else {}
        found = self._call(
            "find", folder.rstrip("/"), detail=True, timeout=_TRANSFER_SECONDS, **more
        )
        for name, info in found.items():
            key = name[len(self._base) :]
            if name.startswith(self._base + prefix) and is_key(key):
                yield key, _tag(info) if self._family else ""

    def remove(self, key: str) -> None:
        self._call("rm_file", self._base + key)

    def classify(self, error: BaseException) -> Verdict:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        status, code = _service_said(error)
        if status or code:
            return Verdict(by_status(status, code), in_words(status, code, text))
        if isinstance(error, FileExistsError):
            return Verdict(Answer.EXISTS, text)
        if isinstance(error, FileNotFoundError):
            return Verdict(Answer.MISSING, text)
        if _names(error) & _UNREACHED:
            return Verdict(Answer.UNREACHED, text)
        if _names(error) & _NO_CREDENTIALS:
            return Verdict(Answer.REFUSED, f"{NO_CREDENTIALS.get(self._family, text)}.")
        local = isinstance(
            error, (ValueError, TypeError, NotImplementedError, NotExclusive, PermissionError)
        )
        if local or text.startswith("Forbidden") or _names(error) & _REFUSED:
            return Verdict(Answer.REFUSED, text)
        return Verdict(Answer.UNKNOWN, text)

    def versions(self) -> dict[str, str]:
        import importlib.metadata  # and the whole of email with it

        packages = ["fsspec"]
        if self._family:
            packages.append(PACKAGES[self._family][0])
        return {name: importlib.metadata.version(name) for name in packages}

    def _creates(self) -> bool:
        import fsspec

        generic = fsspec.AbstractFileSystem.pipe_file
        return self._async or getattr(type(self._fs), "pipe_file", generic) is not generic

    def _call(self, verb: str, *args: Any, timeout: float = REQUEST_SECONDS, **kwargs: Any) -> Any:
        if not self._async:
            return getattr(self._fs, verb)(*args, **kwargs)
        return self._wait(self._begin(verb, *args, **kwargs), timeout)

    def _begin(self, verb: str, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._async:
            request = getattr(self._fs, f"_{verb}")(*args, **kwargs)
            return asyncio.run_coroutine_threadsafe(request, self._fs.loop)
        done: Future[Any] = Future()
        try:
            done.set_result(getattr(self._fs, verb)(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - comes out of result(), as for the others
            done.set_exception(error)
        return done

    def _wait(self, future: Future[Any], timeout: float) -> Any:
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            if future.done():  # the client's own timeout
                raise
            raise TimeoutError(f"no answer in {timeout:g} s") from None
        finally:
            future.cancel()  # nothing, if it is done; else nobody will ask for it again


def _open(address: Address, options: dict[str, Any]) -> tuple[Any, str]:
    import fsspec

    if not address.family:
        fs, path = fsspec.core.url_to_fs(
            address.url, use_listings_cache=False, skip_instance_cache=True, **options
        )
        return fs, path
    options = {**options, "use_listings_cache": False, "skip_instance_cache": True}
    if address.family == "s3":
        kind = importlib.import_module("s3fs").S3FileSystem
        config = dict(options.get("config_kwargs") or {})
        config.setdefault("max_pool_connections", _CONNECTIONS)
        config.setdefault("retries", {"total_max_attempts": 1, "mode": "standard"})
        config.setdefault("read_timeout", REQUEST_SECONDS)
        options["config_kwargs"] = config
    elif address.family == "gs":
        kind = _gcsfs_class(options)
    else:
        kind = importlib.import_module("adlfs").AzureBlobFileSystem
    parsed = kind._get_kwargs_from_urls(address.url)
    fs = kind(**{**parsed, **options})
    # Connected once, before many threads would each do it.
    if address.family == "s3":
        fs.retries = 1
        fs.connect()
    elif address.family == "gs":
        asyncio.run_coroutine_threadsafe(fs._set_session(), fs.loop).result(REQUEST_SECONDS)
    return fs, kind._strip_protocol(address.url)


def _gcsfs_class(options: dict[str, Any]) -> Any:
    if not options.get("endpoint_url") and not os.environ.get("STORAGE_EMULATOR_HOST"):
        return importlib.import_module("gcsfs").GCSFileSystem
    # An emulator: nobody to log in to, and no answer to what the extended class asks (77 s).
    options.setdefault("token", "anon")
    return importlib.import_module("gcsfs.core").GCSFileSystem


def _tag(listed: Mapping[str, Any]) -> str:
    tag = listed.get("ETag") or listed.get("etag") or listed.get("md5Hash")
    return f"{tag}:{listed.get('size')}" if tag else ""


def _time(body: bytes) -> float:
    return REQUEST_SECONDS + len(body) / _BYTES_A_SECOND


def _service_said(error: BaseException) -> tuple[int, str]:
    """HTTP status and error code, wherever the client has put them."""
    for each in chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            word = str(response.get("Error", {}).get("Code", ""))
            return int(status or 0), "" if word.isdigit() else word
        # Not any status or code: aiohttp writes 400 on errors it makes up itself, of answers
        # that were cut short.
        name = type(each).__name__
        if name == "HttpError":  # gcsfs
            return int(getattr(each, "code", 0) or 0), ""
        if status := getattr(each, "status_code", None):  # azure
            code = getattr(each, "error_code", None)
            return int(status), str(getattr(code, "value", code) or "")
    return 0, ""


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for each in chain(error) for kind in type(each).__mro__}


# By name: the packages that define them need not be installed.
_UNREACHED = {
    "EndpointConnectionError", "ClientConnectorError", "ServiceRequestError", "gaierror",
    "ConnectionRefusedError",
}  # fmt: skip
_NO_CREDENTIALS = {"NoCredentialsError", "DefaultCredentialsError"}
_REFUSED = {
    "PartialCredentialsError", "ParamValidationError", "ProfileNotFound",
    "ClientAuthenticationError", "TokenRetrievalError",
    "SSOTokenLoadError", "NoRegionError", "ImportError",
}  # fmt: skip
