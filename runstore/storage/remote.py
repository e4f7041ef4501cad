"""Storage in a bucket: how one create among many writers stays exclusive when answers get lost.

The protocol of `RemoteStorage.create`, for a body that no other writer has (a nonce in it, made
once for each logical create and sent again with every try):

1. put if absent;
2. success: won;
3. any form of "exists": read by exact key, uncached. These bytes: won, it was my own write, whose
   answer was lost. Other bytes: lost. Nothing there (a conflict in flight): go to 1;
4. anything else (timeout, 5xx, reset) says nothing: back off, send the same bytes again;
5. when the budget is spent the outcome is unknown. Never "failed": a late request may still land.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import Any, BinaryIO, TypeVar, cast

from runstore.errors import OutcomeUnknownError, StorageError
from runstore.storage.base import MAX_KEY_BYTES, check_key, check_prefix, missing, taken
from runstore.storage.client import Answer, Engine, Info, Verdict, forget_frames
from runstore.storage.retry import Backoff
from runstore.storage.streams import RangeFile, Spool
from runstore.storage.url import Address

__all__ = ["BUDGET_SECONDS", "EXCLUSIVE_BYTES", "RemoteStorage"]

BUDGET_SECONDS = 60.0
"""How long one operation goes on trying before it gives up."""

UNREACHED_SECONDS = 10.0
"""How long a read goes on when there is not even a connection: mostly the endpoint is wrong."""

EXCLUSIVE_BYTES = 1 << 30
"""The largest object that is made exclusively: in one request, since S3 servers ignore the
condition when a multipart upload completes. Content-addressed objects have no such limit."""

_UNREACHED = "see that the address is right, and that this machine reaches it"

_REMOVING = 16
"""Deletes that are under way at once."""

_Got = TypeVar("_Got")

# One at a time, and a fresh lock in a child: another thread may hold the parent's at the fork.
_connecting = [threading.Lock()]
os.register_at_fork(after_in_child=lambda: _connecting.__setitem__(0, threading.Lock()))


class RemoteStorage:
    """A `Storage` over an `Engine`, which is made by ``connect`` when the first request is.

    After a fork the child makes its own. ``single_writer``: the endpoint cannot create
    exclusively, and its user has promised that nobody else writes; a create then looks first.

    An operation takes at most ``budget`` seconds, and one request more. ``reopen``: makes the same
    storage in another process, given ``single_writer``; without it, it cannot be pickled.
    """

    durable = True

    def __init__(
        self,
        address: Address,
        connect: Callable[[], Engine],
        *,
        budget: float = BUDGET_SECONDS,
        single_writer: bool = False,
        reopen: Callable[..., RemoteStorage] | None = None,
    ) -> None:
        self.url = address.url
        self.budget = budget
        self.single_writer = single_writer
        self._longest = MAX_KEY_BYTES - (len(address.root.encode()) + 1 if address.root else 0)
        self._connect = connect
        self._reopen = reopen
        self._engine: Engine | None = None
        self._pid = 0
        self._inherited: list[Engine | None] = []  # never closed: its threads are the parent's

    def __repr__(self) -> str:
        return f"<RemoteStorage {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise TypeError(f"{self!r} was not opened by its URL: open it again in each process")
        return partial(self._reopen, single_writer=self.single_writer), ()

    @property
    def engine(self) -> Engine:
        """The client of this process."""
        if self._pid != os.getpid():
            with _connecting[0]:
                if self._pid != os.getpid():
                    self._inherited.append(self._engine)
                    self._engine = self._begin()
                    self._pid = os.getpid()
        return cast(Engine, self._engine)

    def close(self) -> None:
        """Let go of the client, whose connections end with it. The next request makes another."""
        with _connecting[0]:
            if self._pid == os.getpid():
                self._engine, self._pid = None, 0

    def _begin(self) -> Engine:
        try:
            return self._connect()
        except StorageError:
            raise
        except Exception as error:
            # Clients refuse options and look for credentials in their constructors.
            raise StorageError(
                f"Cannot open {self.url}: {type(error).__name__}: {error}", url=self.url
            ) from error

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        self._check(key)
        if isinstance(data, bytes) and not repair:
            self._create(key, data)
            return
        with Spool(data, in_memory=not repair, limit=EXCLUSIVE_BYTES, key=key) as body:
            if repair:
                self._replace(key, body)
            else:
                self._create(key, cast(bytes, body))

    def _create(self, key: str, body: bytes) -> None:
        if len(body) > EXCLUSIVE_BYTES:
            raise StorageError(
                f"Cannot create {key} in {self.url}: {len(body)} bytes are more than one request "
                "carries",
                advice="keep it as an artifact",
                key=key,
                url=self.url,
            )
        engine, backoff = self.engine, Backoff(self.budget)
        sent = False  # whether a request may have landed, or may land still
        while True:
            try:
                self._put(engine, key, body)
                return
            except Exception as error:
                verdict = _classified(engine, error)
                match verdict.answer:
                    case Answer.EXISTS:
                        holder = self._holder(engine, key)
                        if isinstance(holder, Verdict):
                            sent, verdict = True, holder
                            if holder.answer is Answer.REFUSED:
                                raise self._unknown(key, verdict, backoff) from error
                        elif holder == body:
                            return
                        elif holder is not None:
                            raise taken(key, self.url) from None
                    case Answer.REFUSED | Answer.MISSING:
                        # An earlier try may have got through before somebody shut the door.
                        if not sent:
                            raise self._failed("create", key, verdict) from error
                        raise self._unknown(key, verdict, backoff) from error
                    case _:
                        sent = True
                if not backoff.wait():
                    raise self._unknown(key, verdict, backoff) from error

    def _put(self, engine: Engine, key: str, body: bytes) -> None:
        """Make the object if the key is free. A single writer looks first, as the endpoint does
        not."""
        if not self.single_writer:
            engine.put(key, body)
            return
        found = self._attempt(lambda: engine.get(key), engine)
        if isinstance(found, bytes):
            raise _Classified(Verdict(Answer.EXISTS, "the key is taken"))
        if found.answer is not Answer.MISSING:
            raise _Classified(found)
        engine.replace(key, body)

    def _holder(self, engine: Engine, key: str) -> bytes | Verdict | None:
        found = self._attempt(lambda: engine.get(key), engine)
        if isinstance(found, Verdict) and found.answer is Answer.MISSING:
            return None
        return found

    def _replace(self, key: str, body: bytes | str) -> None:
        engine, backoff = self.engine, Backoff(self.budget)
        sent = False
        while True:
            try:
                engine.replace(key, body)
                return
            except Exception as error:
                verdict = _classified(engine, error)
                final = verdict.answer in (Answer.REFUSED, Answer.MISSING)
                if final and not sent:
                    raise self._failed("create", key, verdict) from error
                if final or not backoff.wait():
                    raise self._unknown(key, verdict, backoff) from error
                sent = True

    def read(self, key: str) -> bytes:
        self._check(key)
        engine = self.engine
        return self._insist("read", key, lambda: engine.get(key))

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        engine, backoff = self.engine, Backoff(self.budget)
        under_way: deque[tuple[str, Future[bytes]]] = deque()
        try:
            for key in keys:
                try:
                    self._check(key)
                except StorageError as error:
                    yield key, error
                    continue
                under_way.append((key, engine.begin_get(key)))
                if len(under_way) >= engine.concurrency:
                    yield self._collect(*under_way.popleft(), backoff)
            while under_way:
                yield self._collect(*under_way.popleft(), backoff)
        finally:
            for _, future in under_way:
                future.cancel()

    def _collect(
        self, key: str, future: Future[bytes], backoff: Backoff
    ) -> tuple[str, bytes | StorageError]:
        engine, began = self.engine, time.monotonic()
        found = self._attempt(future.result, engine)
        if isinstance(found, bytes):
            return key, found
        try:
            if found.answer in (Answer.MISSING, Answer.REFUSED):
                raise self._failed("read", key, found)
            # What all keys of one call wait for together is one budget.
            return key, self._insist("read", key, lambda: engine.get(key), backoff.left())
        except StorageError as error:
            backoff.spend(time.monotonic() - began)
            return key, error

    def stream(self, key: str) -> BinaryIO:
        info = self.info(key)

        def piece(start: int, end: int) -> bytes:
            return self._insist("read", key, lambda: self.engine.get(key, start, end))

        return RangeFile(info.size, piece).buffered()

    def info(self, key: str) -> Info:
        """Size and time of an object; raises what `read` raises."""
        self._check(key)
        engine = self.engine
        return self._insist("read", key, lambda: engine.info(key))

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        check_prefix(prefix, self.url)
        return self._pages(
            prefix, lambda engine, after: engine.list(prefix, shallow=shallow, after=after), str
        )

    def _pages(
        self, prefix: str, ask: Callable[[Engine, str], Iterator[_Got]], name: Callable[[_Got], str]
    ) -> Iterator[_Got]:
        """A listing that goes on where it was cut off."""
        engine, backoff = self.engine, Backoff(self.budget)
        after = ""
        while True:
            try:
                for each in ask(engine, after):
                    after = name(each)
                    yield each
                return
            except Exception as error:
                verdict = _classified(engine, error)
                if verdict.answer is Answer.MISSING:
                    return
                if verdict.answer is Answer.UNREACHED:
                    backoff.shorten(UNREACHED_SECONDS)
                if verdict.answer is Answer.REFUSED or not backoff.wait():
                    raise self._failed("list", prefix, verdict, backoff) from error

    def remove(self, keys: Iterable[str]) -> None:
        """See `runstore.storage.capabilities.Removing`. One request for each, some at a time."""
        keys = list(keys)
        for key in keys:
            self._check(key)
        if not keys:
            return
        self.engine  # noqa: B018 - made once, before many threads would
        with ThreadPoolExecutor(min(_REMOVING, len(keys)), "runstore-remove") as pool:
            for _ in pool.map(self._remove, keys):
                pass

    def _remove(self, key: str) -> None:
        try:
            self._insist("remove", key, lambda: self.engine.remove(key))
        except StorageError as error:
            if error.facts.get("answer") != Answer.MISSING.value:
                raise

    def entries(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `runstore.storage.capabilities.Tagged`. The requests of a listing."""
        check_prefix(prefix, self.url)
        return self._pages(
            prefix, lambda engine, after: engine.entries(prefix, after=after), itemgetter(0)
        )

    def _insist(
        self, verb: str, key: str, call: Callable[[], _Got], budget: float | None = None
    ) -> _Got:
        """What changes nothing may be asked again at once and for long."""
        backoff = Backoff(self.budget if budget is None else budget)
        while True:
            try:
                return call()
            except Exception as error:
                verdict = _classified(self.engine, error)
                if verdict.answer is Answer.UNREACHED:
                    backoff.shorten(UNREACHED_SECONDS)
                final = verdict.answer in (Answer.MISSING, Answer.REFUSED)
                if final or not backoff.wait():
                    raise self._failed(verb, key, verdict, backoff) from error

    def _attempt(self, call: Callable[[], bytes], engine: Engine) -> bytes | Verdict:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - clients raise anything; it is judged here
            return _classified(engine, error)
        finally:
            del call  # the result of a future: it holds the error, and that this frame

    def _check(self, key: str) -> None:
        check_key(key, self.url)
        if len(key) > self._longest:
            raise StorageError(
                f"{key[:80]!r} is too long below {self.url}: a bucket takes names of "
                f"{MAX_KEY_BYTES} bytes",
                advice="give the store a shorter prefix",
                key=key,
                url=self.url,
            )

    def _failed(
        self, verb: str, key: str, verdict: Verdict, backoff: Backoff | None = None
    ) -> StorageError:
        if verb == "read" and verdict.answer is Answer.MISSING:
            return missing(key, self.url)
        tried = ""
        if backoff and verdict.answer in (Answer.UNKNOWN, Answer.UNREACHED, Answer.EXISTS):
            tried = f", tried {backoff}"
        return StorageError(
            f"Cannot {verb} {key or 'the keys'} in {self.url}{tried}: {verdict.text}",
            advice=_UNREACHED if verdict.answer is Answer.UNREACHED else "",
            key=key,
            url=self.url,
            answer=verdict.answer.value,
        )

    def _unknown(self, key: str, verdict: Verdict, backoff: Backoff) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            f"It is unknown whether {key} in {self.url} was created, tried {backoff}; it may "
            f"still appear. The last answer: {verdict.text}",
            advice="do it again when the storage answers again, nothing is done twice",
            key=key,
            url=self.url,
            seconds=backoff.seconds(),
            tries=backoff.tries,
        )


class _Classified(Exception):  # noqa: N818 - carries a verdict to where verdicts are read
    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict


def _classified(engine: Engine, error: BaseException) -> Verdict:
    """What an error means. The caller binds the error to no other name: a frame and an error that
    hold each other keep the body of the request until the garbage collector comes by."""
    verdict = error.verdict if isinstance(error, _Classified) else engine.classify(error)
    forget_frames(error)  # the clients' own frames are so
    return verdict
