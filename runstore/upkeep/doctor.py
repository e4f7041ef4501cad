"""What `runstore doctor URL` finds out about a place for stores."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from runstore.errors import KeyMissingError
from runstore.storage import Storage, open_storage
from runstore.storage.local import LocalStorage
from runstore.storage.local_disk import how_named
from runstore.storage.probe import create_again, new_probe
from runstore.version import __version__

__all__ = ["Finding", "examine"]

_READS = 5
_CLOCK_SECONDS = 5.0
"""Objects carry the time of the server to the second; what is beyond this is a wrong clock."""

_Got = TypeVar("_Got")


class Finding(NamedTuple):
    """One line: ``ok`` is ``None`` for what is neither good nor bad. ``facts`` are for programs:
    milliseconds, seconds, versions."""

    name: str
    ok: bool | None
    detail: str
    facts: Mapping[str, Any]


def examine(
    url: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    engine: str | None = None,
    budget: float = 15.0,
) -> list[Finding]:
    """Try out what a store needs there: create, create exclusively, read, list, and the clock.

    Leaves one small object under ``probe/``; on a disk, a file. Never raises for what the storage
    does: an open or a create that fails is the last finding.

    Cost: some ten requests, and at most ``budget`` seconds for each.
    """
    findings: list[Finding] = []
    try:
        storage = open_storage(url, storage_options=storage_options, engine=engine, budget=budget)
        findings.append(_engine(storage))
        _try_out(storage, findings)
    except OSError as error:
        findings.append(Finding("usable", False, str(error), {"error": type(error).__name__}))
    return findings


def _try_out(storage: Storage, findings: list[Finding]) -> None:
    key, body = new_probe()
    before = time.time()
    milliseconds, _ = _timed(lambda: storage.create(key, body))
    after = time.time()
    findings.append(_took("create", milliseconds))
    found = create_again(storage, key, body)
    detail = found.detail
    if not found.exclusive:
        detail += (
            ": of two writers both would win. Only with single_writer=True, and nobody else writing"
        )
    findings.append(Finding("exclusive", found.exclusive, detail, {}))
    if isinstance(storage, LocalStorage):
        how = how_named(storage.url)
        findings.append(
            Finding("whole", None if how == "in place" else True, _WHOLE[how], {"by": how})
        )
    reads = [_timed(lambda: storage.read(key)) for _ in range(_READS)]
    wrong = "" if reads[-1][1] == body else "reads other bytes than it wrote"
    findings.append(_took("read", min(each[0] for each in reads), wrong))
    milliseconds, listed = _timed(lambda: list(storage.list(key[:20])))
    wrong = "" if listed == [key] else "does not list what was just made"
    findings.append(_took("list", milliseconds, wrong))
    if clock := _clock(storage, key, before, after):
        findings.append(clock)


_WHOLE = {
    "link": "an object appears whole, by a hard link",
    "rename": "an object appears whole, by a rename to a free name (no hard links here)",
    "in place": "neither hard links nor renames to a free name here: an object is written under "
    "its own name. Only one writer makes it, and readers wait for a writer who lives; but a kill "
    "or a power cut can leave a part of a record, which is damage, with its name taken",
}
"""How a disk sees to it that nobody meets a part of an object."""


def _clock(storage: Storage, key: str, before: float, after: float) -> Finding | None:
    """How far the clock of the storage is ahead of ours, from the time of the new object."""
    info = getattr(storage, "info", None)
    try:
        modified = info(key).modified if info else None
    except KeyMissingError:
        return None
    if modified is None:
        return None
    at = modified.replace(tzinfo=modified.tzinfo or UTC).timestamp()
    # Whole seconds are cut off, so that the object may seem a second older than it is.
    offset = min(at - before, 0.0) if at < before else max(at - after, 0.0)
    ok = abs(offset) <= _CLOCK_SECONDS
    detail = f"{offset:+.1f} s" if abs(offset) > 1 else "the same to a second"
    if not ok:
        detail += ": set the clock of this machine, signatures and takeovers go by it"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Finding("clock", ok, detail, {"seconds": offset, "now": now})


def _engine(storage: Storage) -> Finding:
    engine = getattr(storage, "engine", None)
    name = engine.name if engine else type(storage).__name__.removesuffix("Storage").lower()
    versions = dict(engine.versions()) if engine else {}
    versions["runstore"] = __version__
    versions["python"] = platform.python_version()
    detail = f"{name} ({', '.join(f'{each} {number}' for each, number in versions.items())})"
    return Finding("engine", None, detail, {"engine": name, "versions": versions})


def _timed(call: Callable[[], _Got]) -> tuple[float, _Got]:
    began = time.perf_counter()
    got = call()
    return (time.perf_counter() - began) * 1000, got


def _took(name: str, milliseconds: float, wrong: str = "") -> Finding:
    detail = wrong or f"{milliseconds:.1f} ms"
    return Finding(name, not wrong, detail, {"milliseconds": milliseconds})
