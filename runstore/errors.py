"""Every error runstore raises, grouped by what the caller does next.

::

    RunstoreError
    ├── InputError                  change what you passed; nothing was written
    │   ├── DagError                (ValueError)   the graph is not one
    │   ├── PathError               (ValueError)   not a node path, or not a run id
    │   ├── ValueNotJsonError       (TypeError)    a value JSON cannot hold
    │   ├── ForceError              (LookupError)  a pattern that matches nothing
    │   ├── ParameterError          (LookupError)  a parameter nobody gives
    │   ├── PipelineError           (ValueError)   a pipeline file that cannot be used
    │   └── ImportRefusedError      (ValueError)   an exported file that is not to be trusted
    ├── RefusedError                decide: another id, another command, a flag
    │   ├── RunExistsError          (FileExistsError)
    │   ├── RunNotFoundError        (FileNotFoundError)
    │   │   └── RunRemovedError     it was there when this process began: stop
    │   ├── RunNotFailedError       (RuntimeError)
    │   ├── DivergedError           (RuntimeError)     two stores hold different attempts
    │   ├── RecordedCodeError       (PermissionError)  nobody here named what would run
    │   └── StructureChangedError   (RuntimeError)
    ├── AttemptError                somebody else was first: read the history again
    │   ├── AttemptTakenError       (FileExistsError)  the number is claimed
    │   ├── AttemptEndedError       (RuntimeError)     it has its one end already
    │   └── AttemptLostError        (AttemptEndedError) it was declared dead: stop
    ├── DamagedError                restore the object, or run its step again
    │   ├── RecordDamagedError      (ValueError)
    │   ├── BlobDamagedError        (ValueError)
    │   ├── BlobMissingError        (FileNotFoundError)
    │   ├── FormatVersionError      (ValueError)   written by a newer major version
    │   └── CodecError              (ValueError)   a value in a codec that is not known here
    └── StorageError                (OSError)      the storage did not answer as it must
        ├── StoreNotFoundError      (FileNotFoundError)
        ├── KeyExistsError          (FileExistsError)   the seam's conflict
        ├── KeyMissingError         (FileNotFoundError)
        └── OutcomeUnknownError     (TimeoutError)      a write may or may not have landed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AttemptEndedError",
    "AttemptError",
    "AttemptLostError",
    "AttemptTakenError",
    "BlobDamagedError",
    "BlobMissingError",
    "CodecError",
    "DagError",
    "DamagedError",
    "DivergedError",
    "ForceError",
    "FormatVersionError",
    "ImportRefusedError",
    "InputError",
    "KeyExistsError",
    "KeyMissingError",
    "OutcomeUnknownError",
    "ParameterError",
    "PathError",
    "PipelineError",
    "RecordDamagedError",
    "RecordedCodeError",
    "RefusedError",
    "RunExistsError",
    "RunNotFailedError",
    "RunNotFoundError",
    "RunRemovedError",
    "RunstoreError",
    "StorageError",
    "StoreNotFoundError",
    "StructureChangedError",
    "ValueNotJsonError",
]


class RunstoreError(Exception):
    """The root. ``str(error)`` is one sentence: what, where, and what to do next.

    The facts of the sentence are attributes, given as keywords, so that a program never
    parses the text.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send errors home; the default would lose the keywords.
        return (_rebuild, (type(self), self.message, self.facts))


def _rebuild(cls: type[RunstoreError], message: str, facts: dict[str, Any]) -> RunstoreError:
    return cls(message, **facts)


class InputError(RunstoreError):
    """What was passed cannot be used. Nothing was written."""


class DagError(InputError, ValueError):
    """The graph is not one: a cycle, an unknown upstream, an ambiguous parameter...

    ``nodes``: the paths of the nodes concerned.
    """

    nodes: Sequence[str] = ()


class PathError(InputError, ValueError):
    """A text that is no node path, or a run id that cannot be one."""


