"""Removing a whole run."""

from __future__ import annotations

from contextlib import suppress

from runstore.errors import DamagedError, FormatVersionError, KeyMissingError, RefusedError
from runstore.records import End, RunRecord, Start, keys
from runstore.records.codec import parse, parse_attempt
from runstore.storage import Storage
from runstore.storage.capabilities import Removing
from runstore.store.process import is_dead
from runstore.store.run_record import not_found

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
    listed = set(storage.list(prefix + keys.ATTEMPTS))
    starts = [key for key in listed if key.endswith(keys.START)]
    left = [key for key in starts if key.removesuffix(keys.START) + keys.END not in listed]
    told = []
    for key, data in storage.read_many(left):
        if isinstance(data, KeyMissingError):
            continue
        start: Start | End | None = None
        if isinstance(data, bytes):
            with suppress(DamagedError):
                start = parse_attempt(data, key)
        if not isinstance(start, Start):
            told.append(f"the attempt of {key}, which cannot be read")
        elif not is_dead(start.by):
            at = f"attempt {start.attempt} at {start.path}"
            told.append(f"{at}, by {start.by} since {start.time}")
    return sorted(told)


def remove_run(storage: Storage, run_id: str, *, force: bool = False) -> int:
    """Delete a run; how many objects that were.

    :param force: even if somebody is working on it.
    :raises RunNotFoundError: if there is none of this id.
    :raises RefusedError: if attempts are in progress, naming them; nothing was removed then.

    ``run.json`` goes first, durably: with it the run is gone, and whoever works on it finds that
    out at its next write. :class:`~runstore.upkeep.Sweep` removes what a crash in between leaves,
    and the rest of a run whose ``run.json`` is damaged, as nobody can tell what belongs to it.
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
