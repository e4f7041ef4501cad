"""Reading a run from one file, which may come from anywhere: all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, NoReturn

from runstore.archive.format import Entry, Limits, is_hex
from runstore.archive.reader import ExportedStorage
from runstore.canonical import loads
from runstore.dag import Dag
from runstore.dag.structure import VERSION, digest
from runstore.errors import DamagedError, FormatVersionError, ImportRefusedError, RunstoreError
from runstore.paths import NodePath
from runstore.records import (
    MAX_COUNT,
    Blob,
    End,
    Invocation,
    Marker,
    RunRecord,
    Start,
    key_of,
    keys,
)
from runstore.records.codec import parse
from runstore.records.framing import BODY, log_in_pack, unframe
from runstore.store import Run, Store
from runstore.store.files import is_artifact_name
from runstore.store.judge import read_pack
from runstore.transfer.copier import Progress, unwatched
from runstore.transfer.copy import WORKERS, Arrival, copy_run

__all__ = ["import_run"]


def import_run(
    store: Store,
    path: str | os.PathLike[str],
    *,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> Run:
    """Put an exported run into a store, or bring the run there up to what the file has.

    The whole file is checked before the first object is created: layout, digests, names, types,
    what belongs together. The run itself is created last, so what an import that was interrupted
    leaves is no run; doing it again goes on.

    :param limits: how much memory the file may make us use; it may be of any size itself.
    :raises ImportRefusedError: if the file is not whole, or not what an export writes.
    :raises RunExistsError, DivergedError, RecordDamagedError: as
        :func:`~runstore.transfer.transfer_run` does. Nothing was written then, either.
    :raises StorageError: if the file cannot be read or the store does not take an object.

    Cost: the file is read twice; one create for each object, and one for a pack of the attempts.
    """
    check = _Check(os.path.abspath(path), limits, progress or unwatched)
    source = Store(ExportedStorage(path, limits, check=check))
    arrival = Arrival("import", {"file": check.path})
    copy_run(
        source, check.run_id, store, workers=workers, progress=progress, arrival=arrival, pack=True
    )
    return store.get_run(check.run_id)


_AGAIN = "export the run again, and see that the file comes from where you think"
_MODES = ("start", "retry", "fork", "import", "pull")


class _Check:
    """Lets the objects of a file pass, each checked, and all of them together at the end."""

    def __init__(self, path: str, limits: Limits, progress: Progress) -> None:
        self.path = path
        self.limits = limits
        self.progress = progress
        self.run_id = self.nonce = ""
        self._at = 0

    def __call__(self, run_id: str, nonce: str, entries: Iterable[Entry]) -> Iterator[Entry]:
        self.run_id, self.nonce = run_id, nonce
        self.run: RunRecord | None = None
        self.starts: dict[str, tuple[bytes, str]] = {}
        """Key of a start -> its digest and nonce."""
        self.begun: dict[str, tuple[bytes, str]] = {}
        """Key of a start -> its digest and nonce, as its end says."""
        self.named: dict[str, int] = {}
        """Blobs that records name -> their size."""
        self.pack = ""
        blob: _Blob | None = None
        total = os.path.getsize(self.path)
        read = 0
        for entry in entries:
            self._at = entry.line
            read += len(entry.data)
            self.progress("check", min(read, total), total)
            if blob is not None and (entry.kind == "record" or entry.part == 0):
                self._checked(blob.key, self._whole, blob)
                blob = None
            if entry.kind == "record":
                self._checked(entry.key, self._record, entry)
            else:
                blob = blob or _Blob(entry)
                self._checked(entry.key, self._piece, blob, entry)
            yield entry
        if blob is not None:
            self._checked(blob.key, self._whole, blob)
        self._together()

    def _checked(self, key: str, check: Callable[..., None], *what: object) -> None:
        try:
            check(*what)
        except _WrongError as error:
            self._refuse(f"{key} {error}")
        except DamagedError as error:
            newer = isinstance(error, FormatVersionError)
            self._refuse(error.problem, error.advice if newer else _AGAIN)
        except (RunstoreError, ValueError, TypeError, KeyError, RecursionError) as error:
            self._refuse(f"{key} cannot be used ({str(error)[:300]})")

    def _refuse(self, problem: str, advice: str = _AGAIN) -> NoReturn:
        raise ImportRefusedError(
            f"{self.path} is not imported: {problem} (line {self._at})",
            advice=advice,
            path=self.path,
            where=self._at,
        )

    def _record(self, entry: Entry) -> None:
        if self.run is None and entry.key != keys.RUN:
            raise _WrongError("comes before run.json, which must be the first object")
        record = self._parsed(entry.data, entry.key)
        if record.run_id != self.run_id:
            raise _WrongError(f"is of another run, {record.run_id!r:.60}")
        nonce = record.nonce if isinstance(record, RunRecord) else record.run_nonce
        if nonce != self.nonce:
            raise _WrongError(f"is of another run {self.run_id!r:.60}, by its nonce")
        if isinstance(record, Invocation) and record.number >= MAX_COUNT:
            raise _WrongError("has a number that no invocation has")
        if isinstance(record, RunRecord):
            own = keys.RUN
        elif isinstance(record, Invocation):
            own = keys.invocation_key("", record.id)
        else:
            own = key_of("", record)
        if entry.key != own:
            raise _WrongError(f"holds the record {own}, so it was renamed")
        if isinstance(record, Start):
            self.starts[own] = bytes.fromhex(record.digest), record.nonce
        elif isinstance(record, End):
            if record.start or record.outcome != "lost":
                began = bytes.fromhex(record.start or ""), record.nonce
                self.begun[own.removesuffix(keys.END) + keys.START] = began
            self._end(record)
        elif record.dag or isinstance(record, RunRecord):
            self._dag(record)
        if isinstance(record, RunRecord):
            self.run = record
            self._name(record.blobs())

    def _parsed(self, framed: bytes, key: str) -> Any:
        """A record as a writer writes it: what readers need not look at is checked here."""
        record = parse(framed, key)
        body, _ = unframe(framed, key)
        loads(body, safe=True)
        if isinstance(record, Marker):
            raise _WrongError("is the marker of a store")
        if isinstance(record, Invocation):
            if record.mode not in _MODES:
                raise _WrongError(f"is of the mode {record.mode!r:.40}, which no invocation has")
            for path in record.force:
                _check_path(path)
        elif isinstance(record, Start | End):
            _check_path(record.path)
            _check_ids(record)
        return record

    def _dag(self, record: RunRecord | Invocation) -> None:
        dag = Dag.from_json(record.dag, unknown="ignore")
        stated = record.structure or ""
        if stated.startswith(f"{VERSION}:") and digest(dag) != stated:
            raise _WrongError("has a DAG that its structure digest is not of")

    def _end(self, record: End) -> None:
        self._name([*record.blobs(), *([record.log] if record.log else ())])

    def _name(self, blobs: Iterable[Blob]) -> None:
        for blob in blobs:
            if self.named.setdefault(blob.sha256, blob.size) != blob.size:
                raise _WrongError(f"names the blob {blob.sha256} with another size than before")

    def _piece(self, blob: _Blob, entry: Entry) -> None:
        blob.add(entry.piece())
        if blob.kind == "pack" and blob.size > self.limits.pack_bytes:
            raise _WrongError(f"is larger than {self.limits.pack_bytes} bytes")

    def _whole(self, blob: _Blob) -> None:
        if blob.kind == "pack":
            self._pack(blob)
            return
        if blob.digest.hexdigest() != blob.name:
            raise _WrongError("does not match its digest")
        size = self.named.get(blob.name)
        if size is None:
            raise _WrongError("is a blob that no record names")
        if size != blob.size:
            raise _WrongError(f"has {blob.size} bytes, and a record says {size}")

    def _pack(self, blob: _Blob) -> None:
        """What a fork took over: ends of other runs, one a path."""
        if self.run is None or self.run.origin_pack != blob.name:
            raise _WrongError("is a pack that run.json does not name")
        data = bytes(blob.kept)
        pack = read_pack(data, blob.key, self.run)
        if pack.problems:
            raise _WrongError(f"cannot be used ({pack.problems[0]})")
        head: Any = loads(data[BODY : data.index(b',"records":[')] + b"}")
        if type(head) is not dict or head.get("kind") != "pack":
            raise _WrongError("is no pack")
        paths: set[str] = set()
        for name, text in pack.logs.items():
            log_in_pack(text, name, blob.key)
        for framed in pack.records:
            end = self._parsed(framed, blob.key)
            if not isinstance(end, End) or end.path in paths:
                raise _WrongError("holds something else than one end for each path")
            paths.add(end.path)
            self._end(end)
        self.pack = blob.name

    def _together(self) -> None:
        if self.run is None:
            self._refuse("it has no run.json")
        if self.run.origin_pack != self.pack:
            self._refuse("it lacks the pack of what the fork took over")
        for key, stated in self.begun.items():
            if self.starts.get(key, stated) != stated:
                self._refuse(f"{key} is not the start that its end names")


class _WrongError(Exception):
    """What is wrong with an object; its name goes before it."""


def _check_path(path: str) -> None:
    if str(NodePath.parse(path)) != path:
        raise _WrongError(f"names the path {path!r:.80} in another form than its own")


def _check_ids(record: Start | End) -> None:
    """What readers compare and never resolve, and so leave as it is."""
    consumed = record.consumed
    digests = [*consumed.params.values(), *consumed.results.values(), *consumed.ends.values()]
    digests += [loaded.sha256 for loaded in consumed.artifacts.values()]
    if isinstance(record, End):
        digests += [record.start] if record.start else []
        for name in record.artifacts:
            if not is_artifact_name(name):
                raise _WrongError(f"has an artifact {name!r:.80}, which is no relative file name")
    for each in digests:
        if not is_hex(each):
            raise _WrongError(f"has {each!r:.80} in the place of a digest")
    if not keys.is_invocation_id(record.invocation):
        raise _WrongError(f"has {record.invocation!r:.80} in the place of an invocation's id")


class _Blob:
    """A blob or a pack, of which some pieces were seen."""

    def __init__(self, first: Entry) -> None:
        self.kind, self.name, self.key = first.kind, first.name, first.key
        self.digest = sha256()
        self.size = 0
        self.kept = bytearray()

    def add(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.size += len(piece)
        if self.kind == "pack":
            self.kept += piece
