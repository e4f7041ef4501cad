"""Deleting in a folder of a local disk, and telling what is old: `runstore.storage.removing`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from runstore.storage import check_key, is_segment

if TYPE_CHECKING:
    from runstore.storage.engine import Info

__all__ = ["TEMP", "LocalCare"]

TEMP = ".tmp-"
"""What the names of unfinished writes begin with: no key does."""


class LocalCare:
    """The part of `LocalStorage` that nobody needs who works on runs."""

    url: str
    durable: bool
    _base: str
    _anchored: set[str]

    if TYPE_CHECKING:

        def _fail(self, verb: str, key: str, error: OSError) -> NoReturn: ...

    def remove(self, keys: Iterable[str]) -> None:
        folders = set()
        try:
            for key in keys:
                check_key(key, self.url)
                try:
                    os.unlink(self._base + key)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    self._fail("remove", key, error)
                folders.add(key.rpartition("/")[0])
        finally:
            for folder in sorted(folders, key=len, reverse=True):
                self._tidy(folder)

    def _tidy(self, folder: str) -> None:
        """Remove a folder that has become empty, and those around it; make that last. The first
        level stays: other runs are made in it."""
        with suppress(OSError):  # not empty, or somebody else was quicker
            while "/" in folder:
                os.rmdir(self._base + folder)
                self._anchored.discard(self._base + folder)
                folder = os.path.dirname(folder)
        if self.durable:
            with suppress(OSError):
                fd = os.open(self._base + folder, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def info(self, key: str) -> Info:
        from datetime import UTC, datetime

        from runstore.storage.engine import Info

        check_key(key, self.url)
        try:
            found = os.stat(self._base + key)
        except OSError as error:
            self._fail("read", key, error)
        # Not the time of the last change (ctime): a backup that makes a hard link moves it.
        version = f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
        return Info(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), version)

    def sweep(self, before: float, *, dry_run: bool) -> Iterator[str]:
        for folder, folders, names in os.walk(self.url):
            folders[:] = [name for name in folders if is_segment(name)]
            for name in names:
                path = os.path.join(folder, name)
                if not name.startswith(TEMP):
                    continue
                try:
                    if os.stat(path).st_mtime > before:
                        continue
                    if not dry_run:
                        os.unlink(path)
                except FileNotFoundError:  # finished a moment ago
                    continue
                except OSError as error:
                    self._fail("remove", os.path.relpath(path, self.url), error)
                yield os.path.relpath(path, self.url)
