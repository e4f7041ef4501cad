"""Node paths: where in a run a node's execution stands (design, section 4).

::

    path     = segment *( "/" segment )
    segment  = name [ item / branch / iteration ]
    item     = "[" JSON [ "#" k ] "]"      the k-th of equal items, k from 2; JSON is canonical
    branch   = ":" name
    iteration= "@" i                       i from 0, no leading zeros
    name     = 1*character                 with % / [ ] : @ # + * ? and control characters
                                           (C0, DEL, C1) as %XX of their UTF-8 bytes

One path has one text, and one text at most one path: other spellings (``%2f``, ``%41``, ``[1.0]``,
``#1``, ``@01``) are refused, so texts are compared, sorted and hashed as they are. Inside an item
the characters of the grammar may stand in JSON strings. Everything is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runstore import canonical
from runstore.errors import PathError, ValueNotJsonError

__all__ = [
    "MAX_RUN_ID", "NodePath", "Segment", "check_name", "check_run_id", "escape",
    "percent_decode", "percent_encode", "segment_end", "segments", "template", "wildcard",
]  # fmt: skip

MAX_RUN_ID = 1_000
"""Characters of the longest run id."""

_CONTROL = r"\x00-\x1f\x7f-\x9f"
_ESCAPED = re.compile(rf"[%/\[\]:@#+*?{_CONTROL}]")
_CONTROLS = re.compile(rf"[{_CONTROL}]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_HEX = re.compile(r"(?:%[0-9A-F]{2})+")
_NOT_SENT = re.compile(r"[^A-Za-z0-9._~/@:\[\]#-]+")
_QUALIFIER = re.compile(r"[\[:@]")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")

# Inside an item only a JSON string can hold "/", so the end of a segment is found without
# counting brackets. No part can match where the next one could, so nothing is tried twice, however
# long the item. (Not possessive: the `re` of Python 3.11.2, Debian 12's, does not go back to where
# a possessive group began when the group fails half-way.)
_ITEM = r'\[[^"/]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"/]*)*'
_SEGMENT = re.compile(rf"[^/\[]*(?:{_ITEM})?", re.DOTALL)
_NOT_IN_TEMPLATE = re.compile(rf"{_ITEM}|@[^/]*", re.DOTALL)


def check_run_id(run_id: str) -> str:
    """The run id itself, if it can be one.

    Raises ``PathError`` for an empty one, one of more than 1,000 characters, control characters
    and lone surrogates. All else is fine (``a/b``, ``..``, upper and lower case, any script): the
    key form keeps them apart.
    """
    if not isinstance(run_id, str):
        raise PathError(f"a run id is text, not {type(run_id).__name__}", advice="pass a str")
    if not run_id:
        raise PathError("the run id is empty", advice="pass one, or none at all to have one made")
    if len(run_id) > MAX_RUN_ID:
        raise PathError(
            f"the run id {_show(run_id)} has {len(run_id)} characters",
            advice=f"use {MAX_RUN_ID} at most",
        )
    if not run_id.isprintable():  # quick, and true of nearly every id; says nothing if false
        if (found := _CONTROLS.search(run_id)) is not None:
            raise PathError(
                f"the run id {_show(run_id)} holds the control character U+{ord(found[0]):04X} at "
                f"position {found.start()}",
                advice="remove it",
            )
        if (found := _SURROGATES.search(run_id)) is not None:
            raise PathError(
                f"the run id {_show(run_id)} holds a lone surrogate at position {found.start()}, "
                "which no encoding can write",
                advice="decode it anew",
            )
    return run_id


def check_name(name: str) -> str:
    """The name of a node or a branch itself, if it can be one. Any text can, but for the empty
    one and those with lone surrogates: ``PathError``."""
    if not isinstance(name, str):
        raise PathError(f"a name is text, not {type(name).__name__}", advice="pass a str")
    if not name:
        raise PathError("the name is empty", advice="give the node or branch a name")
    if not name.isascii() and (found := _SURROGATES.search(name)) is not None:
        raise PathError(
            f"the name {_show(name)} holds a lone surrogate at position {found.start()}, which "
            "no encoding can write",
            advice="rename it",
        )
    return name


def escape(name: str) -> str:
    """A name as it stands in a path: the grammar's characters and controls percent-encoded.

    Does not check the name (``check_name`` does). 0.1 us for an identifier.
    """
    if name.isidentifier() or _ESCAPED.search(name) is None:
        return name
    return _ESCAPED.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), name)


def percent_encode(text: str) -> str:
    """A path's text as it goes through systems that read braces, quotes or spaces: all but letters,
    digits and ``- . _ ~ / @ : [ ] #`` is percent-encoded, as UTF-8 (RFC 3986, section 2.1).

    Encoding goes character by character, so plain text can be appended to what is encoded.
    """
    return _NOT_SENT.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), text)


def percent_decode(text: str) -> str | None:
    """The text of which :func:`percent_encode` makes this; ``None`` if there is none."""
    try:
        plain = _HEX.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), text)
        return plain if percent_encode(plain) == text else None
    except UnicodeError:
        return None


def segments(text: str) -> list[str]:
    """The texts of a path's segments: split at each ``/`` that is not in an item's string.

    Only splits; ``NodePath.parse`` checks. Raises ``PathError`` if a string in an item never
    ends. As quick as ``str.split`` if the text holds no quote.
    """
    if '"' not in text:
        return text.split("/")
    return [piece for _, piece in _pieces(text)]


def segment_end(text: str, start: int = 0) -> int:
    """Where the segment that begins, or goes on, at ``start`` ends: before a ``/``, or with the
    text. Only looks; an item that never ends leads no further than its ``[``."""
    return _SEGMENT.match(text, start).end()  # type: ignore[union-attr]  # it matches nothing, too


def template(text: str) -> str:
    """A path's text without items and iterations: what in the DAG it is an execution of.

    Branches stay (``c:heads/h1``): they are of the DAG. ``text`` must be a path's; this does not
    check. 0.1 us for a path that is its own template.
    """
    if "[" not in text and "@" not in text:
        return text
    return _NOT_IN_TEMPLATE.sub("", text)


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a path: a node's name, and which of its bodies, if the path goes on in one.

    ``item`` is canonical JSON text (``for_item`` makes it), ``k`` says which of equal items, from
    1. Raises ``PathError`` for an impossible name, a second qualifier, an item that is not
    canonical JSON, a negative iteration.
    """

    name: str
    item: str | None = None
    k: int = 1
    branch: str | None = None
    iteration: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if (self.item is not None) + (self.branch is not None) + (self.iteration is not None) > 1:
            raise PathError(f"{self.name!r} has more than one of item, branch and iteration")
        if self.item is not None:
            _check_item(self.item)
        if self.k < 1 or (self.item is None and self.k != 1):
            raise PathError(f"{self.name!r}: k counts equal items, from 1, not {self.k}")
        if self.branch is not None:
            check_name(self.branch)
        if self.iteration is not None and self.iteration < 0:
            raise PathError(f"{self.name!r}: iterations count from 0, not {self.iteration}")

    @classmethod
    def for_item(cls, name: str, value: object, k: int = 1) -> Segment:
        """The segment of a map's item. Raises ``ValueNotJsonError`` if the item is not JSON."""
        return cls(name, item=canonical.dumps(value).decode("utf-8"), k=k)

    def __str__(self) -> str:
        name = escape(self.name)
        if self.item is not None:
            return f"{name}[{self.item}#{self.k}]" if self.k > 1 else f"{name}[{self.item}]"
        if self.branch is not None:
            return f"{name}:{escape(self.branch)}"
        if self.iteration is not None:
            return f"{name}@{self.iteration}"
        return name


@dataclass(frozen=True, slots=True)
class NodePath:
    """A path as a value: at least one segment. ``str(path)`` is its one text."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if not self.segments:
            raise PathError("a node path has at least one segment", advice="name a node")

    @classmethod
    def parse(cls, text: str) -> NodePath:
        """The path whose text this is; ``str`` gives the text back, to the character.

        Raises ``PathError``, naming the text and the position (``error.position``), for anything
        ``str(path)`` would not have written.
        """
        parsed = []
        try:
            for at, piece in _pieces(text):  # noqa: B007  # the error below says where
                parsed.append(_parse_segment(piece))
        except _Wrong as wrong:
            raise _no_path(text, at + wrong.position, str(wrong)) from wrong.__cause__
        return cls(tuple(parsed))

    @property
    def name(self) -> str:
        """The node's own name, unescaped."""
        return self.segments[-1].name

    @property
    def template(self) -> str:
        """As the function ``template`` of the text."""
        return template(str(self))

    def __str__(self) -> str:
        return "/".join(map(str, self.segments))


class _Wrong(Exception):  # noqa: N818  # never leaves this module
    """What is wrong, and where in the segment."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(what)
        self.position = position


def _no_path(text: str, position: int, what: str) -> PathError:
    return PathError(
        f"{_show(text)} is no node path: at position {position}, {what}",
        text=text,
        position=position,
    )


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Each segment's text, and where it begins. Raises ``PathError`` for a string without end."""
    at = 0
    while True:
        end = _SEGMENT.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        last = end == len(text)
        if not last and text[end] != "/":  # a quote: all else is matched
            raise _no_path(text, end, "a string begins that never ends")
        yield at, text[at:end]
        if last:
            return
        at = end + 1


def _parse_segment(piece: str) -> Segment:
    found = _QUALIFIER.search(piece)
    if found is None:
        return Segment(_unescape(piece, 0))
    at = found.end()
    name = _unescape(piece[: at - 1], 0)
    rest = piece[at:]
    if found[0] == ":":
        return Segment(name, branch=_unescape(rest, at))
    if found[0] == "@":
        return Segment(name, iteration=_parse_number(rest, at, 0))
    if not rest.endswith("]"):
        raise _Wrong(len(piece), "an item ends with ] and nothing follows it but /")
    item, k = rest[:-1], 1
    # A "#" behind the last quote is the grammar's: JSON has it in strings only.
    mark = item.rfind("#", item.rfind('"') + 1)
    if mark >= 0:
        k = _parse_number(item[mark + 1 :], at + mark + 1, 2)
        item = item[:mark]
    try:
        return Segment(name, item=item, k=k)
    except PathError as error:
        raise _Wrong(at, str(error)) from error


def _parse_number(digits: str, at: int, least: int) -> int:
    if _NUMBER.fullmatch(digits) is None or int(digits) < least:
        raise _Wrong(at, f"a number from {least} without leading zeros, not {_show(digits)}")
    return int(digits)


def _unescape(text: str, at: int) -> str:
    """The name written here. Raises ``_Wrong`` unless ``escape`` would have written it so."""
    if not text:
        raise _Wrong(at, "a name is missing")
    if _ESCAPED.search(text) is None:
        name = text
    else:
        try:
            name = _HEX.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), text)
        except UnicodeDecodeError as error:
            raise _Wrong(at, f"{_show(text)} holds escapes that are not UTF-8") from error
        written = escape(name)
        if written != text:
            pairs = enumerate(zip(text, written, strict=False))
            same = next((i for i, (a, b) in pairs if a != b), min(len(text), len(written)))
            raise _Wrong(at + same, f"a name is written otherwise, as {_show(written)}")
    try:
        return check_name(name)
    except PathError as error:
        raise _Wrong(at, str(error)) from error


def _check_item(text: str) -> None:
    try:
        written = canonical.dumps(canonical.loads(text.encode("utf-8")))
    except (ValueNotJsonError, UnicodeEncodeError) as error:
        raise PathError(f"the item {_show(text)}: {error}") from error
    if written != text.encode("utf-8"):
        raise PathError(
            f"the item {_show(text)} is not canonical",
            advice=f"write {_show(written.decode('utf-8'))}",
        )


def _show(text: str) -> str:
    """For a message: what no terminal can show is escaped, and 10 KB are not repeated."""
    shown = text if len(text) <= 120 else f"{text[:80]}...{text[-30:]}"
    return repr(shown)


def wildcard(pattern: str) -> Callable[[str], object]:
    """A test of whole texts against a glob in which ``*`` is any text, ``/`` included, and ``?``
    one character. Nothing else is special: paths are full of brackets."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL).fullmatch
