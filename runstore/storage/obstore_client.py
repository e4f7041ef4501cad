"""The fast engine: obstore, a client in Rust (extra ``fast``).

Its synchronous calls in threads: the asynchronous ones abort the process at exit in a quarter of
the runs. Its runtime does not survive a fork: every call in the child would hang, so `is_forked`
is asked before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions, store

from runstore.storage.base import is_key
from runstore.storage.client import (
    NO_CREDENTIALS,
    REQUEST_SECONDS,
    Answer,
    Info,
    Verdict,
    by_status,
    in_words,
)
from runstore.storage.obstore_options import translate
from runstore.storage.streams import PART_BYTES
from runstore.storage.url import Address

__all__ = ["ObstoreEngine", "is_forked"]

_THREADS = 32
_PAGE = 200  # of the 1000 that a service gives at a time: what is beyond is not fetched ahead

# Uploads of what is larger get their time by the hour: the client knows one limit for all of it.
_SMALL = 1 << 20

_forked = [False]
os.register_at_fork(after_in_child=lambda: _forked.__setitem__(0, True))


def is_forked() -> bool:
    """Whether this process was forked from one that had loaded obstore."""
    return _forked[0]


class ObstoreEngine:
    """See `Engine`. Making one asks nobody."""

    name = "obstore"
    concurrency = _THREADS

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        config, client, credentials = translate(address, options)
        kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[address.family]
        # Without order a listing could not stop where the prefix ends.
        self._family = address.family
        self._ordered = not address.bucket.endswith("--x-s3")
        self._from = address.family in ("s3", "gs") and self._ordered
        more = {"credential_provider": credentials} if credentials else {}

        def connect(seconds: float) -> Any:
            timeouts = {
                "connect_timeout": "5s",
                "read_timeout": f"{seconds:.0f}s",
                "timeout": f"{3600 if seconds > REQUEST_SECONDS else seconds:.0f}s",
            }
            return kind(
                address.bucket.partition("@")[0],
                prefix=address.root or None,
                config=config,
                client_options={**client, **timeouts},
                retry_config={"max_retries": 0},
                **more,
            )

        self._store = connect(REQUEST_SECONDS)
        self._patient = connect(600)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="runstore-obstore")

    def put(self, key: str, body: bytes) -> None:
        to = self._store if len(body) < _SMALL else self._patient
        obstore.put(to, key, body, mode="create", use_multipart=False)

    def replace(self, key: str, body: bytes | str) -> None:
        if isinstance(body, str):
            obstore.put(self._patient, key, Path(body), chunk_size=PART_BYTES, max_concurrency=4)
        else:
            to = self._store if len(body) < _SMALL else self._patient
            obstore.put(to, key, body, use_multipart=False)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        if start is not None:
            return bytes(obstore.get_range(self._patient, key, start=start, end=end))
        return bytes(obstore.get(self._patient, key).bytes())

    def begin_get(self, key: str) -> Future[bytes]:
        return self._threads.submit(self.get, key)

    def info(self, key: str) -> Info:
        found = obstore.head(self._store, key)
        return Info(found["size"], found["last_modified"], found["version"] or _tag(found))

    def list(self, prefix: str, *, shallow: bool, after: str) -> Iterator[str]:
        if shallow:
            folder = prefix.rpartition("/")[0]
            result = obstore.list_with_delimiter(self._patient, folder or None)
            names = [each["path"] for each in result["objects"]]
            names += [f"{path}/" for path in result["common_prefixes"]]
            yield from (
                name for name in names if name.startswith(prefix) and is_key(name.rstrip("/"))
            )
            return
        for name, _ in self.entries(prefix, after=after):
            yield name

    def entries(self, prefix: str, *, after: str) -> Iterator[tuple[str, str]]:
        folder, _, leaf = prefix.rpartition("/")
        # The service takes whole folders only. Beginning just before the prefix, and stopping
        # after it, the listing of a few keys is one page, however full the folder.
        if not self._ordered:
            found = obstore.list(self._patient, folder or None, chunk_size=_PAGE)
            every = [each for page in found for each in page if self._is_object(each)]
            names = [(each["path"], _tag(each)) for each in every]
            yield from (each for each in names if each[0].startswith(prefix) and is_key(each[0]))
            return
        begin = after or (f"{prefix[:-1]}{chr(ord(prefix[-1]) - 1)}~" if leaf else "")
        offset = begin if begin and self._from else None
        for page in obstore.list(self._patient, folder or None, offset=offset, chunk_size=_PAGE):
            for each in page:
                name = each["path"]
                if name.startswith(prefix):
                    if name > after and is_key(name) and self._is_object(each):
                        yield name, _tag(each)
                elif self._ordered and name > prefix:
                    return

    def _is_object(self, listed: Any) -> bool:
        # The empty objects `a/` that consoles make for folders are listed without their slash.
        if listed["size"]:
            return True
        try:
            obstore.head(self._store, listed["path"])
        except FileNotFoundError:
            return False
        return True

    def remove(self, key: str) -> None:
        obstore.delete(self._store, key)

    def classify(self, error: BaseException) -> Verdict:
        text = str(error)
        code = _CODE.search(text)
        status = _STATUS.search(text)
        line = " ".join(text.partition("\n\nDebug source")[0].split())[:300]
        line = line or type(error).__name__
        if _METADATA.search(line) and not (status and status[1] >= "500"):
            # It asked the machine for a role's credentials, as there were no others.
            return Verdict(Answer.REFUSED, f"{NO_CREDENTIALS[self._family]}.")
        if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
            return Verdict(Answer.EXISTS, line)
        if status or code:
            said = int(status[1]) if status else 0, code[1] if code else ""
            return Verdict(by_status(*said), in_words(*said, line))
        if isinstance(error, FileNotFoundError):
            return Verdict(Answer.MISSING, line)
        if isinstance(error, _REFUSED):
            return Verdict(Answer.REFUSED, line)
        return Verdict(Answer.UNREACHED if "kind: Connect" in text else Answer.UNKNOWN, line)

    def versions(self) -> dict[str, str]:
        return {"obstore": obstore.__version__}


def _tag(listed: Any) -> str:
    return f"{listed['e_tag']}:{listed['size']}" if listed["e_tag"] else ""


_METADATA = re.compile(r"//(169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal)\b")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REFUSED = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.NotSupportedError,
    exceptions.InvalidPathError,
    exceptions.UnknownConfigurationKeyError,
    ValueError,
    TypeError,
)
