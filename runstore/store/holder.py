"""Who writes, and whether another writer still lives."""

from __future__ import annotations

import functools
import os
import socket

from runstore.records import Holder

__all__ = ["abandon", "is_dead", "myself", "was_abandoned"]

_abandoned: set[str] = set()


def myself() -> Holder:
    """This process, as its records name it. Cached for each process; a fork asks anew."""
    return _holder(os.getpid())


@functools.lru_cache(maxsize=2)
def _holder(pid: int) -> Holder:
    pod = None
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        pod = os.environ.get("POD_NAME") or os.environ.get("HOSTNAME")
    return Holder(socket.gethostname(), pid, _started(pid), _boot(), pod)


@functools.cache
def _boot() -> str | None:
    """The kernel's boot id and the namespace pids are counted in: containers share the first."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks: tells a process from a later one of its pid.

    Field 22 of ``/proc/<pid>/stat`` (proc(5)); the second one, the name, may hold anything.
    """
    seen = _stat(pid)
    return seen[1] if seen else None


def _stat(pid: int) -> tuple[bytes, int] | None:
    """State and start of a process, as far as they can be read. ``None`` says nothing: there may be
    no such process, or no more file handles, or no right to look (``hidepid``)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def is_dead(holder: Holder | None) -> bool:
    """Whether a writer is known to be dead: the same host and boot, and the kernel knows no such
    process. Everything else is not known, and so not dead."""
    me = myself()
    if holder is None or holder.boot is None or holder.pid is None or holder.pid_start is None:
        return False
    if holder.host != me.host or holder.boot != me.boot:
        return False
    seen = _stat(holder.pid)
    if seen is not None:
        # A zombie has ended, and only waits for its parent to ask how.
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


def abandon(nonce: str) -> None:
    """This process gave up an attempt it could not end (its store failed): whoever resumes in this
    very process may take it over, although the process lives."""
    _abandoned.add(nonce)


def was_abandoned(nonce: str) -> bool:
    return nonce in _abandoned
