"""Records: what a store is made of, as values (FORMAT.md, section 5).

:mod:`runstore.bodies` reads and writes their JSON, :mod:`runstore.framing` what stands around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "Blob",
    "Consumed",
    "End",
    "Holder",
    "Invocation",
    "Marker",
    "Record",
    "RunRecord",
    "Secret",
    "Start",
]


class Blob(NamedTuple):
    """A value, artifact or log that stands in a blob of its own."""

    sha256: str
    size: int
    value: str | None = None
    """Of a value: the digest of its canonical JSON, which is what consumers compare."""

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"sha256": self.sha256, "size": self.size}
        return out if self.value is None else {**out, "value": self.value}


class Secret(NamedTuple):
    """Stands for the value of a secret parameter, which is nowhere in the store."""

    name: str


class Holder(NamedTuple):
    """Who writes: what a later process needs to ask whether this one lives."""

    host: str
    pid: int | None = None
    pid_start: int | None = None
    boot: str | None = None
    pod: str | None = None

    def __str__(self) -> str:
        return f"pod {self.pod}" if self.pod else f"process {self.pid} on {self.host}"


@dataclass(slots=True)
class Consumed:
    """What an attempt was made from, as digests (FORMAT.md, section 7.2)."""

    params: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Name -> digest, and the path of the node that gave it."""
    results: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.params:
            out["params"] = self.params
        if self.artifacts:
            out["artifacts"] = {
                name: {"sha256": digest, "from": source} if source else {"sha256": digest}
                for name, (digest, source) in self.artifacts.items()
            }
        if self.results:
            out["results"] = self.results
        if self.ends:
            out["ends"] = self.ends
        return out


@dataclass(slots=True, eq=False)
class Start:
    """A claim: somebody began this attempt."""

    run_id: str
    path: str
    attempt: int
    nonce: str
    invocation: str
    by: Holder
    time: str
    consumed: Consumed
    code: Mapping[str, Any] | None = None
    digest: str = ""


@dataclass(slots=True, eq=False)
class End:
    """The one end of an attempt."""

    run_id: str
    path: str
    attempt: int
    nonce: str
    invocation: str
    outcome: str
    consumed: Consumed
    start: str | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Name -> JSON value, or :class:`Blob`."""
    artifacts: Mapping[str, Blob] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    log: Blob | None = None
    began: str = ""
    ended: str = ""
    ended_by: Holder | None = None
    digest: str = ""
    names_blobs: bool = False
    """Of one that was read: whether an output, an artifact or its error names a blob."""


@dataclass(slots=True, eq=False)
class RunRecord:
    """The run itself. ``dag`` is its JSON form; ``parameters`` hold no secret's value."""

    run_id: str
    nonce: str
    created: str
    dag: Mapping[str, Any]
    structure: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Name -> JSON value, :class:`Blob` or :class:`Secret`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] | None = None
    digest: str = ""


@dataclass(slots=True, eq=False)
class Invocation:
    """One process, or one workflow, working on a run."""

    run_id: str
    id: str
    mode: str
    time: str = ""
    by: Holder | None = None
    command: Sequence[str] = ()
    code: Mapping[str, Any] | None = None
    force: Mapping[str, int] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    structure: str | None = None
    dag: Mapping[str, Any] | None = None
    digest: str = ""


@dataclass(slots=True, eq=False)
class Marker:
    """``runstore.json``: this is a store."""

    created: str
    version: str
    single_writer: bool = False
    digest: str = ""


Record = Start | End | RunRecord | Invocation | Marker
