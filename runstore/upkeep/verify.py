"""Reading everything of a run, to find what is damaged or missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from runstore.errors import BlobMissingError, DamagedError, KeyMissingError, StorageError
from runstore.records import Blob, End, Invocation, Marker, RunRecord, Start, key_of, keys
from runstore.records.codec import parse, parse_attempt
from runstore.records.framing import log_in_pack
from runstore.store.blobs import Blobs
from runstore.store.judge import Ended, is_of, read_pack
from runstore.store.view import RunReader

__all__ = ["Checked", "named_blobs", "verify"]


_AT_ONCE = 512
_CONTRADICTS = "both cannot be true"


class Checked(NamedTuple):
    """One object that was read, or that was to be there."""

    key: str
    problem: str | None = None
    """``None``: it is as it was written. Of an object that is unreadable, with what to do."""
    state: Literal["whole", "damaged", "missing", "unreadable", "left out"] = "whole"
    """``unreadable``: the storage would not give it; what it holds is not known. ``left out``: a
    log that is not there, as after an export without logs; nothing but people reads it."""


class _Named(NamedTuple):
    """The blobs that records name."""

    blobs: dict[str, Blob]
    needed: set[str]
    """Digests of those that are more than a log."""
    logs_in_pack: set[str]
    """Digests of the logs that stand in the pack of what a fork took over."""


def verify(run: RunReader) -> Iterator[Checked]:
    """Every object of a run, the blobs that it names and that are missing, and the store's marker.

    Records that contradict each other are damaged, wherever they stand: an end that is not of the
    start beside it, two ends or two starts of one attempt that differ. A missing marker is no
    damage (the next run makes one), nor is a missing log, which an export or a copy left out.

    :raises RunRemovedError: at the end, if the run was removed meanwhile.

    Reads every record whole, packs one after the other, and every blob in pieces. Memory: the
    largest pack (64 MiB), some 100 bytes for each object, and 300 more for each attempt's record if
    there are packs.
    """
    check = _Check(run)
    blobs: dict[str, None] = {}
    records: list[str] = []
    packs: list[str] = []
    for key in run.storage.list(run.prefix):
        rest = key[len(run.prefix) :]
        if rest.startswith(keys.BLOBS):
            blobs[keys.name_in(rest)] = None
        elif rest.startswith(keys.PACKS):
            packs.append(key)
        else:
            records.append(key)
    records.sort()
    check.compares = bool(packs)
    own = keys.run_key(run.run_id)
    yield from check.each([keys.MARKER, own])
    at = 0
    while at < len(records):
        upto = at + _AT_ONCE
        # An end is read with the start beside it, which is the next name.
        upto += upto < len(records) and records[upto - 1].endswith(keys.END)
        yield from check.each(records[at:upto])
        at = upto
    for key in sorted(packs):
        yield from check.each([key])
    reader = Blobs(run.storage, run.prefix)
    for sha256 in sorted({*blobs, *check.named.blobs}):
        key = reader.key(sha256)
        try:
            reader.check(check.named.blobs.get(sha256, Blob(sha256, 0)))
        except (DamagedError, StorageError) as error:
            missing = isinstance(error, BlobMissingError)
            if missing and sha256 in check.named.logs_in_pack:
                continue
            if missing and sha256 not in check.named.needed:
                yield Checked(key, None, "left out")
            else:
                told = str(error) if isinstance(error, StorageError) else error.problem
                yield Checked(key, told, _state(error))
        else:
            yield Checked(key)
    if run.record.digest:  # of one that is damaged only remains are read
        run.check_there("not all of it was checked")


def named_blobs(run: RunReader) -> set[str]:
    """The digests of all blobs that the records of a run name, but for logs that stand in a pack.
    Reads all but the blobs; what is damaged names none."""
    check = _Check(run)
    below = run.prefix + keys.BLOBS
    wanted = [key for key in run.storage.list(run.prefix) if not key.startswith(below)]
    for _ in check.each([keys.run_key(run.run_id), *wanted]):
        pass
    return set(check.named.blobs) - check.named.logs_in_pack


def _state(error: DamagedError | StorageError) -> Literal["damaged", "missing", "unreadable"]:
    if isinstance(error, StorageError):
        return "unreadable"
    return "missing" if isinstance(error, BlobMissingError) else "damaged"


class _Pairs(NamedTuple):
    """Ends and starts that were read together, by their keys."""

    ends: dict[str, Ended]
    starts: dict[str, tuple[str, str]]
    """Digest and nonce."""


class _Check:
    """Checks records one by one, and each against those before it."""

    def __init__(self, run: RunReader) -> None:
        self.run = run
        self.named = _Named({}, set(), set())
        self.compares = False
        """Whether there are packs, which may hold other records than those of their own name."""
        self._seen: dict[str, bytes] = {}
        """Key of an attempt's record -> :func:`_said` of the one that was seen."""

    def each(self, wanted: list[str]) -> Iterator[Checked]:
        found: dict[str, Checked] = {}
        pairs = _Pairs({}, {})
        for key, data in self.run.storage.read_many(wanted):
            if isinstance(data, bytes):
                problem = self._problem(key, data, pairs)
                found[key] = Checked(key, problem, "damaged" if problem else "whole")
            elif not isinstance(data, KeyMissingError):
                found[key] = Checked(key, str(data), "unreadable")
            elif key != keys.MARKER:
                found[key] = Checked(key, str(data), "missing")
        for key, end in pairs.ends.items():
            start = pairs.starts.get(key.removesuffix(keys.END) + keys.START)
            if start is not None and not is_of(end, *start):
                problem = f"record {key} is not the end of the start beside it, and {_CONTRADICTS}"
                found[key] = Checked(key, problem, "damaged")
        yield from found.values()

    def _problem(self, key: str, data: bytes, pairs: _Pairs) -> str | None:
        run = self.run
        rest = key.removeprefix(run.prefix)
        if rest.startswith(keys.PACKS):
            return self._pack(key, data)
        try:
            record = (parse_attempt if rest.startswith(keys.ATTEMPTS) else parse)(data, key)
        except DamagedError as error:
            return error.problem
        if key == keys.MARKER:
            whole = isinstance(record, Marker)
            return None if whole else f"record {key} is not the store's marker"
        if isinstance(record, Marker):
            return f"record {key} is the marker of a store: it was moved"
        self._note(record)
        if isinstance(record, RunRecord):
            if key != keys.run_key(run.run_id):
                return f"record {key} is of a run itself: it was moved"
            ours = record.digest == run.record.digest
            return None if ours else f"record {key} was replaced while it was checked"
        if record.run_nonce != run.record.nonce:
            return f"record {key} belongs to another run, {record.run_id!r} ({record.run_nonce})"
        if isinstance(record, Invocation):
            if rest != f"{keys.INVOCATIONS}{record.id}.json":
                return f"record {key} is invocation {record.id!r}: it was moved"
            return None
        if key != key_of(run.prefix, record):
            return f"record {key} is of attempt {record.attempt} at {record.path!r}: it was moved"
        if isinstance(record, End):
            pairs.ends[key] = Ended(record.start, record.nonce, record.outcome)
        else:
            pairs.starts[key] = record.digest, record.nonce
        if self.compares:
            self._seen[key] = _said(record)
        return None

    def _pack(self, key: str, data: bytes) -> str | None:
        run = self.run
        pack = read_pack(data, key, run.record)
        problems = pack.problems
        consequences = bool(problems)
        for framed in pack.records:
            try:
                record = parse_attempt(framed, key)
            except DamagedError as error:
                problems.append(error.problem)
                continue
            self._note(record)
            if pack.is_origin:
                continue
            if record.run_nonce != run.record.nonce:
                problems.append(f"it holds a record of another run, {record.run_id!r}")
                continue
            if problem := self._contradicted(record):
                problems.append(f"pack {key} holds {problem}, and {_CONTRADICTS}")
        for sha256, text in pack.logs.items():
            try:
                log_in_pack(text, sha256, key)
            except DamagedError as error:
                problems.append(error.problem)
            else:
                self.named.logs_in_pack.add(sha256)
        # Of a pack that cannot be read as one, the rest follows from the first.
        return "; ".join(problems[:1] if consequences else problems) or None

    def _contradicted(self, record: Start | End) -> str | None:
        """What is wrong with a record in a pack, by those of its attempt that were seen before."""
        key, said = key_of(self.run.prefix, record), _said(record)
        of = f"attempt {record.attempt} at {record.path}"
        kind, other = ("end", "start") if isinstance(record, End) else ("start", "end")
        known = self._seen.setdefault(key, said)
        if known != said:
            return f"another {kind} of {of} than {key}, or another pack"
        beside = self._seen.get(key.removesuffix(f"{kind}.json") + f"{other}.json")
        if beside is not None:
            end, begun = (said, beside) if kind == "end" else (beside, said)
            if len(end) > _DIGEST and end[_DIGEST:] != begun:
                return f"an end of {of} that is not of the start there is"
        return None

    def _note(self, record: object) -> None:
        named = self.named
        if isinstance(record, End) and record.log is not None:
            named.blobs[record.log.sha256] = record.log
        for blob in record.blobs() if isinstance(record, End | RunRecord) else ():
            named.blobs[blob.sha256] = blob
            named.needed.add(blob.sha256)


_DIGEST = 32


def _said(record: Start | End) -> bytes:
    """Of a start its digest and nonce; of an end its own digest, and these of its start, if it
    names one, or must."""
    if isinstance(record, Start):
        return bytes.fromhex(record.digest + record.nonce)
    if record.start is None and record.outcome == "lost":
        return bytes.fromhex(record.digest)
    return bytes.fromhex(record.digest + (record.start or "0" * 64) + record.nonce)