class ValueNotJsonError(InputError, TypeError):
    """A value that JSON cannot hold exactly: NaN, a set, an object, a key that is no string."""


class ForceError(InputError, LookupError):
    """A pattern of ``force``, ``only`` or ``until`` that matches nothing. ``pattern`` is it."""


class ParameterError(InputError, LookupError):
    """A parameter that is needed and was not given, or a secret that was not handed in again."""


class PipelineError(InputError, ValueError):
    """A pipeline file that cannot be read, imported, or holds no pipeline."""


class ImportRefusedError(InputError, ValueError):
    """An exported file that is cut short, damaged, or not what `runstore export` writes.

    Nothing was written. ``path`` is the file, ``where`` the place in it where that is known.
    """


class RefusedError(RunstoreError):
    """The state of the run forbids it. Nothing was written."""


class RunExistsError(RefusedError, FileExistsError):
    """A run of this id is in the store already."""


class RunNotFoundError(RefusedError, FileNotFoundError):
    """The store holds no run of this id."""


class RunRemovedError(RunNotFoundError):
    """The run was removed while this process worked on it, and another one may have its id by now.

    Nothing of what this process does can be kept: it should stop.
    """


class RunNotFailedError(RefusedError, RuntimeError):
    """The run has succeeded, and nothing that was forced would run."""


class StructureChangedError(RefusedError, RuntimeError):
    """The pipeline is no longer the one the run was made with.

    ``changes``: one line for each difference, naming the node and what in it.
    """

    changes: Sequence[str] = ()


class DivergedError(RefusedError, RuntimeError):
    """Two stores hold different attempts under one number: neither may replace the other.

    ``attempts``: all of them, as :class:`runstore.transfer.Divergence`.
    """


class RecordedCodeError(RefusedError, PermissionError):
    """What would be executed is named by records alone, and not by this user's own.

    Name the pipeline, or allow it. ``invocation``: the id of the one whose word it would be.
    """

    invocation: str | None = None


class AttemptError(RunstoreError):
    """Another writer was first. Read the history again and decide anew."""


class AttemptTakenError(AttemptError, FileExistsError):
    """The attempt number is claimed by another writer, which the message names."""


class AttemptEndedError(AttemptError, RuntimeError):
    """The attempt has its one end already, and it is another one."""


class AttemptLostError(AttemptEndedError):
    """The attempt was declared dead by somebody who took over. This writer is a zombie:

    its result is refused, and it should stop.
    """


class DamagedError(RunstoreError):
    """The store holds something that is not what was written."""


class RecordDamagedError(DamagedError, ValueError):
    """A record that is short, is not in the framing, or does not match its digest. ``key``."""


class BlobDamagedError(DamagedError, ValueError):
    """A blob whose bytes do not match its name."""


class BlobMissingError(DamagedError, FileNotFoundError):
    """A blob that a record names and the store does not hold."""


class FormatVersionError(DamagedError, ValueError):
    """Written by a newer major version of the format."""


class CodecError(DamagedError, ValueError):
    """A value whose bytes are in a codec that this runstore does not know: upgrade it.

    Nothing is wrong with the run, or the blob. ``codec`` names it, ``key`` the blob.
    """


class StorageError(RunstoreError, OSError):
    """The storage failed: read-only, full, out of reach. ``key`` and the cause say where, why."""


class StoreNotFoundError(StorageError, FileNotFoundError):
    """There is no store at this URL."""


class KeyExistsError(StorageError, FileExistsError):
    """The key holds other bytes. Raised by the storage seam, caught by the layer above."""


class KeyMissingError(StorageError, FileNotFoundError):
    """The key holds nothing. Raised by the storage seam, caught by the layer above."""


class OutcomeUnknownError(StorageError, TimeoutError):
    """A write whose outcome is not known: it may have landed, or land later; or it, or a removal,
    is done and may not outlive a power cut. Doing it again is safe, and tells."""
