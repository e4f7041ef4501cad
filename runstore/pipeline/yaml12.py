"""YAML as YAML 1.2 has it (https://yaml.org/spec/1.2.2/, core schema, 10.3.2), less what hides
mistakes.

``yes``, ``on``, ``12:30`` and ``2024-01-01`` are texts, ``010`` is ten. The scanner is PyYAML's,
which knows no schema; what its events mean is decided here. Refused: tags, a key that stands twice,
keys that are lists or objects, the merge key ``<<`` (YAML 1.1's), several documents, what JSON has
no value for. An alias is a copy of what it names, up to a size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from runstore.canonical import MAX_DEPTH, MAX_DIGITS, integer
from runstore.errors import PipelineError

__all__ = ["Document", "parse_yaml"]

_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+").fullmatch
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+").fullmatch
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?").fullmatch
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)").fullmatch
_BREAKS = re.compile("[\x85\u2028\u2029]")
_COPIED = 1_000_000
"""Values and characters that all aliases together may stand for. Some few lines that name one
another in turn would make more than a machine can hold."""


class Document(NamedTuple):
    """What a file holds, and where in it."""

    value: Any
    lines: Mapping[tuple[int, str | None], int] = {}
    """The line of each list and object, by its id, and of its keys."""

    def line(self, part: object, key: str | None = None) -> int | None:
        """From 1; ``None`` where it is not known."""
        return self.lines.get((id(part), key)) or self.lines.get((id(part), None))


def parse_yaml(text: str, path: str) -> Document:
    """
    :param text: without a byte order mark.
    :raises PipelineError: naming ``path``, the line, and what to write.
    """
    import yaml

    if found := _BREAKS.search(text):
        _refuse(
            path,
            _line(text, found.start()),
            f"has the character U+{ord(found[0]):04X}, which is a line break for some readers of "
            f'YAML and not for others: write it as "\\u{ord(found[0]):04x}" in double quotes',
        )
    try:
        return _Builder(path).build(yaml.parse(text, yaml.SafeLoader))
    except yaml.reader.ReaderError as error:
        _refuse(
            path,
            _line(text, error.position),
            f"has the character U+{ord(text[error.position]):04X}, which YAML does not take: write "
            f"it as an escape in double quotes",
        )
    except yaml.YAMLError as error:
        _explain(text, path, error)
    except PipelineError:  # which is a ValueError
        raise
    except (ValueError, OverflowError):  # of chr(), for \U00110000
        raise PipelineError(f"{path} has an escape beyond Unicode", advice="correct it") from None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _refuse(path: str, line: int | None, what: str) -> NoReturn:
    raise PipelineError(f"{path}, line {line}: {what}" if line else f"{path}: {what}")


def _explain(text: str, path: str, error: Any) -> NoReturn:
    """Say what PyYAML found, and what was meant, most likely."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        raise PipelineError(f"{path} is not YAML: {problem or error}") from error
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = ": it is indented by a tab, and YAML takes spaces only"
    elif str(error.context).startswith(("while scanning an alias", "while scanning an anchor")):
        hint = ": a text that begins with * or & needs quotes"
    elif "cannot start any token" in str(problem):
        hint = ": a text that begins with it needs quotes"
    elif "mapping values are not allowed" in str(problem):
        hint = ": a text with a colon and a space in it needs quotes; else see the indentation"
    raise PipelineError(f"{path}, line {mark.line + 1}, is not YAML: {problem}{hint}") from error


