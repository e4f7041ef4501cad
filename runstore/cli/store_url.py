"""Where a store is, as it was said on the command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from runstore.errors import RefusedError
from runstore.storage import expand_home

if TYPE_CHECKING:
    from runstore.store import Store

__all__ = ["DEFAULT_STORE", "StoreLocation", "is_exported", "uses_cache"]

DEFAULT_STORE = ".runstore"


def is_exported(text: str) -> bool:
    """Whether this names an exported file, which is store and run at once."""
    return text.endswith(".json") and os.path.isfile(text)


def uses_cache() -> bool:
    """Whether what was read from a bucket may be kept on this machine."""
    return os.environ.get("RUNSTORE_CACHE", "").lower() not in ("0", "no", "off", "false")


class StoreLocation(NamedTuple):
    """A store that is not opened yet."""

    url: str
    options: tuple[tuple[str, str], ...] = ()
    """Of ``--storage-option``, as they were given."""
    single_writer: bool = False

    def at(self, url: str) -> StoreLocation:
        """Another place, with the same options if it is remote."""
        scheme, separator, _ = url.partition("://")
        remote = separator and scheme not in ("file", "memory")
        return self._replace(url=url) if remote else StoreLocation(expand_home(url))

    def open(self, *, cache: bool = True) -> Store:
        """The store. ``cache=False``: what is read must come from there, at any price.

        :raises StorageError: for a URL no backend serves.
        """
        from runstore.store import open_store

        return open_store(
            self.url,
            storage_options=self.storage_options() or None,
            single_writer=self.single_writer,
            cache=cache and uses_cache(),
        )

    def open_to_write(self, *, cache: bool = True) -> Store:
        """:meth:`open`. :raises RefusedError: for an exported file."""
        if is_exported(self.url):
            raise RefusedError(
                f"{self.url} is an exported file, which is read-only",
                advice="`runstore import` it into a store",
            )
        return self.open(cache=cache)

    def storage_options(self) -> dict[str, Any]:
        """As fsspec takes them: JSON where it is JSON, else text."""
        import json

        given: dict[str, Any] = {}
        for name, text in self.options:
            try:
                given[name] = json.loads(text)
            except ValueError:
                given[name] = text
        return given

    def words(self) -> list[str]:
        """What to write on another command line to mean this store; without secrets."""
        given = os.environ.get("RUNSTORE_URL")
        standard = self.url in (given and expand_home(given), DEFAULT_STORE)
        words = [] if standard else ["--store", self.url]
        for name, _ in self.options:
            words += ["--storage-option", f"{name}=***"]
        return words + (["--single-writer"] if self.single_writer else [])
