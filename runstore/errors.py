"""Every error runstore raises, grouped by what the caller does next:

* :class:`InputError`: change what you passed; nothing was written;
* :class:`RefusedError`: decide: another id, another command, a flag;
* :class:`AttemptError`: another writer was first: read the history again;
* :class:`DamagedError`: restore the object, or run its step again;
* :class:`StorageError`: the storage did not answer as it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar, Self

__all__ = [
    "AttemptEndedError", "AttemptError", "AttemptLostError", "AttemptTakenError",
    "BlobDamagedError", "BlobMissingError", "CodecError", "DagError", "DamagedError",
    "DivergedError", "ForceError", "FormatVersionError", "ImportRefusedError", "InputError",
    "KeyExistsError", "KeyMissingError", "Kind", "OutcomeUnknownError", "ParameterError",
    "PathError", "PipelineError", "RecordDamagedError", "RecordedCodeError", "RefusedError",
    "RunExistsError", "RunNotFailedError", "RunNotFoundError", "RunRemovedError", "RunstoreError",
    "StorageError", "StoreNotFoundError", "StructureChangedError", "ValueNotJsonError",
]  # fmt: skip


class Kind(StrEnum):
    """What kind of error it is, for programs, logs and pages. Names are added and never changed."""

    ERROR = "error"
    INPUT = "input"
    DAG = "dag"
    PATH = "path"
    VALUE_NOT_JSON = "value-not-json"
    FORCE = "force"
    PARAMETER = "parameter"
    PIPELINE = "pipeline"
    IMPORT_REFUSED = "import-refused"
    REFUSED = "refused"
    RUN_EXISTS = "run-exists"
    RUN_NOT_FOUND = "run-not-found"
    RUN_REMOVED = "run-removed"
    RUN_NOT_FAILED = "run-not-failed"
    STRUCTURE_CHANGED = "structure-changed"
    DIVERGED = "diverged"
    RECORDED_CODE = "recorded-code"
    ATTEMPT = "attempt"
    ATTEMPT_TAKEN = "attempt-taken"
    ATTEMPT_ENDED = "attempt-ended"
    ATTEMPT_LOST = "attempt-lost"
    DAMAGED = "damaged"
    RECORD_DAMAGED = "record-damaged"
    BLOB_DAMAGED = "blob-damaged"
    BLOB_MISSING = "blob-missing"
    FORMAT_VERSION = "format-version"
    CODEC = "codec"
    STORAGE = "storage"
    STORE_NOT_FOUND = "store-not-found"
    KEY_EXISTS = "key-exists"
    KEY_MISSING = "key-missing"
    OUTCOME_UNKNOWN = "outcome-unknown"


class RunstoreError(Exception):
    """The root. Programs read :attr:`kind` and the facts, and never parse the text.

    ``problem``: what happened, and where. ``advice``: what to do about it, beginning with a verb,
    or empty. ``str(error)`` is both. ``facts``: what the error is about, by name; each is an
    attribute, too, and the class declares those that its errors may have.
    """

    kind: ClassVar[Kind] = Kind.ERROR
    folder: str | None = None
    """The folder with the files of an attempt whose end could not be recorded."""
    released: str | None = None
    """The nonce of an attempt that this process gave up, and that others may take over."""

    def __init_subclass__(cls, *, kind: Kind | None = None) -> None:
        cls.kind = kind or cls.kind

    def __init__(self, problem: str, *, advice: str = "", **facts: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return f"{self.problem}: {self.advice}" if self.advice else self.problem

    def reworded(self, problem: str = "", advice: str | None = None) -> Self:
        """The same error, its facts too, with another text."""
        advice = self.advice if advice is None else advice
        return type(self)(problem or self.problem, advice=advice, **self.facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send errors home; the default would lose the keywords.
        return partial(type(self), advice=self.advice, **self.facts), (self.problem,)


class InputError(RunstoreError, kind=Kind.INPUT):
    """What was passed cannot be used. Nothing was written."""

    path: str | None = None
    """A node path."""
    parameter: str | None = None
    """Its name."""
    pattern: str | None = None
    """What was to be matched."""
    run_id: str | None = None


class DagError(InputError, ValueError, kind=Kind.DAG):
    """The graph is not one: a cycle, an unknown upstream, an ambiguous parameter...

    ``nodes``: the paths of the nodes concerned.
    """

    nodes: Sequence[str] = ()


class PathError(InputError, ValueError, kind=Kind.PATH):
    """A text that is no node path, or a run id that cannot be one."""

    text: str | None = None
    position: int | None = None
    """In the text, from 0."""
    number: int | None = None
    """Of an attempt."""


class ValueNotJsonError(InputError, TypeError, kind=Kind.VALUE_NOT_JSON):
    """A value that JSON cannot hold exactly: NaN, a set, an object, a key that is no string."""

    where: str | None = None
    """The place in the value, as in ``$.rows[3]``."""


class ForceError(InputError, LookupError, kind=Kind.FORCE):
    """A pattern of ``force``, ``only`` or ``until`` that matches nothing. ``pattern`` is it."""


class ParameterError(InputError, LookupError, kind=Kind.PARAMETER):
    """A parameter that is needed and was not given, or a secret that was not handed in again."""


class PipelineError(InputError, ValueError, kind=Kind.PIPELINE):
    """A pipeline file that cannot be read, imported, or holds no pipeline."""


class ImportRefusedError(InputError, ValueError, kind=Kind.IMPORT_REFUSED):
    """An exported file that is cut short, damaged, or not what `runstore export` writes.

    Nothing was written. ``path`` is the file, ``where`` the place in it where that is known.
    """

    path: str | None = None
    """The file."""
    where: int | None = None
    """The line, from 1."""


class RefusedError(RunstoreError, kind=Kind.REFUSED):
    """The state of the run forbids it. Nothing was written."""

    run_id: str | None = None
    path: str | None = None
    """A node path."""


class RunExistsError(RefusedError, FileExistsError, kind=Kind.RUN_EXISTS):
    """A run of this id is in the store already."""


class RunNotFoundError(RefusedError, FileNotFoundError, kind=Kind.RUN_NOT_FOUND):
    """The store holds no run of this id."""


class RunRemovedError(RunNotFoundError, kind=Kind.RUN_REMOVED):
    """The run was removed while this process worked on it. Stop: nothing more of it is kept."""


class RunNotFailedError(RefusedError, RuntimeError, kind=Kind.RUN_NOT_FAILED):
    """The run has succeeded, and nothing that was forced would run."""


class StructureChangedError(RefusedError, RuntimeError, kind=Kind.STRUCTURE_CHANGED):
    """The pipeline is no longer the one the run was made with.

    ``changes``: one line for each difference, naming the node and what in it.
    """

    changes: Sequence[str] = ()


class DivergedError(RefusedError, RuntimeError, kind=Kind.DIVERGED):
    """Two stores hold different attempts under one number: neither may replace the other.

    ``attempts``: all of them, as :class:`runstore.transfer.Divergence`.
    """

    attempts: Sequence[Any] = ()


class RecordedCodeError(RefusedError, PermissionError, kind=Kind.RECORDED_CODE):
    """What would be executed is named by records alone, and not by this user's own.

    Name the pipeline, or allow it. ``invocation``: the id of the one whose word it would be.
    """

    invocation: str | None = None


class AttemptError(RunstoreError, kind=Kind.ATTEMPT):
    """Another writer was first. Read the history again and decide anew."""

    path: str | None = None
    """Its node path."""


class AttemptTakenError(AttemptError, FileExistsError, kind=Kind.ATTEMPT_TAKEN):
    """The attempt number is claimed by another writer, which the message names."""

    holder: Any = None
    """The `runstore.records.Holder` that has it, if that is known."""


class AttemptEndedError(AttemptError, RuntimeError, kind=Kind.ATTEMPT_ENDED):
    """The attempt has its one end already, and it is another one."""


class AttemptLostError(AttemptEndedError, kind=Kind.ATTEMPT_LOST):
    """Somebody who took over declared the attempt lost: its result is refused. Stop."""


class DamagedError(RunstoreError, kind=Kind.DAMAGED):
    """The store holds something that is not what was written."""

    key: str | None = None
    """The object."""
    sha256: str | None = None
    """Of a blob: its name."""


class RecordDamagedError(DamagedError, ValueError, kind=Kind.RECORD_DAMAGED):
    """A record that is short, is not in the framing, or does not match its digest. ``key``."""


class BlobDamagedError(DamagedError, ValueError, kind=Kind.BLOB_DAMAGED):
    """A blob whose bytes do not match its name."""


class BlobMissingError(DamagedError, FileNotFoundError, kind=Kind.BLOB_MISSING):
    """A blob that a record names and the store does not hold."""

    pattern: str | None = None
    """Of an artifact that nobody saved: what was asked for."""


class FormatVersionError(DamagedError, ValueError, kind=Kind.FORMAT_VERSION):
    """Written by a newer major version of the format."""


class CodecError(DamagedError, ValueError, kind=Kind.CODEC):
    """A value whose bytes are in a codec that this runstore does not know: upgrade it.

    Nothing is wrong with the run, or the blob. ``codec`` names it, ``key`` the blob.
    """

    codec: str | None = None


class StorageError(RunstoreError, OSError, kind=Kind.STORAGE):
    """The storage failed: read-only, full, out of reach. ``key`` and the cause say where, why."""

    key: str | None = None
    url: str | None = None
    """Of the store."""
    errno: int | None = None
    """Of the operating system."""
    answer: str | None = None
    """Of a bucket: what its answer means."""
    probe: str | None = None
    """What a probe found."""


class StoreNotFoundError(StorageError, FileNotFoundError, kind=Kind.STORE_NOT_FOUND):
    """There is no store at this URL."""


class KeyExistsError(StorageError, FileExistsError, kind=Kind.KEY_EXISTS):
    """The key holds other bytes. Raised by the storage seam, caught by the layer above."""


class KeyMissingError(StorageError, FileNotFoundError, kind=Kind.KEY_MISSING):
    """The key holds nothing. Raised by the storage seam, caught by the layer above."""


class OutcomeUnknownError(StorageError, TimeoutError, kind=Kind.OUTCOME_UNKNOWN):
    """A write or a removal whose outcome is not known: it may have happened, may happen later, or
    may not outlive a power cut. Doing it again is safe."""

    seconds: float | None = None
    """How long it was tried."""
    tries: int | None = None
