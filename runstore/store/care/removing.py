"""Removing a whole run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from runstore import keys
from runstore.bodies import parse_attempt
from runstore.errors import (
    DamagedError,
    KeyMissingError,
    RefusedError,
    RunNotFoundError,
)
from runstore.framing import parse_pack
from runstore.records import End, Start
from runstore.storage import Storage
from runstore.storage.removing import Removing
from runstore.store.holder import is_dead

__all__ = ["in_order", "open_attempts", "remove_run", "removing"]

_LISTED = 5


def removing(storage: Storage) -> Removing:
    """The same storage, as one that can delete.

    :raises RefusedError: if it cannot.
    """
    if not isinstance(storage, Removing):
        raise RefusedError(f"{storage.url} is read-only: nothing can be removed from it")
    return storage


def open_attempts(storage: Storage, run_id: str) -> list[str]:
    """Attempts that began, did not end, and whose writer is not known to be dead; for people.

    Needs no record of the run itself. Cost: a listing, and one read for each such attempt; if there
    is one, another listing, and a read for each pack.
    """
    prefix = keys.run_prefix(run_id)
    begun: dict[tuple[str, int], str] = {}
    ended: set[tuple[str, int]] = set()
    for key in storage.list(prefix + keys.ATTEMPTS):
        parsed = keys.parse_attempt(key.rpartition("/")[2])
        if parsed is None:
            continue
        if parsed[2] == "end":
            ended.add(parsed[:2])
        else:
            begun[parsed[:2]] = key
    left = {which: key for which, key in begun.items() if which not in ended}
    if left:
        for key, data in storage.read_many(list(storage.list(prefix + keys.PACKS))):
            for framed in parse_pack(data, key)[1] if isinstance(data, bytes) else ():
                try:
                    record = parse_attempt(framed, key)
                except DamagedError:
                    continue
                if isinstance(record, End) and record.run_id == run_id:
                    left.pop((keys.encode(record.path), record.attempt), None)
    told = []
    for key, data in storage.read_many(list(left.values())):
        if isinstance(data, KeyMissingError):
            continue
        name, number, _ = keys.parse_attempt(key.rpartition("/")[2]) or ("", 0, "")
        start: Start | End | None = None
        if isinstance(data, bytes):
            with suppress(DamagedError):
                start = parse_attempt(data, key)
        if not isinstance(start, Start):
            told.append(f"attempt {number} at {name}, by somebody whose record cannot be read")
        elif not is_dead(start.by):
            told.append(f"attempt {number} at {start.path}, by {start.by} since {start.time}")
    return sorted(told)


def remove_run(storage: Storage, run_id: str, *, force: bool = False) -> int:
    """Delete everything of a run, or what an interrupted removal or import has left of one; how
    many objects that were.

    :param force: even if somebody is working on it.
    :raises RunNotFoundError: if there is nothing of it.
    :raises RefusedError: if attempts are in progress, naming them; nothing was removed then.

    run.json goes first, durably: from then on there is no run, and a crash leaves litter, which
    :class:`~runstore.store.care.Sweep` removes, but never a run that has forgotten some of its
    successes. The attempts go last: as long as there is one, nobody can make a run of this id that
    would take the remains for its own.
    """
    storage_ = removing(storage)
    if not force:
        busy = open_attempts(storage, run_id)
        if busy:
            more = f", and {len(busy) - _LISTED} more" if len(busy) > _LISTED else ""
            raise RefusedError(
                f"run {run_id!r} is being worked on: in progress is {'; '.join(busy[:_LISTED])}"
                f"{more}. Wait for it, or, if that is dead, remove the run with --force",
                run_id=run_id,
            )
    found = list(storage.list(keys.run_prefix(run_id)))
    if not found:
        raise RunNotFoundError(
            f"there is no run {run_id!r} in {storage.url}: `runstore ls` lists those there are",
            run_id=run_id,
        )
    for phase in in_order(found):
        storage_.remove(phase)
    return len(found)


def in_order(found: Iterable[str]) -> list[list[str]]:
    """The keys of a run in the order in which they may be removed: each list durably before the
    next one is begun."""
    first: list[str] = []
    between: list[str] = []
    last: list[str] = []
    for key in found:
        rest = key.split("/", 2)[2]
        if rest == keys.RUN:
            first.append(key)
        elif rest.startswith(keys.ATTEMPTS):
            last.append(key)
        else:
            between.append(key)
    return [phase for phase in (first, between, last) if phase]
