"""Packing: many records in one object; and removing those that stand in one.

What may be removed, once a pack that was read back holds it byte for byte, and what stays. An
attempt is claimed, and ended, by creating a key that nobody else has created. So a key is a fence
as well as a record, and these stay where they are:

* the latest end of each path: it tells the next number to claim, and whoever still works on that
  attempt finds it taken. It also is what decides: a reader that listed the packs before the new
  one was there misses nothing that counts, and a pack that is damaged later costs nothing either;
* every end that somebody else wrote (a takeover): its zombie may come back, and must find it;
* the start of an attempt that has not ended: it holds the claim.

The rest - starts of attempts that have ended, and ends that a later attempt superseded - goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from runstore import keys
from runstore.bodies import parse_attempt
from runstore.errors import DamagedError, KeyMissingError
from runstore.framing import parse_pack, to_pack, unframe
from runstore.records import End, Start
from runstore.storage.removing import Removing
from runstore.store.care.removing import removing
from runstore.store.run import Run

__all__ = ["PACK_BYTES", "Packed", "pack_run"]

PACK_BYTES = 64 << 20
"""A pack is held in memory to be read: more than this goes into several."""

_AT_ONCE = 1000


@dataclass(slots=True)
class Packed:
    """What packing did."""

    packs: list[str] = field(default_factory=list)
    """Keys of the packs that were made."""
    records: int = 0
    """Records in them."""
    before: int = 0
    """Records that stood in a pack already."""
    removed: int = 0
    """Loose records that were removed."""
    problems: list[str] = field(default_factory=list)
    """Records and packs that are damaged, and were left alone."""


class _Held(NamedTuple):
    """A record in a pack."""

    digest: str
    taken_over: bool


def pack_run(run: Run, *, prune: bool = False) -> Packed:
    """Put all loose records that no pack holds into a new pack, and rewrite nothing.

    :param prune: then remove loose records that a pack holds; which, this module's text says. Every
        pack is read again for it, and every record that is to go is compared with it.
    :raises StorageError: if the storage fails. At whatever point: no record is lost, and doing it
        again goes on.

    Cost: two listings, one read for each pack, one for each loose record that is in none, one
    create. With ``prune`` two listings more, one read for each pack and for each record that is to
    go, and its removal. Memory: a pack, and some 300 bytes a record.
    """
    if prune:
        removing(run.storage)  # before anything is written
    done = Packed()
    held = _held(run, done)
    done.before = len(held)
    for data, count in _packs(run, held, done):
        framed, digest = to_pack(run.run_id, data)
        key = keys.pack_key(run.run_id, digest)
        run.storage.create(key, framed, repair=True)  # a damaged one of this name is made good
        done.packs.append(key)
        done.records += count
    if prune:
        done.problems.clear()  # they are found again
        _prune(run, done)
    return done


def _held(run: Run, done: Packed) -> dict[str, _Held]:
    """Key -> record, of all that stands in packs of this run that are whole."""
    prefix = keys.run_prefix(run.run_id)
    origin = (run.record.origin or {}).get("pack")
    held: dict[str, _Held] = {}
    packs = [
        key
        for key in run.storage.list(prefix + keys.PACKS)
        if key != f"{prefix}{keys.PACKS}{origin}.json"  # of other runs
    ]
    for key, data in run.storage.read_many(packs):
        if not isinstance(data, bytes):
            raise data
        run_id, records, problems = parse_pack(data, key)
        if not problems and key != keys.pack_key(run.run_id, data[11:75].decode()):
            problems.append(f"pack {key} is not of its name")
        if problems or run_id != run.run_id:
            done.problems.extend(problems or [f"pack {key} belongs to run {run_id!r}"])
            continue
        try:
            # Each one's own digest too: the pack's says nothing of how it was put together.
            parsed = [parse_attempt(framed, key) for framed in records]
        except DamagedError as error:
            done.problems.append(str(error))
            continue
        for record in parsed:
            if record.run_id == run.run_id:
                taken_over = isinstance(record, End) and record.ended_by is not None
                held[_key(record)] = _Held(record.digest, taken_over)
    return held


def _packs(run: Run, held: dict[str, _Held], done: Packed) -> Iterator[tuple[list[bytes], int]]:
    """The loose records that no pack holds, some at a time, in the order of their names."""
    listed = run.storage.list(keys.run_prefix(run.run_id) + keys.ATTEMPTS)
    wanted = sorted(key for key in listed if key not in held)
    batch: list[tuple[str, bytes]] = []
    size = 0
    for key, data in run.storage.read_many(wanted):
        if isinstance(data, KeyMissingError):
            continue
        if not isinstance(data, bytes):
            raise data
        try:
            record = parse_attempt(data, key)
        except DamagedError as error:
            done.problems.append(str(error))
            continue
        if record.run_id != run.run_id or _key(record) != key:
            done.problems.append(f"record {key} is of {record.path!r} in run {record.run_id!r}")
            continue
        batch.append((key, data))
        size += len(data)
        if size >= PACK_BYTES:
            yield _sorted(batch), len(batch)
            batch, size = [], 0
    if batch:
        yield _sorted(batch), len(batch)


def _sorted(batch: list[tuple[str, bytes]]) -> list[bytes]:
    batch.sort()  # the same records make the same pack
    return [data for _, data in batch]


def _key(record: Start | End) -> str:
    which = "end" if isinstance(record, End) else "start"
    return keys.attempt_key(record.run_id, record.path, record.attempt, which)  # type: ignore[arg-type]


def _prune(run: Run, done: Packed) -> None:
    storage = removing(run.storage)
    held = _held(run, done)
    loose = list(run.storage.list(keys.run_prefix(run.run_id) + keys.ATTEMPTS))
    going = list(_superfluous(loose, held))
    # Starts before ends, durably: a start alone would look like an attempt in progress.
    for which in (".start.json", ".end.json"):
        _remove(run, storage, held, [key for key in going if key.endswith(which)], done)


def _remove(
    run: Run, storage: Removing, held: dict[str, _Held], going: list[str], done: Packed
) -> None:
    """Remove records, each compared with what the pack holds."""
    batch: list[str] = []
    for key, data in run.storage.read_many(going):
        if isinstance(data, KeyMissingError):
            continue
        if not isinstance(data, bytes):
            raise data
        try:
            _, digest = unframe(data, key)
        except DamagedError as error:
            done.problems.append(str(error))
            continue
        if digest != held[key].digest:
            done.problems.append(f"record {key} is not the one that a pack holds")
            continue
        batch.append(key)
        if len(batch) >= _AT_ONCE:
            storage.remove(batch)
            done.removed += len(batch)
            batch = []
    storage.remove(batch)
    done.removed += len(batch)


def _superfluous(loose: list[str], held: dict[str, _Held]) -> Iterator[str]:
    latest: dict[str, int] = {}
    parsed = {}
    for key in [*loose, *held]:
        found = keys.parse_attempt(key.rpartition("/")[2])
        if found is not None:
            parsed[key] = found
            latest[found[0]] = max(latest.get(found[0], 0), found[1])
    there = set(loose)
    for key in loose:
        if key not in held or key not in parsed:
            continue
        name, number, which = parsed[key]
        superseded = number < latest[name]
        if which == "start":
            end = key.removesuffix("start.json") + "end.json"
            if end in there or (superseded and end in held):
                yield key
        elif superseded and not held[key].taken_over:
            yield key
