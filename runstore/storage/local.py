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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import BinaryIO, NoReturn

from runstore.errors import KeyExistsError, KeyMissingError, StorageError
from runstore.storage import CHUNK_BYTES, Storage, check_key, check_prefix, is_segment
from runstore.storage.local_care import TEMP, LocalCare

__all__ = ["LocalStorage"]

_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
# O_PATH (Linux) needs no permission to list the folder, only to pass through it.
_PASS_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

# Records are some 2 KB; one read takes them whole, and a buffer left unfilled is the file's end.
_BUFFER = 65536

# link(2) on a file system without hard links: vfat and exfat, FUSE, some SMB servers.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

# fsync(2) of a folder where folders have nothing of their own to flush (some FUSE and SMB).
_NO_FOLDER_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

# What open(2) and read(2) say of a key that is no object; a folder is none.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}

# How often a name may be taken when we link and gone when we look, before it is an error.
_TRIES = 5

# A process that visits more folders than this checks the way up to some of them again.
_ANCHORS = 4096

_LEGAL_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789._/-"

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then do it again.",
    errno.EDQUOT: "Your disk quota is used up: free some space, then do it again.",
    errno.EROFS: "The file system is mounted read-only: mount it writable, or use another store.",
    errno.EACCES: "This user may not: correct the owner or the mode of the folder.",
    errno.EPERM: "The file system forbids it: correct the owner, mode or attributes of the folder.",
    errno.ENAMETOOLONG: "The path is too long for this file system: use a shorter store path.",
    errno.ENOTDIR: "A file is where a folder of the store belongs: move it away.",
    errno.EISDIR: "A folder is where an object of the store belongs: move it away.",
    errno.ENOENT: "The folder was removed meanwhile, or a link in the path leads nowhere.",
    errno.EFBIG: "It is larger than this file system or 'ulimit -f' allows.",
    errno.EMFILE: "This process has too many files open: raise 'ulimit -n'.",
    errno.ENFILE: "This machine has too many files open.",
    errno.EIO: "The disk failed: look into the kernel's log.",
    errno.ESTALE: "The network file system lost the folder: check its mount.",
}


