"""What a client library must do for `RemoteStorage`, and how its errors are read.

An engine sends each request once, and raises whatever its library raises. `Verdict` says what an
error means, and `RemoteStorage` decides what to do about it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, Protocol

__all__ = [
    "NO_CREDENTIALS", "REQUEST_SECONDS", "Answer", "Engine", "Info", "NotExclusive", "Verdict",
    "by_status", "chain", "forget_frames", "in_words",
]  # fmt: skip

REQUEST_SECONDS = 20.0
"""A server that is silent for so long has not answered; the request is sent again."""


NO_CREDENTIALS = {
    "s3": "no credentials were found, nor a role of this machine that gives some: set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a profile with AWS_PROFILE, or ask as "
    "nobody (storage option anon=true)",
    "gs": "no credentials were found: run `gcloud auth application-default login`, set "
    "GOOGLE_APPLICATION_CREDENTIALS, or ask as nobody (storage option token=anon)",
    "az": "no credentials were found: set AZURE_STORAGE_CONNECTION_STRING, or "
    "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""By family of address: what to do where a client has none to sign with."""


class NotExclusive(Exception):  # noqa: N818 - a fact about a file system, and no mishap
    """This file system has no exclusive create: it looks, then writes."""


class Answer(enum.Enum):
    """What came back from a request that did not succeed."""

    EXISTS = "exists"
    """The key is taken, or was about to be: by anybody, this very request included."""
    MISSING = "missing"
    REFUSED = "refused"
    """The server, or the client before it, said no. The same request would hear it again."""
    UNREACHED = "unreached"
    """No connection. Says nothing of an earlier try that the client may have hidden."""
    UNKNOWN = "unknown"
    """Anything else: it may have acted, it may act still."""


class Verdict(NamedTuple):
    """An error, read: ``text`` is one line for people."""

    answer: Answer
    text: str


class Info(NamedTuple):
    """What is known of an object without reading it."""

    size: int
    modified: datetime | None
    version: str
    """Opaque: another text if the object was replaced; empty if the storage cannot tell. It means
    nothing to another instance of the storage.

    On a disk it is made of the file's number, size and time: an object that is removed and made
    anew with as many bytes within one tick of the disk's clock (4 ms) may keep it."""


class Engine(Protocol):
    """One client of one bucket. Shared by threads; never used across a fork."""

    name: str
    concurrency: int
    """How many `begin_get` are worth having under way."""

    def put(self, key: str, body: bytes) -> None:
        """One request: make the object if the key is free."""

    def replace(self, key: str, body: bytes | str) -> None:
        """Make the object, whatever is there: from bytes, or from the file of this name, in as
        many requests as it takes and with bounded memory. Atomic for readers."""

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """The object, or some of it, past every cache."""

    def begin_get(self, key: str) -> Future[bytes]:
        """`get` in the background. The result is waited for at most some `REQUEST_SECONDS`."""

    def info(self, key: str) -> Info: ...

    def list(self, prefix: str, *, shallow: bool, after: str) -> Iterator[str]:
        """Keys as `Storage.list` has them, or more. If an engine yields before all is known, it
        yields in order, and leaves out what is not after ``after``: so a listing goes on."""

    def entries(self, prefix: str, *, after: str) -> Iterator[tuple[str, str]]:
        """A listing that is not shallow; with each key its tag: a text that is another one when
        the object has other bytes, or empty if the service gives none."""

    def remove(self, key: str) -> None: ...

    def classify(self, error: BaseException) -> Verdict: ...

    def versions(self) -> dict[str, str]:
        """Package -> version, of what answers for this client."""


# Errors of a 4xx status that come and go: the body was cut, the server was busy.
_PASSING = {
    "BadDigest", "IncompleteBody", "InternalError", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "XAmzContentSHA256Mismatch",
}  # fmt: skip
_TAKEN = {
    "PreconditionFailed", "ConditionalRequestConflict", "OperationAborted", "BlobAlreadyExists",
    "ConditionNotMet",
}  # fmt: skip
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"}


def by_status(status: int, code: str = "") -> Answer:
    """What an HTTP status and the service's own word for it mean."""
    if code in _TAKEN or status in (409, 412):
        return Answer.EXISTS
    if code in _PASSING or status in (408, 425, 429):
        return Answer.UNKNOWN
    if code in _NO_BUCKET:
        return Answer.REFUSED
    if status == 404 or code == "NoSuchKey":
        return Answer.MISSING
    if 300 <= status < 500 or status == 501:
        return Answer.REFUSED
    return Answer.UNKNOWN


_ADVICE = {
    "NoSuchBucket": "there is no such bucket: make it, or correct the URL",
    "ContainerNotFound": "there is no such container: make it, or correct the URL",
    "InvalidBucketName": "no bucket can have this name: correct the URL",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key is unknown there",
    "ExpiredToken": "the credentials have expired: log in again",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_DEFAULT_REGION",
}
_STATUS_ADVICE = {
    301: "the bucket is in another region: set AWS_DEFAULT_REGION",
    401: "log in, or give credentials",
    403: "these credentials may not; reading also takes the permission to list, or what is not "
    "there is answered so",
    404: "there is no such bucket, or no such key",
    501: "the endpoint does not know this request",
}


def in_words(status: int, code: str, text: str) -> str:
    """What the service said and what to do; ``text`` is the client's, where that is all."""
    advice = _ADVICE.get(code) or _STATUS_ADVICE.get(status)
    said = " ".join(part for part in (str(status or ""), code) if part)
    return f"{said}: {advice}." if advice else text or said


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised for."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def forget_frames(error: BaseException) -> None:
    """Clear the local variables of the frames that an error went through; its traceback stays."""
    for each in chain(error):
        place = each.__traceback__
        while place is not None:
            with suppress(RuntimeError):  # it has not ended
                place.tb_frame.clear()
            place = place.tb_next
