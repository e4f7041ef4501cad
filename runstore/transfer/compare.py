"""What two stores hold of one run: what one of them lacks, and where they contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runstore.errors import DamagedError, KeyMissingError, RecordDamagedError
from runstore.records import End, RunRecord, Start, key_of, keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import unframe
from runstore.storage import Storage, read_all
from runstore.store.judge import readable
from runstore.store.load import last_invocation

__all__ = ["FORK", "Divergence", "Side", "compare", "damaged_in", "describe"]

FORK = "; or fork the run, which leaves damaged attempts behind, and move the fork"
"""What helps with an attempt's record that nobody has a copy of."""


def damaged_in(url: str, error: RecordDamagedError) -> RecordDamagedError:
    """The error of a record that cannot be moved, with the store and all that helps."""
    return error.reworded(f"in {url}, {error.problem}", error.advice + FORK)


class Divergence(NamedTuple):
    """An attempt of which the two sides hold different records."""

    path: str
    attempt: int
    source: str
    """Who made it there, and what came of it."""
    target: str

    def __str__(self) -> str:
        return f"attempt {self.attempt} at {self.path} ({self.source}; {self.target})"


class Side:
    """One of the two: the names of what the run has there, and what packs tell. A name is a key
    below the run's prefix, or ``run.json``.

    :param there: whether ``run.json`` is there.

    Cost: one listing.
    """

    def __init__(self, storage: Storage, run: RunRecord, *, there: bool) -> None:
        self.storage = storage
        self.nonce = run.nonce
        self._own = keys.run_key(run.run_id)
        self.prefix = keys.run_prefix(run.run_id, run.nonce)
        self.keys = {key[len(self.prefix) :] for key in storage.list(self.prefix)}
        if there:
            self.keys.add(keys.RUN)
        self.packed: dict[str, tuple[bytes, str]] = {}
        """Key of an attempt's record -> its digest, and the pack it stands in."""

    def key(self, name: str) -> str:
        """The key of what has this name."""
        return self._own if name == keys.RUN else self.prefix + name

    def name(self, key: str) -> str:
        """The name of what has this key."""
        return keys.RUN if key == self._own else key[len(self.prefix) :]

    def last_invocation(self) -> int:
        """The highest number of an invocation. One read each."""
        names = [self.key(name) for name in self.keys if name.startswith(keys.INVOCATIONS)]
        return last_invocation(self.storage, names)

    def forget_torn(self) -> set[str]:
        """Forget the records and packs that are not what was written; their keys. One read each.

        For a run that is not whole yet: of one that is, a damaged record is an error.
        """
        torn = set()
        names = [name for name in self.keys if not name.startswith(keys.BLOBS)]
        for key, data in read_all(self.storage, [self.key(name) for name in names]):
            try:
                unframe(data, key)
            except RecordDamagedError:
                torn.add(self.name(key))
        self.keys -= torn
        return torn

    def packs(self) -> set[str]:
        return {key for key in self.keys if key.startswith(keys.PACKS)}

    def read_pack(self, key: str) -> None:
        """Learn what a pack holds. One read; the pack itself is not kept.

        :raises RecordDamagedError: if another pack holds another record of the same name.
        """
        # One that is damaged is in no pack, then: if it stands on its own it is read there.
        for _, record in readable(self.storage.read(self.prefix + key), key):
            if record.run_nonce != self.nonce:
                continue  # what a fork took over
            name, digest = key_of("", record), bytes.fromhex(record.digest)
            if self.packed.setdefault(name, (digest, key))[0] != digest:
                raise RecordDamagedError(
                    f"in {self.storage.url}, {self.prefix}{key} and {self.packed[name][1]} hold "
                    f"records of {name} that differ, and both cannot be true",
                    advice=f"restore what is right from a copy{FORK}",
                    key=self.prefix + key,
                )

    def attempts(self) -> set[str]:
        """Keys of attempts' records, in packs or on their own."""
        loose = {key for key in self.keys if key.startswith(keys.ATTEMPTS)}
        return loose.union(self.packed)

    def digests(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """Key -> digest. One read for each that is in no pack.

        :raises RecordDamagedError: naming the store, if one is not what was written.
        """
        found: dict[str, bytes] = {}
        unknown = []
        for key in wanted:
            if key in self.packed:
                found[key] = self.packed[key][0]
            else:
                unknown.append(self.prefix + key)
        for key, data in read_all(self.storage, sorted(unknown)):
            try:
                found[key[len(self.prefix) :]] = bytes.fromhex(unframe(data, key)[1])
            except RecordDamagedError as error:
                raise damaged_in(self.storage.url, error) from None
        return found

    def record(self, key: str) -> Start | End | None:
        """One attempt's record, parsed; ``None`` if it is not there, or not to be read."""
        try:
            return parse_attempt(self.storage.read(self.prefix + key), key)
        except DamagedError:
            return None
        except KeyMissingError:
            pass
        digest, pack = self.packed.get(key, (b"", ""))
        if pack:
            for _, record in readable(self.storage.read(self.prefix + pack), pack):
                if record.digest == digest.hex():
                    return record
        return None

    def said(self, stem: str) -> str:
        """Who made the attempt here, and what came of it, for people."""
        start, end = self.record(stem + keys.START), self.record(stem + keys.END)
        who = start.by if isinstance(start, Start) else None
        if not isinstance(end, End):
            return f"begun by {who or 'somebody unknown'} in {self.storage.url}"
        by = f", ended by {end.ended_by}" if end.ended_by else ""
        return f"{end.outcome}, by {who or 'somebody unknown'}{by} in {self.storage.url}"


def compare(source: Side, target: Side) -> list[Divergence]:
    """Every attempt that the two sides made under one number with different content.

    An attempt that is open on one side and has ended on the other is no contradiction.

    Cost: one read for each pack (one for both, if both have it), and two for each attempt that both
    have and no pack holds. None if one side has no attempts. Some 200 bytes of memory an attempt.
    """
    if not all(
        any(key.startswith((keys.ATTEMPTS, keys.PACKS)) for key in side.keys)
        for side in (source, target)
    ):
        return []
    both = source.packs() & target.packs()
    for key in both:
        source.read_pack(key)
    target.packed.update(source.packed)
    for side in (source, target):
        for key in side.packs() - both:
            side.read_pack(key)

    here, there = source.attempts(), target.attempts()
    ends = {key for key in here & there if key.endswith(keys.END)}
    # An end names its start: where both have the same end, their starts are the same.
    starts = {
        key
        for key in here & there
        if key.endswith(keys.START) and key.removesuffix(keys.START) + keys.END not in ends
    }
    common = ends | starts
    mine, theirs = source.digests(common), target.digests(common)
    stems = {_stem(key) for key in common if mine[key] != theirs[key]}
    stems.update(_mismatched(source, target, here, there))
    stems.update(_mismatched(target, source, there, here))
    return sorted(describe(source, target, stem) for stem in stems)


def _mismatched(one: Side, other: Side, here: set[str], there: set[str]) -> list[str]:
    """Attempts of which one side has only the end, and the other only a start that is not its."""
    found = []
    for key in here - there:
        stem = key.removesuffix(keys.END)
        start = stem + keys.START
        if stem != key and start not in here and start in there:
            end, begun = one.record(key), other.record(start)
            if isinstance(end, End) and begun is not None and end.start not in (None, begun.digest):
                found.append(stem)
    return found


def _stem(key: str) -> str:
    return key.removesuffix(keys.START).removesuffix(keys.END)


def describe(source: Side, target: Side, key: str) -> Divergence:
    """The attempt that a record's key is of, as both sides have it. A few reads."""
    stem = _stem(key)
    name, _, number = stem[len(keys.ATTEMPTS) :].rpartition(".")
    for side in (source, target):
        for which in (keys.START, keys.END):
            if (record := side.record(stem + which)) is not None:
                name = record.path
    return Divergence(name, int(number), source.said(stem), target.said(stem))
