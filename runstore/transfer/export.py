"""Writing a run into one file."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, BinaryIO, Literal, get_args

from runstore.archive.format import PIECE_BYTES, Manifest, head_line, piece_line, record_line
from runstore.dag import Dag
from runstore.errors import (
    BlobDamagedError,
    InputError,
    KeyMissingError,
    RecordDamagedError,
    RunstoreError,
    StorageError,
)
from runstore.plan import Action, Planner
from runstore.plan.focus import fewest_prefixes, needed_prefixes
from runstore.plan.history import History
from runstore.records import Blob, End, Invocation, RunRecord, key_of, keys
from runstore.records.codec import parse, parse_attempt
from runstore.records.framing import parse_pack, stated_digest, unframe
from runstore.storage import is_near, read_all
from runstore.storage.fsync import flush_folder
from runstore.store import Run
from runstore.store.judge import Ended, is_of
from runstore.store.view import NOT_WHOLE
from runstore.transfer.compare import FORK
from runstore.transfer.copier import Progress, unwatched

__all__ = ["Artifacts", "Exported", "export_run"]

Artifacts = Literal["none", "needed", "all"]
"""Which files go along: none; those that a step that is still to run may load; all, and logs."""

_AT_ONCE = 512
"""Records that are held to be put in order."""


@dataclass(slots=True)
class Exported:
    """What an export wrote."""

    path: str
    size: int = 0
    """Bytes of the file."""
    records: int = 0
    blobs: int = 0
    left_out: Sequence[str] = ()
    """Digests of blobs that were asked for and are missing or damaged: a retry makes them again."""


def export_run(
    run: Run,
    path: str | os.PathLike[str],
    *,
    artifacts: Artifacts = "none",
    progress: Progress | None = None,
) -> Exported:
    """Write a run into one self-contained JSON file, which appears whole or not at all, and is on
    the disk, its name too, when this returns.

    Records and large values are always in it: what the planner needs. A step whose artifact is not
    in it runs again if a later one may load it. The same records give the same bytes.

    :raises RecordDamagedError: for a record that is damaged, or that another one contradicts:
        without it the run would mean something else.
    :raises RunRemovedError: if the run was removed meanwhile: there is no file then.
    :raises StorageError: if the store cannot be read, or the file cannot be written.

    Cost: three or four listings, one read for each pack, invocation and blob, and for each record
    of an attempt that is in no pack, or of a disk; for ``needed`` a history, besides. Memory: one
    pack, and some 600 bytes a record.
    """
    if artifacts not in get_args(Artifacts):
        raise InputError(f"artifacts are none, needed or all, not {artifacts!r:.40}")
    target = os.path.abspath(path)
    folder, name = os.path.split(target)
    temp = os.path.join(folder, f".{name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        try:
            with open(temp, "xb+") as file:
                with run.read_whole():
                    done = _Writer(run, file, progress or unwatched).write(artifacts)
                    run.check_there(NOT_WHOLE)
                file.flush()
                os.fsync(file.fileno())
                done.path, done.size = target, file.tell()
            os.replace(temp, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temp)
    except RunstoreError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        flush_folder(folder)
    except OSError as error:
        raise StorageError(
            f"{target} is whole, and may not outlive a power cut: its folder could not be made "
            f"durable: {error.strerror or error}",
            advice="export it again, or to another folder",
        ) from error
    return done


class _Writer:
    def __init__(self, run: Run, file: IO[bytes], progress: Progress) -> None:
        self.run = run
        self.storage = run.storage
        self.prefix = run.prefix
        self.source = run.blobs
        self.file = file
        self.progress = progress
        self.manifest = Manifest()
        self.comma = b""
        self.seen: dict[str, bytes] = {}
        """Name of an attempt's record -> its digest."""
        self.ended: dict[str, Ended] = {}
        self.begun: dict[str, tuple[str, str]] = {}
        """Key of a start -> its digest and nonce."""
        self.values: set[str] = set()
        """Digests of large values, which always go along."""
        self.files: set[str] = set()
        """Digests of artifacts and logs."""
        self.dags: dict[str, Dag] = {}

    def write(self, artifacts: Artifacts) -> Exported:
        self.file.write(head_line(self.run.run_id, self.run.record.nonce, artifacts))
        self.one(keys.RUN, self.read(keys.RUN))
        self.note(self.run.record)
        self.invocations()
        self.attempts()
        self.origin()
        wanted = set(self.values)
        if artifacts == "all":
            wanted.update(self.files)
        elif artifacts == "needed":
            wanted |= self.needed()
        records = self.manifest.count
        left_out = list(self.blobs(sorted(wanted)))
        self.file.write(b"\n" + self.manifest.line())
        return Exported("", 0, records, self.manifest.count - records, left_out)

    def read(self, key: str) -> bytes:
        """An object that must be what its writer wrote."""
        full = keys.run_key(self.run.run_id) if key == keys.RUN else self.prefix + key
        data = self.storage.read(full)
        unframe(data, full)
        return data

    def listed(self, folder: str) -> list[str]:
        return sorted(key[len(self.prefix) :] for key in self.storage.list(self.prefix + folder))

    def one(self, key: str, framed: bytes) -> None:
        self.put(record_line(key, framed))
        self.manifest.add(key, stated_digest(framed))

    def put(self, line: bytes) -> None:
        self.file.write(self.comma + line)
        self.comma = b",\n"

    def in_order(self, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
        """Objects in the order asked for, though storages give them as they come."""
        for at in range(0, len(wanted), _AT_ONCE):
            chunk = wanted[at : at + _AT_ONCE]
            found = dict(read_all(self.storage, [self.prefix + key for key in chunk]))
            for key in chunk:
                yield key, found[self.prefix + key]
            self.progress("read", at + len(chunk), len(wanted))

    def invocations(self) -> None:
        for key, data in self.in_order(self.listed(keys.INVOCATIONS)):
            record = parse(data, self.prefix + key)
            if not isinstance(record, Invocation) or record.run_nonce != self.run.record.nonce:
                raise self.foreign(key)
            if record.dag and record.structure:
                self.dags[record.structure] = Dag.from_json(record.dag, unknown="ignore")
            self.one(key, data)

    def attempts(self) -> None:
        """Loose, whether they stand in packs or not: only a record of its own name keeps that name
        from being claimed again."""
        loose = self.listed(keys.ATTEMPTS)
        for pack in self.listed(keys.PACKS):
            if keys.name_in(pack) != self.run.record.origin_pack:
                data = self.read(pack)
                for framed in parse_pack(data, pack).records:
                    self.attempt(framed, pack)
        # What a pack holds is read again where that is no request, to see that it is the same.
        rest = [key for key in loose if key not in self.seen or is_near(self.storage)]
        for key, data in self.in_order(rest):
            if key in self.seen and not _tells_more(data, self.prefix + key, self.seen[key]):
                continue
            try:
                self.attempt(data, key)
            except RecordDamagedError as error:
                raise error.reworded(advice=error.advice + FORK) from None
        for key, end in self.ended.items():
            start = self.begun.get(key.removesuffix(keys.END) + keys.START)
            if start is not None and not is_of(end, *start):
                raise RecordDamagedError(
                    f"record {self.prefix}{key} is not the end of the start there is, and both "
                    f"cannot be true",
                    advice=f"restore what is right from a copy{FORK}",
                    key=self.prefix + key,
                )

    def attempt(self, framed: bytes, where: str) -> None:
        record = parse_attempt(framed, self.prefix + where)
        key = key_of("", record)
        in_pack = where.startswith(keys.PACKS)
        if record.run_nonce != self.run.record.nonce or (key != where and not in_pack):
            raise self.foreign(where)
        digest = bytes.fromhex(record.digest)
        known = self.seen.get(key)
        if known is None:
            self.seen[key] = digest
            self.one(key, framed)
            self.note(record)
            if isinstance(record, End):
                self.ended[key] = Ended(record.start, record.nonce, record.outcome)
            else:
                self.begun[key] = record.digest, record.nonce
        elif known != digest:
            raise RecordDamagedError(
                f"{self.prefix}{where} holds another record of {key} than a pack, and both cannot "
                "be true",
                advice=f"restore what is right from a copy{FORK}",
                key=self.prefix + where,
            )

    def origin(self) -> None:
        """The pack of a fork, verbatim: its records are of other runs, and have no names here."""
        pack = self.run.record.origin_pack
        if not pack:
            return
        key = keys.pack_key("", pack)
        data = self.read(key)
        for framed in parse_pack(data, key).records:
            record = parse_attempt(framed, self.prefix + key)
            self.note(record)
        for part, at in enumerate(range(0, len(data), PIECE_BYTES)):
            self.put(piece_line("pack", pack, part, data[at : at + PIECE_BYTES]))
        self.manifest.add(key, pack)

    def foreign(self, key: str) -> RecordDamagedError:
        return RecordDamagedError(
            f"record {self.prefix}{key} is not of its name",
            advice="`runstore verify` says more",
            key=key,
        )

    def note(self, record: object) -> None:
        if isinstance(record, End):
            files = (*record.artifacts.values(), *((record.log,) if record.log else ()))
            self.files.update(blob.sha256 for blob in files)
            self.values.update(blob.sha256 for blob in record.blobs() if blob.value)
        elif isinstance(record, RunRecord):
            self.values.update(blob.sha256 for blob in record.blobs())

    def needed(self) -> set[str]:
        """Artifacts of all that a step which is to run or waits follows, in its graph and those
        around it: what it loads is known only when it does."""
        history: History = self.run.history()
        prefixes: set[str] = set()
        for dag in (self.run.dag, *self.dags.values()):
            plan = Planner(dag).plan(history)
            left = [s.path for s in plan.steps if s.action in (Action.RUN, Action.WAIT)]
            prefixes.update(needed_prefixes(dag, left))
        fewest = fewest_prefixes({keys.ATTEMPTS + prefix for prefix in prefixes})
        found: set[str] = set()
        for path in history.paths():
            end = history.latest(path)
            if isinstance(end, End) and end.artifacts and _begins(key_of("", end), fewest):
                found.update(blob.sha256 for blob in end.artifacts.values())
        return found

    def blobs(self, wanted: list[str]) -> Iterator[str]:
        """Write blobs; gives those that are missing or damaged. After the records: whoever works on
        the run makes blobs durable before it writes the record that names them."""
        for count, sha256 in enumerate(wanted, 1):
            if not self.blob(sha256):
                yield sha256
            self.progress("copy", count, len(wanted))

    def blob(self, sha256: str) -> bool:
        begin, part = self.file.tell(), 0
        try:
            with self.source.stream(Blob(sha256, 0)) as source:
                while (piece := _whole_piece(source)) or not part:
                    self.put(piece_line("blob", sha256, part, piece))
                    part += 1
        except KeyMissingError:
            return False
        except BlobDamagedError:
            self.file.seek(begin)
            self.file.truncate()
            return False
        self.manifest.add(keys.blob_key("", sha256), sha256)
        return True


def _tells_more(data: bytes, key: str, digest: bytes) -> bool:
    """Whether a record is another one than that of this digest; one that is damaged is none."""
    if stated_digest(data) == digest.hex():
        return False
    try:
        parse_attempt(data, key)
    except RecordDamagedError:
        return False
    return True


def _whole_piece(source: BinaryIO) -> bytes:
    """``PIECE_BYTES``, or what is left: streams may give less at a time."""
    pieces, left = [], PIECE_BYTES
    while left and (piece := source.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _begins(key: str, fewest: Sequence[str]) -> bool:
    """Whether a key begins with one of the prefixes: none but the one before it can be it."""
    at = bisect_right(fewest, key)
    return at > 0 and key.startswith(fewest[at - 1])
