"""Removing a whole run."""

from __future__ import annotations

from contextlib import suppress

from runstore.errors import (
    DamagedError,
    FormatVersionError,
    KeyMissingError,
    RefusedError,
)
from runstore.records import End, RunRecord, Start, keys
from runstore.records.codec import parse, parse_attempt
from runstore.storage import Storage
from runstore.storage.capabilities import Removing
from runstore.store.create import not_found
from runstore.store.process import is_dead

__all__ = ["open_attempts", "remove_run", "removing"]

_LISTED = 5


def removing(storage: Storage) -> Removing:
    """The same storage, as one that can delete.

    :raises RefusedError: if it cannot.
    """
    if not isinstance(storage, Removing):
        raise RefusedError(f"{storage.url} is read-only: nothing can be removed from it")
    return storage


def open_attempts(storage: Storage, prefix: str) -> list[str]:
    """Attempts that began, did not end, and whose writer is not known to be dead; for people.

    :param prefix: of a run, as :func:`runstore.records.keys.run_prefix` gives it;
        ``run.json`` is not read.

    Cost: a listing, and one read for each such attempt.
    """
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
    """Delete a run; how many objects that were.

    :param force: even if somebody is working on it.
    :raises RunNotFoundError: if there is none of this id.
    :raises RefusedError: if attempts are in progress, naming them; nothing was removed then.

    ``run.json`` goes first, durably: with it the run is gone, and whoever works on it finds that
    out at its next write. What else there was of it goes then. A crash in between leaves litter,
    which :class:`~runstore.upkeep.Sweep` removes; so it does with what is left of a run whose
    ``run.json`` is damaged, as nobody can tell what belongs to it.
    """
    storage_ = removing(storage)
    key = keys.run_key(run_id)
    try:
        record = parse(storage.read(key), key)
    except KeyMissingError:
        error = not_found(storage, run_id)
        left = "and `runstore gc` removes what is left of those that were removed"
        raise error.reworded(advice=f"{error.advice}, {left}") from None
    except FormatVersionError:
        raise
    except DamagedError:
        record = None
    prefix = keys.run_prefix(run_id, record.nonce) if isinstance(record, RunRecord) else ""
    if not force:
        if not prefix:
            raise RefusedError(
                f"run {run_id!r} is not removed: its record is damaged, so whether somebody works "
                "on it cannot be told",
                advice="remove it with --force",
                run_id=run_id,
            )
        busy = open_attempts(storage, prefix)
        if busy:
            more = f", and {len(busy) - _LISTED} more" if len(busy) > _LISTED else ""
            raise RefusedError(
                f"run {run_id!r} is being worked on: in progress is "
                f"{'; '.join(busy[:_LISTED])}{more}",
                advice="wait for it, or, if that is dead, remove the run with --force",
                run_id=run_id,
            )
    found = list(storage.list(prefix)) if prefix else []
    storage_.remove([key])
    storage_.remove(found)
    return 1 + len(found)