class LocalStorage(LocalCare):
    """A `Storage` in the folder ``root``, which is made by the first `create`.

    The folder of every key is a folder of the disk, so ``cp -r``, ``ls`` and ``jq`` work on it.
    ``url`` is the absolute path. ``durable=False`` skips every fsync: creates stay exclusive
    and whole against processes and kills, and may be lost in a power cut.

    On a file system without hard links the object is made under its own name with ``O_EXCL``:
    still exclusive, but a kill or a power cut can leave it short, and its name taken. Readers
    check digests.
    """

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.url = os.path.abspath(root)  # a later chdir must not move the store
        self.durable = durable
        self._base = self.url if self.url.endswith("/") else self.url + "/"
        # Folders whose names are known to be on the disk, all the way up to the root.
        self._anchored: set[str] = set()

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        check_key(key, self.url)
        path = self._base + key
        folder = path.rpartition("/")[0] or "/"
        # The random part tells hosts that share the disk apart; the pid is for who cleans up.
        temp = f"{folder}/{TEMP}{os.getpid()}-{os.urandom(8).hex()}"
        fd = self._open_temp(folder, temp, key)
        try:
            self._fill(fd, key, data)
            self._place(temp, path, key, repair=repair)
        finally:
            # Before the folder is fsynced, so that one fsync makes both changes last. A temp
            # file that cannot be removed is litter, and changes nothing of what happened.
            with suppress(OSError):
                os.unlink(temp)
        if self.durable:
            self._flush_folder(folder, key)

    def read(self, key: str) -> bytes:
        check_key(key, self.url)
        try:
            return _read_whole(os.open(self._base + key, _READ))
        except OSError as error:
            self._fail("read", key, error)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        # Keys mostly come folder by folder. From the second one in a folder on, files are opened
        # relative to it: the kernel walks one name, not the whole path (on NFS: asks for one).
        last, folder_fd = None, -1
        try:
            for key in keys:
                found: bytes | StorageError
                try:
                    folder, _, name = key.rpartition("/")
                    if folder == last and is_segment(name):
                        if folder_fd < 0:
                            folder_fd = os.open(self._base + folder, _PASS_THROUGH)
                        fd = os.open(name, _READ, dir_fd=folder_fd)
                    else:
                        check_key(key, self.url)
                        last = folder
                        if folder_fd >= 0:
                            os.close(folder_fd)
                            folder_fd = -1
                        fd = os.open(self._base + key, _READ)
                    found = _read_whole(fd)
                except StorageError as error:
                    found = error
                except OSError as error:
                    found = self._error("read", key, error)
                yield key, found
        finally:
            if folder_fd >= 0:
                os.close(folder_fd)

    def batch(self) -> AbstractContextManager[Storage]:
        from runstore.storage.local_batch import batch

        return batch(self)

    def stream(self, key: str) -> BinaryIO:
        check_key(key, self.url)
        try:
            return open(self._base + key, "rb")
        except OSError as error:
            self._fail("read", key, error)

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        check_prefix(prefix, self.url)
        return self._walk(prefix, shallow)

    def _walk(self, prefix: str, shallow: bool) -> Iterator[str]:
        folder, slash, start = prefix.rpartition("/")
        pending = [folder + slash]
        while pending:
            here = pending.pop()
            keys = []
            try:
                with os.scandir(self._base + here) as entries:
                    for entry in entries:
                        name = entry.name
                        if name[0] == "." or (start and not name.startswith(start)):
                            continue
                        # The folder's own listing says what it is: no stat.
                        if not entry.is_dir(follow_symlinks=False):
                            keys.append(here + name)
                        elif shallow:
                            if is_segment(name):
                                yield here + name + "/"
                        else:
                            pending.append(here + name + "/")
            except (FileNotFoundError, NotADirectoryError):
                continue  # no folder, no keys
            except OSError as error:
                self._fail("list", prefix, error)
            start = ""
            yield from _only_keys(keys)

    def _open_temp(self, folder: str, temp: str, key: str) -> int:
        try:
            for _ in range(_TRIES):
                with suppress(FileNotFoundError):
                    return os.open(temp, _WRITE_NEW, 0o666)
                # Almost never missing, so not looked for before; and an empty one may be removed
                # between these two lines.
                self._make_folder(folder)
            return os.open(temp, _WRITE_NEW, 0o666)
        except OSError as error:
            self._fail("create", key, error)

    def _make_folder(self, folder: str) -> None:
        parent = os.path.dirname(folder)
        with suppress(FileExistsError):  # somebody else makes it too
            try:
                os.mkdir(folder)
            except FileNotFoundError:
                self._make_folder(parent)
                os.mkdir(folder)
        if self.durable:
            _fsync_folder(parent)

    def _fill(self, fd: int, key: str, data: bytes | BinaryIO) -> None:
        """Write all of ``data`` to a temp file, and close it whatever happens."""
        pieces = (data,) if isinstance(data, bytes) else _pieces(data)
        try:
            for piece in pieces:  # what a stream raises is the caller's, unchanged
                try:
                    _write(fd, piece)
                except OSError as error:
                    self._fail("create", key, error)
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        try:
            _finish(fd, durable=self.durable)
        except OSError as error:
            self._fail("create", key, error)

    def _place(self, temp: str, path: str, key: str, *, repair: bool) -> None:
        """Give the temp file the final name, or raise `KeyExistsError`."""
        try:
            for _ in range(_TRIES):
                with suppress(FileExistsError):
                    self._link(temp, path)
                    return
                # NFS: the server linked, its answer was lost, and the client asked again. The
                # second link counts, whatever the error says: nobody else knows the temp name.
                if os.stat(temp).st_nlink == 2:
                    return
                with suppress(FileNotFoundError):  # taken a moment ago, and gone: again
                    if self._is_copy(temp, path):
                        if repair:  # a blob that is about to be named: no longer litter
                            with suppress(OSError):
                                os.utime(path)
                        return
                    if repair:
                        os.replace(temp, path)
                        return
                    raise KeyExistsError(
                        f"{key} in {self.url} holds other bytes already: read it to see whose.",
                        key=key,
                        url=self.url,
                    )
        except OSError as error:
            self._fail("create", key, error)
        raise StorageError(
            f"Cannot create {key} in {self.url}: its name is taken by something that cannot be "
            f"opened. A link that leads nowhere? Move it away.",
            key=key,
            url=self.url,
        )

    def _link(self, temp: str, path: str) -> None:
        try:
            os.link(temp, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        else:
            return
        fd = os.open(path, _WRITE_NEW, 0o666)
        try:
            try:
                with open(temp, "rb") as source:
                    for piece in _pieces(source):
                        _write(fd, piece)
                if self.durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            # The name is ours, and what it leads to may be short: better that it is free again.
            with suppress(OSError):
                os.unlink(path)
            raise

    def _is_copy(self, temp: str, path: str) -> bool:
        with open(temp, "rb") as mine, open(path, "rb") as other:
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
            _fsync_folder(folder)
            if folder in anchored:
                return
            # A folder that was there may be another writer's of a moment ago, who has not come
            # to fsync its name yet: our object would be on the disk, and the way to it not.
            above, passed = folder, []
            while len(above) > len(self.url) and above not in anchored:
                passed.append(above)
                above = os.path.dirname(above)
                _fsync_folder(above)
        except OSError as error:
            self._fail("make durable", key, error)
        if len(anchored) >= _ANCHORS:
            anchored.clear()
        anchored.update(passed)

    def _error(self, verb: str, key: str, error: OSError) -> StorageError:
        code = error.errno
        if verb == "read" and code in _NOT_THERE:
            missing = KeyMissingError(f"There is no {key} in {self.url}.", key=key, url=self.url)
            missing.__cause__ = error
            return missing
        advice = _ADVICE.get(code or 0, "See the error of the operating system.")
        failed = StorageError(
            f"Cannot {verb} {key or 'the keys'} in {self.url}: {error.strerror or error}. {advice}",
            key=key,
            url=self.url,
            errno=code,
        )
        failed.__cause__ = error
        return failed

    def _fail(self, verb: str, key: str, error: OSError) -> NoReturn:
        if isinstance(error, StorageError):  # said already, deeper down
            raise error
        raise self._error(verb, key, error) from error


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(CHUNK_BYTES):
        yield piece


def _write(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):  # 2 GiB at most at a time, and less when a disk fills or a limit nears
        done += os.write(fd, memoryview(data)[done:])


def _finish(fd: int, *, durable: bool) -> None:
    try:
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)  # NFS and quotas report a full disk only here


def _read_whole(fd: int) -> bytes:
    try:
        data = os.read(fd, _BUFFER)
        if len(data) < _BUFFER:
            return data
        pieces = [data]
        while data := os.read(fd, CHUNK_BYTES):
            pieces.append(data)
        return b"".join(pieces)
    finally:
        os.close(fd)


def _fsync_folder(folder: str) -> None:
    fd = os.open(folder, _READ)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
    finally:
        os.close(fd)


def _only_keys(keys: Sequence[str]) -> Iterator[str]:
    # One look at all of them together; one by one only if somebody put a strange file there.
    if not os.fsencode("".join(keys)).translate(None, _LEGAL_BYTES):
        return iter(keys)
    return (key for key in keys if not os.fsencode(key).translate(None, _LEGAL_BYTES))
