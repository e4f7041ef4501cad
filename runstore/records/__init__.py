"""Records: what a store is made of, as values (FORMAT.md, section 5).

:mod:`runstore.records.codec` reads and writes their JSON, :mod:`runstore.records.framing` what
stands around it. The types of the fields are what is checked when a record is read, by msgspec, so
nothing above that module meets a half-valid record. A run has one of these for each attempt: those
that hold no reference to one another are none of the garbage collector's business (``gc=False``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NoReturn

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from runstore.records.keys import MAX_ATTEMPT, attempt_key

__all__ = [
    "NOTHING", "Blob", "Consumed", "Count", "Digest", "End", "MAX_COUNT", "Holder", "Invocation",
    "Loaded", "Marker", "Nonce", "Number", "Record", "RunRecord", "Secret", "Start", "end_of",
    "key_of", "stamp",
]  # fmt: skip

MAX_COUNT = 2**31 - 1
"""The highest number of an invocation, and of a try."""

Nonce = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Size = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""What every reader of JSON holds exactly (RFC 7493)."""
Number = Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
InvocationId = Annotated[str, Meta(pattern=r"\A[a-z0-9-]{1,64}\Z")]
Structure = Annotated[str, Meta(pattern=r"\A[0-9]{1,9}:[0-9a-f]{64}\Z")]
Changed = Annotated[str, Meta(pattern=r"\A(?:[0-9]{1,9}:[0-9a-f]{64})?\Z")]
"""A structure, or nothing: of an invocation that works with that of its run."""
Outcome = Annotated[str, Meta(pattern=r"\A(?:succeeded|failed|lost|cancelled)\Z")]


# Set when the record is read or written (`stamp`). Its name in JSON can be no field's.
_NOT_READ = field(default="", name="(not in the body) digest")


