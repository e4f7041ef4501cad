"""Deleting in a bucket, and listings that tell one content from another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from runstore.errors import StorageError
from runstore.storage.base import check_prefix
from runstore.storage.client import Answer, Engine

__all__ = ["RemoteCare"]

_THREADS = 16

_Got = TypeVar("_Got")


class RemoteCare:
    """The part of `RemoteStorage` that nobody needs who works on runs."""

    url: str

    if TYPE_CHECKING:

        @property
        def engine(self) -> Engine: ...
        def _check(self, key: str) -> None: ...
        def _insist(self, verb: str, key: str, call: Callable[[], _Got]) -> _Got: ...
        def _pages(
            self,
            prefix: str,
            ask: Callable[[Engine, str], Iterator[_Got]],
            name: Callable[[_Got], Any],
        ) -> Iterator[_Got]: ...

    def remove(self, keys: Iterable[str]) -> None:
        """See `runstore.storage.capabilities.Removing`. One request for each, some at a time."""
        keys = list(keys)
        for key in keys:
            self._check(key)
        if not keys:
            return
        self.engine  # noqa: B018 - made once, before many threads would
        with ThreadPoolExecutor(min(_THREADS, len(keys)), "runstore-remove") as pool:
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
