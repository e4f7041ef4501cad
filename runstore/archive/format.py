"""The layout of an exported run (FORMAT.md, section 12): lines <-> objects.

The file is valid JSON, one object to a line, so it is written and read as a stream. Only the layout
is checked here, in bounded memory.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, NamedTuple

import orjson

from runstore.canonical import loads
from runstore.errors import ValueNotJsonError
from runstore.records import keys

__all__ = [
    "FORMAT", "PIECE_BYTES", "Entry", "Layout", "LayoutError", "Limits", "Manifest", "head",
    "head_line", "is_hex", "parse_line", "piece_line", "record_line", "version_of",
]  # fmt: skip

FORMAT = "runstore-export/1"

PIECE_BYTES = 1 << 20
"""Blobs and packs are written in pieces of this size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask of its reader. A file may be of any size; its parts may not."""

    line_bytes: int = 32 << 20
    """One line: one record, or one piece of a blob."""
    objects: int = 1_000_000
    """Records and blobs: some 300 bytes of memory each."""
    pack_bytes: int = 256 << 20
    """The pack of a fork, which is held in memory to be checked."""


class Entry(NamedTuple):
    """One object line."""

    kind: str
    """``record``, ``pack`` or ``blob``."""
    name: str
    """Of a record: its key, relative to the run. Else: 64 hex digits."""
    part: int
    data: bytes
    """Of a record: its framed bytes. Else: a piece, in base64."""
    line: int = 0

    @property
    def key(self) -> str:
        """The key of the object, relative to the run."""
        if self.kind == "record":
            return self.name
        return (keys.pack_key if self.kind == "pack" else keys.blob_key)("", self.name)

    def piece(self) -> bytes:
        """The bytes of a piece. Raises ``ValueError`` for what is no base64."""
        return a2b_base64(self.data, strict_mode=True)


class Manifest:
    """Counts and hashes the names and digests of the objects, for the last line of the file, which
    tells whether objects are missing."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = sha256()

    def add(self, key: str, digest: str) -> None:
        self.count += 1
        self._digest.update(f"{key} {digest}\n".encode())

    def digest(self) -> str:
        return self._digest.hexdigest()

    def line(self) -> bytes:
        return b'],"count":%d,"sha256":"%s"}\n' % (self.count, self.digest().encode())


# Strings are left to the JSON parser: to match one that is long, `re` needs 80 bytes of memory for
# each of its escapes, or possessive quantifiers, which Python 3.11.2, Debian 12's, gets wrong.
_HEAD, _HEAD_END = b'{"format":"%s","run_id":"' % FORMAT.encode(), b',"objects":[\n'
_HEAD_BYTES = 1 << 14  # a run id has 1,000 characters at most
_RECORD = re.compile(rb'\{"key":"([a-z0-9._/-]{1,400})","data":(?=")')
_PIECE = re.compile(rb'\{"(blob|pack)":"([0-9a-f]{64})","part":(0|[1-9][0-9]{0,8}),"base64":"')
_VERSION = re.compile(rb'"format"\s*:\s*"(runstore-export/[^"]{1,20})"')
is_hex = re.compile(r"[0-9a-f]{64}").fullmatch


def head(line: bytes) -> tuple[str, str, str] | None:
    """Run id, nonce and artifacts of a first line, ``None`` if it is none. ``ValueError`` if it
    is damaged."""
    if len(line) > _HEAD_BYTES or not line.startswith(_HEAD) or not line.endswith(_HEAD_END):
        return None
    found = _json(line.removesuffix(_HEAD_END) + b"}")
    if list(found) != ["format", "run_id", "run_nonce", "artifacts"]:
        return None
    _, run_id, nonce, artifacts = found.values()
    return (run_id, nonce, artifacts) if type(nonce) is type(artifacts) is str else None


def version_of(line: bytes) -> str:
    """The format that a first line claims, ``""`` if none."""
    found = _VERSION.search(line[:4096])
    return found[1].decode("ascii", "replace") if found else ""


