"""Storage in a folder of a local or mounted disk (POSIX).

How `create` is exclusive, atomic and durable at once, and by which call:

1. a temp file beside the final name is written and fsynced: the bytes are on the disk before
   any name leads to them, so no reader and no crash ever meets a part of an object;
2. ``link(2)`` gives it the final name, or fails because the name is taken: the kernel, or the
   NFS server, picks the one winner;
3. the temp name goes, and the folder is fsynced: the new name outlives a power cut.

A process killed in between leaves a temp file, whose name begins with a dot: no key does, so
nothing here ever reads or lists it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from runstore.errors import OutcomeUnknownError, StorageError
from runstore.storage import in_place
from runstore.storage.base import (
    CHUNK_BYTES,
    Storage,
    check_key,
    check_prefix,
    is_segment,
    missing,
    pieces,
    taken,
)
from runstore.storage.fsync import flush_all, flush_folder, make_folders
from runstore.storage.local_care import LocalCare
from runstore.storage.local_disk import (
    ADVICE,
    UNKNOWN,
    is_folder,
    leads_on,
    name_it,
    only_keys,
    read_whole,
    write_all,
)
from runstore.storage.unfinished import begin

__all__ = ["LocalStorage"]

# Not to wait for the other end, should somebody have put a fifo there.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
# O_PATH (Linux) needs no permission to list the folder, only to pass through it.
_PASS_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

# What open(2) and read(2) say of a key that is no object; a folder is none.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}

# How often a name may be taken when we link and gone when we look, before it is an error.
_TRIES = 5

# A process that visits more folders than this checks the way up to some of them again.
_ANCHORS = 4096


class LocalStorage(LocalCare):
    """A `Storage` in the folder ``root``, which is made by the first `create`.

    The folder of every key is a folder of the disk, so ``cp -r``, ``ls`` and ``jq`` work on it.
    ``url`` is the absolute path. ``durable=False`` skips every fsync: creates stay exclusive
    and whole against processes and kills, and may be lost in a power cut.

    Durable is what the disk said: a flush that fails raises. Where the object is there by then it
    is `OutcomeUnknownError`, for it may last or not.
    """

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.url = os.path.abspath(root)  # a later chdir must not move the store
        self.durable = durable
        self._base = self.url if self.url.endswith("/") else self.url + "/"
        # Folders whose names are known to be on the disk, all the way up to the root.
        self._anchored: set[str] = set()
        self._in_place = False

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        check_key(key, self.url)
        path = self._base + key
        folder = path.rpartition("/")[0] or "/"
        fd, temp = self._begin(folder, key)
        try:
            self._fill(fd, key, data)
            self._place(fd, temp, path, key, repair=repair)
        finally:
            # Before the folder is flushed, so that one flush makes both changes last. A temp
            # file that cannot be removed is litter, and changes nothing of what happened.
            with suppress(OSError):
                os.close(fd)
            with suppress(OSError):
                os.unlink(temp)
        if self.durable:
            self._flush_folder(folder, key)

    def read(self, key: str) -> bytes:
        check_key(key, self.url)
        try:
            self._notice()
            return read_whole(self._open(key))
        except StorageError:
            raise
        except OSError as error:
            raise self._error("read", key, error) from error

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        # Keys mostly come folder by folder. From the second one in a folder on, files are opened
        # relative to it: the kernel looks up one name, not the whole path.
        last, folder_fd = None, -1
        self._notice()
        try:
            for key in keys:
                found: bytes | StorageError
                try:
                    folder, _, name = key.rpartition("/")
                    if folder == last and is_segment(name):
                        if folder_fd < 0:
                            folder_fd = os.open(self._base + folder, _PASS_THROUGH)
                        fd = os.open(name, _READ, dir_fd=folder_fd)
                        if self._in_place:
                            self._settle(fd, key)
                    else:
                        check_key(key, self.url)
                        last = folder
                        if folder_fd >= 0:
                            os.close(folder_fd)
                            folder_fd = -1
                        fd = self._open(key)
                    found = read_whole(fd)
                except StorageError as error:
                    found = error
                except OSError as error:
                    found = self._error("read", key, error)
                yield key, found
        finally:
            found = b""  # an error holds this frame in its traceback: it would hold itself
            if folder_fd >= 0:
                os.close(folder_fd)

    @contextmanager
    def batch(self) -> Iterator[Storage]:
        """See `runstore.storage.capabilities.Batching`."""
        if not self.durable:
            yield self
            return
        quick = _Batch(self.url)
        try:
            # With those above it: later flushes look no higher.
            if not os.path.isdir(self.url):
                make_folders(self.url, self.url, durable=True)
            root = os.open(self.url, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error("create", "", error) from error
        try:
            yield quick
            try:
                flush_all(quick.created, self.url, root)
            except OSError as error:
                raise self._unknown("", error) from error
        finally:
            os.close(root)

    def stream(self, key: str) -> BinaryIO:
        check_key(key, self.url)
        try:
            self._notice()
            return self._stream(key)
        except StorageError:
            raise
        except OSError as error:
            raise self._error("read", key, error) from error

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        check_prefix(prefix, self.url)
        return self._walk(prefix, shallow)

    def _walk(self, prefix: str, shallow: bool) -> Iterator[str]:
        folder, slash, start = prefix.rpartition("/")
        pending = [folder + slash]
        entered: set[tuple[int, int]] = set()
        while pending:
            here = pending.pop()
            keys = []
            try:
                with os.scandir(self._base + here) as entries:
                    for entry in entries:
                        name = entry.name
                        if name[0] == "." or (start and not name.startswith(start)):
                            continue
                        # The folder's own listing says what it is: no stat, but for links.
                        if entry.is_file(follow_symlinks=False):
                            keys.append(here + name)
                        elif entry.is_dir(follow_symlinks=False) or leads_on(entry, entered):
                            if not shallow:
                                pending.append(here + name + "/")
                            elif is_segment(name):
                                yield here + name + "/"
                        elif entry.is_symlink() and not is_folder(entry):
                            keys.append(here + name)  # who reads it is told where it leads
            except (FileNotFoundError, NotADirectoryError):
                continue  # no folder, no keys
            except OSError as error:
                raise self._error("list", prefix, error) from error
            start = ""
            yield from only_keys(keys)

    def _begin(self, folder: str, key: str) -> tuple[int, str]:
        try:
            for _ in range(_TRIES):
                with suppress(FileNotFoundError):
                    return begin(folder)
                # Almost never missing, so not looked for before; and an empty one may be removed
                # between these two lines.
                make_folders(folder, self.url, durable=self.durable)
            return begin(folder)
        except OSError as error:
            raise self._error("create", key, error) from error

    def _fill(self, fd: int, key: str, data: bytes | BinaryIO) -> None:
        """Write all of ``data`` to a temp file, and make it last."""
        for piece in (data,) if isinstance(data, bytes) else pieces(data):
            try:  # what a stream raises is the caller's, unchanged
                write_all(fd, piece)
            except OSError as error:
                raise self._error("create", key, error) from error
        try:
            if self.durable:
                os.fsync(fd)
            os.close(os.dup(fd))  # NFS and quotas report a full disk at a close
        except OSError as error:
            raise self._error("create", key, error) from error

    def _place(self, fd: int, temp: str, path: str, key: str, *, repair: bool) -> None:
        """Give the temp file the final name, or raise `KeyExistsError`."""
        try:
            for _ in range(_TRIES):
                with suppress(FileExistsError):
                    if not name_it(temp, path):
                        self._in_place = True
                        with open(temp, "rb") as source:
                            in_place.write(source, path, self.url, durable=self.durable)
                    return
                with suppress(FileNotFoundError):  # taken a moment ago, and gone: again
                    # NFS: the server linked, its answer was lost, and the client asked again. The
                    # name is ours if it leads to our file, whatever the error says.
                    if os.path.samestat(os.fstat(fd), os.lstat(path)):
                        return
                    if self._is_copy(temp, key):
                        if repair:  # a blob that is about to be named: no longer litter
                            with suppress(OSError):
                                os.utime(path)
                        return
                    if repair:
                        os.replace(temp, path)
                        return
                    raise taken(key, self.url)
        except StorageError:
            raise
        except OSError as error:
            raise self._error("create", key, error) from error
        raise StorageError(
            f"Cannot create {key} in {self.url}: its name is taken by something that cannot be "
            "opened, a link that leads nowhere perhaps",
            advice="move it away",
            key=key,
            url=self.url,
        )

    def _open(self, key: str) -> int:
        """An object, open for reading."""
        fd = os.open(self._base + key, _READ)
        if self._in_place:
            self._settle(fd, key)
        return fd

    def _stream(self, key: str) -> BinaryIO:
        fd = self._open(key)
        try:
            return open(fd, "rb")
        except BaseException:  # a folder, mostly
            os.close(fd)
            raise

    def _notice(self) -> None:
        """Find out whether objects are written in place here: with the first of them it begins."""
        if not self._in_place:
            self._in_place = os.path.lexists(self._base + in_place.NOTE)

    def _settle(self, fd: int, key: str) -> None:
        try:
            if in_place.is_settled(fd):
                return
            raise StorageError(
                f"{key} in {self.url} is still being written, for more than "
                f"{in_place.WAIT_SECONDS:g} s",
                advice="do it again when its writer is done",
                key=key,
                url=self.url,
            )
        except BaseException:
            os.close(fd)
            raise

    def _is_copy(self, temp: str, key: str) -> bool:
        with open(temp, "rb") as mine, self._stream(key) as other:
            while piece := mine.read(CHUNK_BYTES):
                if piece != other.read(CHUNK_BYTES):
                    return False
            if other.read(1):
                return False
            if self.durable:
                os.fsync(other.fileno())  # its writer may not have asked for durability
        return True

    def _flush_folder(self, folder: str, key: str) -> None:
        anchored = self._anchored
        try:
            flush_folder(folder)
            if folder in anchored:
                return
            # Another writer may have made the folder a moment ago and not flushed its name yet.
            above, passed = folder, []
            while len(above) > len(self.url) and above not in anchored:
                passed.append(above)
                above = os.path.dirname(above)
                flush_folder(above)
        except OSError as error:
            raise self._unknown(key, error) from error
        if len(anchored) >= _ANCHORS:
            anchored.clear()
        anchored.update(passed)

    def _error(self, verb: str, key: str, error: OSError) -> StorageError:
        code = error.errno
        if verb == "read" and code in _NOT_THERE:
            failed: StorageError = missing(key, self.url)
        else:
            failed = StorageError(
                f"Cannot {verb} {key or 'the keys'} in {self.url}: {error.strerror or error}",
                advice=ADVICE.get(code or 0, UNKNOWN),
                key=key,
                url=self.url,
                errno=code,
            )
        failed.__cause__ = error
        return failed

    def _unknown(self, key: str, error: OSError, what: str = "") -> OutcomeUnknownError:
        """For what has happened, and may not last: ``what`` was done to ``key``."""
        said = f"{what} {key}".strip() or "what was written"
        return OutcomeUnknownError(
            f"Cannot make durable {said} in {self.url}: {error.strerror or error}. It is unknown "
            "whether it outlives a power cut",
            advice=f"{ADVICE.get(error.errno or 0, UNKNOWN)}; nothing is done twice",
            key=key,
            url=self.url,
            errno=error.errno,
        )


class _Batch(LocalStorage):
    """Creates without an fsync, and remembers the files that it made."""

    def __init__(self, root: str) -> None:
        super().__init__(root, durable=False)
        self.created: set[str] = set()

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        super().create(key, data, repair=repair)
        self.created.add(self._base + key)
