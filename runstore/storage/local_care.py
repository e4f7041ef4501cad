"""Deleting on a local disk, and telling what is old: see :mod:`runstore.storage.capabilities`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from runstore.errors import StorageError
from runstore.storage.base import check_key, is_segment
from runstore.storage.client import Info
from runstore.storage.fsync import flush_folder
from runstore.storage.unfinished import TEMP, abandoned

__all__ = ["LocalCare"]


class LocalCare:
    """The part of `LocalStorage` that nobody needs who works on runs."""

    url: str
    durable: bool
    _base: str
    _anchored: set[str]

    if TYPE_CHECKING:

        def _error(self, verb: str, key: str, error: OSError) -> StorageError: ...
        def _unknown(self, key: str, error: OSError, what: str = "") -> StorageError: ...

    def remove(self, keys: Iterable[str]) -> None:
        folders = set()
        try:
            for key in keys:
                check_key(key, self.url)
                # Also if it is gone already: whoever removed it may not have made that last.
                folders.add(key.rpartition("/")[0])
                try:
                    os.unlink(self._base + key)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise self._error("remove", key, error) from error
        except BaseException:
            with suppress(OSError):  # what is told is what was first
                self._tidy_all(folders)
            raise
        self._tidy_all(folders)

    def _tidy_all(self, folders: set[str]) -> None:
        changed = {self._tidy(folder) for folder in sorted(folders, key=len, reverse=True)}
        if not self.durable:
            return
        for folder in sorted(changed):
            try:
                flush_folder(self._base + folder)
            except FileNotFoundError:
                if folder:  # gone by now, which the folder above tells
                    self._tidy_all({os.path.dirname(folder)})
            except OSError as error:
                raise self._unknown(folder, error, "what was removed from") from error

    def _tidy(self, folder: str) -> str:
        """Remove a folder that has become empty, and those around it; gives the first that stays.
        The first level does: other runs are made in it."""
        while "/" in folder:
            try:
                os.rmdir(self._base + folder)
            except FileNotFoundError:  # somebody else was quicker
                pass
            except OSError:  # not empty, mostly; an empty folder is nobody's harm
                break
            self._anchored.discard(self._base + folder)
            folder = os.path.dirname(folder)
        return folder

    def info(self, key: str) -> Info:
        from datetime import UTC, datetime

        from runstore.storage.client import Info

        check_key(key, self.url)
        try:
            found = os.stat(self._base + key)
        except OSError as error:
            raise self._error("read", key, error) from error
        # Not the time of the last change (ctime): a backup that makes a hard link moves it.
        version = f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
        return Info(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), version)

    def sweep(self, before: float, *, dry_run: bool) -> Iterator[str]:
        for folder, folders, names in os.walk(self.url):
            folders[:] = [name for name in folders if is_segment(name)]
            for name in names:
                if not name.startswith(TEMP):
                    continue
                path = os.path.join(folder, name)
                try:
                    with abandoned(path, before) as gone:
                        if gone and not dry_run:
                            os.unlink(path)
                except FileNotFoundError:  # finished a moment ago
                    continue
                except OSError as error:
                    raise self._error("remove", os.path.relpath(path, self.url), error) from error
                if gone:
                    yield os.path.relpath(path, self.url)
