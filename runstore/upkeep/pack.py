"""Packing: many records in one object. The records stay where they are: their names are what
attempts are claimed and ended by, and a name that was claimed stays taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from runstore.errors import DamagedError
from runstore.records import key_of, keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import to_pack
from runstore.storage import read_all
from runstore.store.judge import read_pack
from runstore.store.run import Run

__all__ = ["PACK_BYTES", "Packed", "pack_run"]

PACK_BYTES = 64 << 20
"""A pack is held in memory to be read: more than this goes into several."""


@dataclass(slots=True)
class Packed:
    """What packing did."""

    packs: list[str] = field(default_factory=list)
    """Keys of the packs that were made."""
    records: int = 0
    """Records in them."""
    before: int = 0
    """Records that stood in a pack already."""
    problems: list[str] = field(default_factory=list)
    """Records and packs that are damaged, and were left alone."""


def pack_run(run: Run) -> Packed:
    """Put all loose records that no pack holds into a new pack, and rewrite nothing.

    :raises StorageError: if the storage fails. At whatever point: no record is lost, and doing it
        again goes on.
    :raises RunRemovedError: if the run was removed meanwhile.

    Cost: two listings, one read for each pack, one for each loose record that is in none, one
    create. Memory: a pack, and some 200 bytes a record.
    """
    done = Packed()
    held = _held(run, done)
    done.before = len(held)
    for data, count in _packs(run, held, done):
        framed, digest = to_pack(run.run_id, run.record.nonce, data)
        key = keys.pack_key(run.prefix, digest)
        run.storage.create(key, framed, repair=True)  # a damaged one of this name is made good
        run.check_there()
        done.packs.append(key)
        done.records += count
    return done


def _held(run: Run, done: Packed) -> set[str]:
    """The keys of all that stands in packs of this run that are whole."""
    held: set[str] = set()
    packs = list(run.storage.list(run.prefix + keys.PACKS))
    for key, data in read_all(run.storage, packs):
        pack = read_pack(data, key, run.record)
        if pack.problems:
            done.problems.extend(pack.problems)
        if pack.problems or pack.is_origin:
            continue
        try:
            # Each one's own digest too: the pack's says nothing of how it was put together.
            parsed = [parse_attempt(framed, key) for framed in pack.records]
        except DamagedError as error:
            done.problems.append(error.problem)
            continue
        held.update(
            key_of(run.prefix, each) for each in parsed if each.run_nonce == run.record.nonce
        )
    return held


def _packs(run: Run, held: set[str], done: Packed) -> Iterator[tuple[list[bytes], int]]:
    """The loose records that no pack holds, some at a time, in the order of their names."""
    listed = run.storage.list(run.prefix + keys.ATTEMPTS)
    wanted = sorted(key for key in listed if key not in held)
    batch: list[tuple[str, bytes]] = []
    size = 0
    for key, data in read_all(run.storage, wanted, skip_missing=True):
        try:
            record = parse_attempt(data, key)
        except DamagedError as error:
            done.problems.append(error.problem)
            continue
        if record.run_nonce != run.record.nonce or key_of(run.prefix, record) != key:
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