class _Open:
    """A list or an object whose end has not come."""

    __slots__ = ("anchor", "key", "value")

    def __init__(self, value: Any, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: str | None = None


class _Builder:
    """Values from events, on a stack of its own: no nesting meets Python's limit."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root: Any = None
        self.documents = 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, Any] = {}
        self.lines: dict[tuple[int, str | None], int] = {}
        self.copied = 0

    def build(self, events: Iterator[Any]) -> Document:
        import yaml

        for event in events:
            self.line = event.start_mark.line + 1
            if isinstance(event, yaml.ScalarEvent):
                self._place(event, self._scalar)
            elif isinstance(event, yaml.AliasEvent):
                self._place(event, self._alias)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            elif isinstance(event, yaml.CollectionEndEvent):
                done = self.stack.pop()
                if done.anchor:
                    self.anchors[done.anchor] = done.value
            elif isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    self._refuse("a second document begins here, and one is taken: split the file")
                if event.version == (1, 1):
                    self._refuse("YAML 1.1 is asked for, and this is read as 1.2: take that out")
        return Document(self.root, self.lines)

    def _refuse(self, what: str) -> NoReturn:
        _refuse(self.path, self.line, what)

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(f"the tag {tag} is not taken: a text needs quotes and no tag")

    def _key_is_next(self) -> bool:
        return (
            bool(self.stack) and type(self.stack[-1].value) is dict and self.stack[-1].key is None
        )

    def _begin(self, event: Any, value: Any) -> None:
        self._check_tag(event)
        if self._key_is_next():
            self._refuse("a key is a list or an object, and must be text")
        if len(self.stack) >= MAX_DEPTH:
            self._refuse(f"nests deeper than {MAX_DEPTH} levels")
        self.lines[id(value), None] = self.line
        self._add(value)
        self.stack.append(_Open(value, event.anchor))

    def _place(self, event: Any, value_of: Any) -> None:
        if self._key_is_next():
            self._key(event)
        else:
            self._add(value_of(event))

    def _add(self, value: Any) -> None:
        if not self.stack:
            self.root = value
            return
        top = self.stack[-1]
        if top.key is None:
            top.value.append(value)
        else:
            top.value[top.key] = value
            top.key = None

    def _key(self, event: Any) -> None:
        """As it is spelt: ``no``, ``1`` and ``true`` are names as any others."""
        top = self.stack[-1]
        if not hasattr(event, "value"):
            self._refuse("a key is an alias, and must be text")
        self._check_tag(event)
        key = self._text(event.value)
        if key == "<<" and event.style is None:
            self._refuse('merging ("<<") is no part of YAML 1.2: write out what it stands for')
        if key in top.value:
            first = self.lines[id(top.value), key]
            self._refuse(f"{key!r} is there twice: in line {first} before")
        if event.anchor:
            self.anchors[event.anchor] = key
        self.lines[id(top.value), key] = self.line
        top.value[key] = None
        top.key = key

    def _scalar(self, event: Any) -> Any:
        self._check_tag(event)
        value = self._text(event.value) if event.style else self._plain(event.value)
        if event.anchor:
            self.anchors[event.anchor] = value
        return value

    def _text(self, text: str) -> str:
        if text.isascii():
            return text
        try:  # escapes may have come as the two halves of a pair, as in JSON
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse("a text has half of a surrogate pair in it, which is no character")

    def _plain(self, text: str) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER(text):
            digits = text.lstrip("+-").lstrip("0") or "0"
            if len(digits) > MAX_DIGITS:
                self._refuse_integer(f"of {len(digits):,} digits")
            return -integer(digits) if text[0] == "-" else integer(digits)
        if _BASED(text):
            value = int(text[2:], 8 if text[1] == "o" else 16)
            if value >= 10**MAX_DIGITS:
                self._refuse_integer("too large")
            return value
        if _FLOAT(text):
            number = float(text)
            if math.isinf(number):
                self._refuse(f"the number {text[:60]} is beyond the doubles: put a text in quotes")
            return number
        if _NO_NUMBER(text):
            self._refuse(
                f"{text} is no JSON, which all values are: write null, or a text in quotes"
            )
        return self._text(text)

    def _refuse_integer(self, what: str) -> NoReturn:
        self._refuse(f"an integer {what}: {MAX_DIGITS:,} digits are kept at most; put it in quotes")

    def _alias(self, event: Any) -> Any:
        name = event.anchor
        if any(each.anchor == name for each in self.stack):
            self._refuse(f"*{name} stands in what it names: write it out")
        if name not in self.anchors:
            self._refuse(
                f"there is no &{name} before *{name}; a text that begins with * needs quotes"
            )
        # A copy: what is done with one of them is not done with the other.
        return self._copy(self.anchors[name])

    def _copy(self, value: Any) -> Any:
        out: list[Any] = [None]
        stack: list[tuple[Any, Any, Any]] = [(value, out, 0)]
        while stack:
            item, holder, at = stack.pop()
            self.copied += 1 + (len(item) if isinstance(item, str) else 0)
            if self.copied > _COPIED:
                self._refuse(f"its aliases stand for more than {_COPIED:,} values and characters")
            if type(item) is dict:
                holder[at] = made = dict.fromkeys(item)
                stack += [(each, made, key) for key, each in item.items()]
                self.copied += sum(map(len, item))
                for key in (None, *item):
                    self.lines[id(made), key] = self.lines[id(item), key]
            elif type(item) is list:
                holder[at] = made = [None] * len(item)  # type: ignore[assignment]
                stack += [(each, made, i) for i, each in enumerate(item)]
                self.lines[id(made), None] = self.lines[id(item), None]
            else:
                holder[at] = item
        return out[0]