class _Nothing(dict[Any, Any]):
    """An empty dict that cannot be changed: the default of fields that are absent."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the fields of a record cannot be changed")

    __setitem__ = setdefault = update = __ior__ = _refuse


NOTHING = _Nothing()


class Blob(Struct, frozen=True, gc=False, omit_defaults=True):
    """A value, artifact or log that stands in a blob of its own."""

    sha256: Digest
    size: Size
    value: Digest | None = None
    """Of a value: its digest, which is what consumers compare (FORMAT.md, section 7.2)."""
    codec: str | None = None
    """Of a value: how its bytes are to be read; ``None`` for JSON."""
    executable: bool = False
    """Of an artifact: whether the file may be executed."""


class Secret(NamedTuple):
    """Stands for the value of a secret parameter, which is nowhere in the store."""

    name: str


class Holder(Struct, frozen=True, gc=False, omit_defaults=True):
    """Who writes: what a later process needs to ask whether this one lives."""

    host: str
    pid: Size | None = None
    pid_start: Size | None = None
    boot: str | None = None
    pod: str | None = None
    mark: str | None = None
    """What the process left on its machine: a copy of the machine has it not."""
    user: str | None = None
    """The name of the user it ran as."""
    pod_uid: str | None = None
    """What Kubernetes calls this very pod: another one may come to have its name."""

    def __str__(self) -> str:
        return f"pod {self.pod}" if self.pod else f"process {self.pid} on {self.host}"


class Loaded(Struct, frozen=True, gc=False, omit_defaults=True):
    """An artifact that an attempt loaded."""

    sha256: str
    source: str | None = field(default=None, name="from")
    """The path of the node that gave it."""


class Consumed(Struct, gc=False, omit_defaults=True):
    """What an attempt was made from, as digests (FORMAT.md, section 7.2).

    Their form is not checked with each record that is read, which would take half as long again:
    a text that is no digest equals none. An import checks it.
    """

    params: Mapping[str, str] = NOTHING
    artifacts: Mapping[str, Loaded] = NOTHING
    """Address -> which artifact."""
    results: Mapping[str, str] = NOTHING
    ends: Mapping[str, str] = NOTHING

    def lean(self) -> Consumed:
        """The same, with `NOTHING` for all that is empty, which is left out when it is written."""
        return Consumed(
            self.params or NOTHING, self.artifacts or NOTHING, self.results or NOTHING,
            self.ends or NOTHING,
        )  # fmt: skip


class Start(Struct, eq=False, frozen=True, gc=False, omit_defaults=True):
    """A claim: somebody began this attempt."""

    which: ClassVar[Literal["start"]] = "start"
    run_id: str
    path: str
    attempt: Number
    nonce: Nonce
    """Random, made once for each claim."""
    invocation: str
    by: Holder
    time: str = ""
    consumed: Consumed = field(default_factory=Consumed)
    code: Mapping[str, Any] | None = None
    digest: str = _NOT_READ
    code_digest: Digest | None = None
    """The digest of the code of this step alone, by whatever rule its executor has."""
    try_: Count | None = field(default=None, name="try")
    """Which try of its invocation it is, where the invocation makes several."""
    of: Count | None = None
    """How many tries that may be at most."""
    run_nonce: Nonce = ""
    """The nonce of the run: tells the record from those of another run of this id."""


class End(Struct, eq=False, frozen=True, gc=False, omit_defaults=True):
    """The one end of an attempt."""

    which: ClassVar[Literal["end"]] = "end"
    run_id: str
    path: str
    attempt: Number
    nonce: Nonce
    """That of the claim."""
    invocation: str
    outcome: Outcome
    consumed: Consumed = field(default_factory=Consumed)
    start: str | None = None
    """The digest of its start."""
    outputs: Mapping[str, Any] = NOTHING
    """Name -> JSON value, or :class:`Blob`."""
    artifacts: Mapping[str, Blob] = NOTHING
    metrics: Mapping[str, Any] = NOTHING
    error: Mapping[str, str] | None = None
    log: Blob | None = None
    began: str = ""
    ended: str = ""
    ended_by: Holder | None = None
    digest: str = _NOT_READ
    large: Mapping[str, Blob] = NOTHING
    """Of one that was read: the outputs that stand in blobs. They are among ``outputs``, too."""
    code_digest: Digest | None = None
    """The digest of the code of this step alone, by whatever rule its executor has."""
    try_: Count | None = field(default=None, name="try")
    """Which try of its invocation it was, where the invocation makes several."""
    of: Count | None = None
    """How many tries that may be at most."""
    run_nonce: Nonce = ""
    """The nonce of the run: tells the record from those of another run of this id."""

    def blobs(self) -> Iterator[Blob]:
        """The blobs that the attempt handed on: large values and artifacts, not its log."""
        yield from (value for value in self.outputs.values() if type(value) is Blob)
        yield from self.artifacts.values()

    @property
    def names_blobs(self) -> bool:
        """Of one that was read: whether an output, an artifact or its error names a blob."""
        return bool(self.large or self.artifacts or (self.error and "sha256" in self.error))


def end_of(
    start: Start,
    outcome: str,
    ended: str,
    *,
    consumed: Consumed | None = None,
    outputs: Mapping[str, Any] = NOTHING,
    artifacts: Mapping[str, Blob] = NOTHING,
    metrics: Mapping[str, Any] = NOTHING,
    error: Mapping[str, str] | None = None,
    log: Blob | None = None,
    ended_by: Holder | None = None,
) -> End:
    """An end of the attempt that a start began, with all that ends repeat of their starts.

    :param consumed: if that is more than the start says.
    """
    return End(
        start.run_id, start.path, start.attempt, start.nonce, start.invocation, outcome,
        start.consumed if consumed is None else consumed, start.digest or None,
        outputs, artifacts, metrics, error, log, start.time, ended, ended_by,
        code_digest=start.code_digest, try_=start.try_, of=start.of, run_nonce=start.run_nonce,
    )  # fmt: skip


class RunRecord(Struct, eq=False, frozen=True, omit_defaults=True):
    """The run itself. ``dag`` is its JSON form; ``parameters`` hold no secret's value."""

    run_id: str
    nonce: Nonce
    """Random: tells the run from others that had or will have its id."""
    created: str
    dag: Mapping[str, Any]
    structure: Structure
    parameters: Mapping[str, Any] = NOTHING
    """Name -> JSON value, :class:`Blob` or :class:`Secret`."""
    labels: Mapping[str, str] = NOTHING
    origin: Mapping[str, str] | None = None
    digest: str = _NOT_READ
    large: Mapping[str, Blob] = NOTHING
    """Of one that was read: the parameters that stand in blobs. They are in ``parameters``, too."""
    secrets: tuple[str, ...] = ()
    """Of one that was read: the names of those that are secret. They are there, too."""
    single_writer: bool = False
    """The store it was made in has no exclusive create, and one writer was promised."""
    source: Mapping[str, str] | None = None
    """Where it was brought in from, if it was not made by an executor of ours."""

    def blobs(self) -> Iterator[Blob]:
        """The large parameters."""
        return (value for value in self.parameters.values() if type(value) is Blob)

    @property
    def origin_pack(self) -> str:
        """Of a fork: the digest of the pack with what it took over; empty if there is none."""
        return (self.origin or {}).get("pack", "")


class Invocation(Struct, eq=False, frozen=True, omit_defaults=True):
    """One process, or one workflow, working on a run."""

    run_id: str
    id: InvocationId
    mode: str
    time: str = ""
    by: Holder | None = None
    command: tuple[str, ...] = ()
    code: Mapping[str, Any] | None = None
    force: Mapping[str, Size] = NOTHING
    ignored: tuple[str, ...] = ()
    structure: Changed | None = None
    dag: Mapping[str, Any] | None = None
    digest: str = _NOT_READ
    source: Mapping[str, str] | None = None
    """Of an import or a pull: where the run came from."""
    number: Count = field(default_factory=lambda: 1)  # written always: a plain 1 would be left out
    """One more than the highest that it saw: the latest has the highest, and of equal ones the
    greatest id."""
    run_nonce: Nonce = ""
    """The nonce of the run."""


class Marker(Struct, eq=False, frozen=True, omit_defaults=True):
    """``runstore.json``: this is a store."""

    created: str = ""
    version: str = ""
    single_writer: bool = False
    digest: str = _NOT_READ


Record = Start | End | RunRecord | Invocation | Marker


def key_of(prefix: str, record: Start | End) -> str:
    """The key of an attempt's record, below the prefix of its run."""
    return attempt_key(prefix, record.path, record.attempt, record.which)


def stamp(record: Record, digest: str) -> None:
    """Note the digest of a record, which is known when it has been read or framed."""
    force_setattr(record, "digest", digest)