def head_line(run_id: str, nonce: str, artifacts: str) -> bytes:
    """The first line."""
    said = orjson.dumps(run_id), orjson.dumps(nonce), orjson.dumps(artifacts)
    return b'{"format":"%s","run_id":%s,"run_nonce":%s,"artifacts":%s,"objects":[\n' % (
        FORMAT.encode(), *said
    )  # fmt: skip


def record_line(key: str, framed: bytes) -> bytes:
    """One record, without the comma and the newline that follow. The framed bytes stand in a JSON
    *string*, so that no pretty-printer changes them."""
    return b'{"key":"%s","data":%s}' % (key.encode(), orjson.dumps(framed.decode()))


def piece_line(kind: str, name: str, part: int, piece: bytes) -> bytes:
    """One piece of a blob or a pack."""
    encoded = b2a_base64(piece, newline=False)
    return b'{"%s":"%s","part":%d,"base64":"%s"}' % (kind.encode(), name.encode(), part, encoded)


def _json(data: bytes) -> Any:
    try:
        return loads(data)
    except ValueNotJsonError as error:
        raise ValueError(error.problem) from None


def parse_line(line: bytes, number: int) -> Entry:
    """The object in a line. ``ValueError`` if there is none."""
    if (found := _RECORD.match(line)) and line.endswith(b'"}'):
        with suppress(ValueError):  # if the rest is one string, as we write it
            data = orjson.loads(memoryview(line)[found.end() : -1])
            return Entry("record", found[1].decode(), 0, data.encode(), number)
    if (found := _PIECE.match(line)) and line.endswith(b'"}'):
        data = line[found.end() : -2]
        return Entry(found[1].decode(), found[2].decode(), int(found[3]), data, number)
    raw = _json(line)
    if type(raw) is dict:
        if type(key := raw.get("key")) is str and type(data := raw.get("data")) is str:
            return Entry("record", key, 0, data.encode(), number)
        for kind in ("blob", "pack"):
            name, part, piece = raw.get(kind), raw.get("part"), raw.get("base64")
            if type(name) is str and is_hex(name) and type(part) is int and type(piece) is str:
                return Entry(kind, name, part, piece.encode("ascii"), number)
    raise LayoutError("an object is neither a record nor a piece of a blob")


class LayoutError(ValueError):
    """The file is cut short, reformatted, or was never an exported run."""


class Layout:
    """The lines after the first one."""

    def __init__(self, file: IO[bytes], at: int, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self.begin = self.end = at
        self.number = 1
        self.count = -1
        self.digest = ""

    def entries(self) -> Iterator[Entry]:
        limit = self._limits.line_bytes
        open_to = ("", -1)  # the blob whose parts are coming, and the last of them
        more = True  # whether a comma said that an object follows
        while True:
            line = self._file.readline(limit + 1)
            self.number += 1
            self.begin, self.end = self.end, self.end + len(line)
            if len(line) > limit:
                raise LayoutError(f"a line is longer than {limit} bytes")
            if line[:1] == b"]":
                if more:
                    raise LayoutError(f"line {self.number} ends a list that goes on")
                self._tail(line)
                return
            if not line.endswith(b"\n"):
                raise LayoutError(f"it is cut short in line {self.number}")
            if not more:
                raise LayoutError(f"a comma is missing before line {self.number}")
            more = line.endswith(b",\n")
            try:
                entry = parse_line(line[: -2 if more else -1], self.number)
            except LayoutError:
                raise
            except ValueError as error:
                raise LayoutError(f"line {self.number} is no object ({error})") from None
            if entry.kind == "record":
                open_to = ("", -1)
            else:
                if entry.part and open_to != (entry.key, entry.part - 1):
                    raise LayoutError(f"part {entry.part} of {entry.key} does not follow part "
                                          f"{entry.part - 1}")  # fmt: skip
                open_to = (entry.key, entry.part)
            yield entry

    def _tail(self, line: bytes) -> None:
        try:
            raw = _json(b'{"objects":[' + line)
            self.count, self.digest = raw["count"], raw["sha256"]
        except (ValueError, KeyError, TypeError):
            raise LayoutError(f"line {self.number} does not close it") from None
        if self._file.read(1):
            raise LayoutError("something follows its last line")
