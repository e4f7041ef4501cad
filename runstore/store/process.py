"""Who writes, and whether another writer still lives.

A writer is known to be dead if all of this is certain, and else it is not:

1. its record was made under the kernel, and in the PID and time namespaces, that are asked here:
   host name, boot id and the namespaces are the same. So containers that share a host name do not
   judge one another. (The number of a namespace is given again when that namespace has ended, and
   all processes in it with it);
2. it ran on this machine, and not on a copy of it: a machine that is cloned with its memory has the
   boot id and the pids of the other. So each process leaves a mark, a random text, on this
   machine's own disk, and its records name it: where it is not found, it may live elsewhere;
3. the kernel says that there is no such process (pid and start time), or that it has ended.

What this rests on: ``/var/tmp`` and ``/dev/shm`` are this machine's own. A process that was running
when its machine was cloned is two processes of one mark, which nothing tells apart.
"""

from __future__ import annotations

import functools
import os
import socket
import stat
from typing import Protocol

from runstore.records import Holder

__all__ = ["Liveness", "current_process", "is_dead", "release", "was_released"]

_PLACES = ["/var/tmp", "/dev/shm"]
"""Where marks are left: the first that can be written to, which the other processes of this machine
see too. Not in the home of a user, which several machines may share."""

_released: set[str] = set()


class Liveness(Protocol):
    """Who can tell whether writers live that this machine knows nothing of: a scheduler, a cluster.
    For processes of this machine the kernel is asked (:func:`is_dead`)."""

    def is_alive(self, holder: Holder) -> bool | None:
        """``False`` only where it is certain that it writes no more; ``None``: not known."""


def current_process() -> Holder:
    """This process, as its records name it. Cached for each process; a fork asks anew."""
    return _holder(os.getpid())


@functools.lru_cache(maxsize=2)
def _holder(pid: int) -> Holder:
    pod = uid = None
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        # Of the downward API, where the pod's manifest passes them on under these names.
        pod = os.environ.get("POD_NAME") or os.environ.get("HOSTNAME")
        uid = os.environ.get("POD_UID")
    boot = _boot()
    seen = _stat(pid) if boot else None
    return Holder(
        socket.gethostname(), pid, seen and seen[1], boot, pod,
        _leave_mark() if boot else None, _user(), uid,
    )  # fmt: skip


def _user() -> str:
    """The name of the user this process runs as; the number, where there is no name for it."""
    user = os.geteuid()
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return str(user)


@functools.cache
def _boot() -> str | None:
    """The kernel's boot id, and the namespaces that pids and start times are counted in. ``None``
    if they are not known, or ``/proc`` tells of another PID namespace than this process's."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        # Kernels before 5.6 have one time for all.
        names = ["pid", "time"] if os.path.exists("/proc/self/ns/time") else ["pid"]
        spaces = [os.stat(f"/proc/self/ns/{name}").st_ino for name in names]
        return ".".join(map(str, [_boot_id(), *spaces]))
    except OSError:
        return None


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


os.register_at_fork(after_in_child=_holder.cache_clear)
os.register_at_fork(after_in_child=_boot.cache_clear)


def _leave_mark() -> str | None:
    """A new mark of this process, ``None`` if it can be left nowhere."""
    user = os.geteuid()
    mark = f"{user}-{os.urandom(12).hex()}"
    for place in _PLACES:
        try:
            path = _marks(place, user)
            try:
                os.mkdir(os.path.dirname(path), 0o755)
            except FileExistsError:
                found = os.lstat(os.path.dirname(path))
                if not stat.S_ISDIR(found.st_mode) or found.st_uid != user:
                    continue  # somebody else was here first: nothing in it is ours
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o644)
            try:
                os.write(fd, mark.encode() + b"\n")  # at once: what others append is not cut
            finally:
                os.close(fd)
            return mark
        except OSError:
            continue
    return None


def _is_left_here(mark: str) -> bool:
    user, _, _ = mark.partition("-")
    if not user.isascii() or not user.isdigit():
        return False
    wanted = mark.encode() + b"\n"
    for place in _PLACES:
        try:
            with open(_marks(place, int(user)), "rb", opener=_look) as file:
                # Nobody but that user can have left it.
                mine = os.fstat(file.fileno()).st_uid == int(user)
                if mine and any(line == wanted for line in file):
                    return True
        except (OSError, ValueError):
            continue
    return False


def _look(path: str, _flags: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _marks(place: str, user: int) -> str:
    """The file of the marks that a user's processes left since this machine was booted."""
    return f"{place}/runstore-{user}/{_boot_id()}"


def _stat(pid: int) -> tuple[bytes, int] | None:
    """State of a process, and when it started, in the kernel's ticks: fields 3 and 22 of
    ``/proc/<pid>/stat`` (proc(5)); the second, its name, may hold anything. ``None`` says nothing:
    there may be no such process, or no right to look (``hidepid``)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def is_dead(holder: Holder | None) -> bool:
    """Whether a writer is known to be dead: see above. Everything else is not known, and so it is
    not dead."""
    me = current_process()
    if holder is None or holder.boot is None or holder.pid is None or holder.pid_start is None:
        return False
    if holder.host != me.host or holder.boot != me.boot:
        return False
    if holder.mark is None or not _is_left_here(holder.mark):
        return False
    seen = _stat(holder.pid)
    if seen is not None:
        # A zombie has ended.
        return seen[1] != holder.pid_start or seen[0] in (b"Z", b"X")
    return _is_gone(holder.pid)


def _is_gone(pid: int) -> bool:
    """Whether the kernel says that there is no such process: nothing else is taken for it."""
    if pid <= 0:
        return False  # to kill(2) that is no process but a group
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def release(nonce: str) -> None:
    """Note that this process gave up an attempt, as its store failed: a retry in this process may
    take it over, although the process lives."""
    _released.add(nonce)


def was_released(nonce: str) -> bool:
    return nonce in _released
