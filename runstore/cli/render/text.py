"""Values, times and errors as short texts that any terminal can show."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = [
    "amount", "clean", "clock", "command_line", "count", "error_line", "json_text", "lasted",
    "named", "seconds", "short", "shown", "symbols", "verb_line", "visible",
]  # fmt: skip

_HIDDEN = re.compile(
    # Control characters; what orders text (bidi), breaks lines, or has no width: of Unicode's
    # categories Cc, Cf, Zl and Zp, and of its Default_Ignorable_Code_Point, less the selectors
    # that colour emoji. Halves of surrogate pairs, too: a byte of a file's name that is no UTF-8.
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str, keep: str = "") -> str:
    """A text with an escape, such as ``\\x1b``, for each character that does something else than
    be seen.

    :param keep: of these, what stays as it is.
    """
    if text.isascii() and text.isprintable():
        return text

    def shown(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return _HIDDEN.sub(shown, text)


def clean(text: str, limit: int = 160, *, keep_lines: bool = False) -> str:
    """A message, its first line or all of them, as :func:`visible`, shortened in the middle."""
    if not keep_lines:
        text = next((line for line in text.split("\n") if line.strip()), "").rstrip("\r")
    return _shortened(visible(text, keep="\n" if keep_lines else ""), limit)


def named(text: str, limit: int = 160) -> str:
    """A name of somebody's choice: all of it in one line, as :func:`visible`, shortened."""
    return _shortened(visible(text), limit)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]} ... {text[len(text) - (limit - head - 5) :]}"


def json_text(document: object, indent: int | None = None) -> str:
    """A document as JSON, whatever limit this process has for the digits of its integers.

    :param indent: for programs: in ASCII, and indented, where no integer is beyond that limit.
    """
    ascii_only = indent is not None
    try:
        return json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    except ValueError:
        from runstore.canonical import exact

        text = exact(document).decode()
        return _NOT_ASCII.sub(lambda c: json.dumps(c[0])[1:-1], text) if ascii_only else text


_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def short(path: str, limit: int = 100) -> str:
    """A node path for people, shortened in the middle: by a part of its digest two are told apart.

    For what is only read: no command takes it.
    """
    if len(path) <= limit:
        return path
    from hashlib import sha256

    mark = f"...{sha256(path.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}..."
    head = (limit - len(mark)) * 2 // 3
    return f"{path[:head]}{mark}{path[len(path) - (limit - head - len(mark)) :]}"


def error_line(error: Mapping[str, str] | None) -> str:
    """``ValueError: what it says first``, of an end's error."""
    if not error:
        return ""
    message = clean(str(error.get("message") or ""))
    kind = clean(str(error.get("type") or "error"), 200)
    if kind.startswith("runstore."):
        kind = kind.rpartition(".")[2]
    return f"{kind}: {message}" if message else kind


def shown(value: Any, limit: int = 100) -> str:
    """A value as JSON, shortened; of one that stands in a blob, its size; of a secret, ``***``."""
    from runstore.records import Blob, Secret

    if type(value) is Secret:
        return "***"
    if type(value) is Blob:
        return f"({amount(value.size)}, in blob {value.sha256[:12]})"
    if isinstance(value, list) and len(value) > limit:
        return f"[{shown(value[0], 30)}, ... {count(len(value), 'item')}]"
    from runstore.canonical import dumps

    try:
        text = dumps(value).decode()
    except TypeError:  # a list whose elements stand in blobs
        text = f"[{', '.join(shown(item, 30) for item in value)}]"
    return clean(text, limit)


def amount(size: int) -> str:
    """Bytes for people: ``312 B``, ``4.2 MB``."""
    if size < 1000:
        return f"{size} B"
    value, units = size / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}"


def count(number: int, what: str, plural: str = "") -> str:
    """``1 step``, ``9,999 steps``."""
    return f"{number:,} {what if number == 1 else plural or f'{what}s'}"


def seconds(duration: float) -> str:
    """``0.3 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if duration < 60:
        return f"{max(duration, 0):.1f} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def lasted(began: str, ended: str) -> float | None:
    """Seconds between two times of records, if both are times."""
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
    except (ValueError, TypeError):
        return None


def clock(time: str) -> str:
    """A time of a record, for people: to the second, in their own time zone."""
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return clean(time, 30)


def command_line(*words: str) -> str:
    """A command that can be pasted into a shell."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if visible(word) == word:
        return shlex.quote(word)
    # As bash, zsh and ksh read it; POSIX has it since 2024, and dash has not.
    escaped = word.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{_HIDDEN.sub(lambda found: _for_shell(ord(found[0])), escaped)}'"


def _for_shell(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def verb_line(verb: str, *words: str, options: Sequence[str] = ()) -> str:
    """A command of ours. Words may begin with a dash, as a run id may."""
    dashes = ["--"] if any(word.startswith("-") for word in words) else []
    return command_line("runstore", verb, *options, *dashes, *words)


def commands(run_id: str, store: Sequence[str]) -> Callable[..., str]:
    """Gives :func:`verb_line` for a run, between backticks, of a verb and options.

    :param store: the words that mean its store.
    """

    def command(verb: str, *options: str) -> str:
        return f"`{verb_line(verb, run_id, options=[*store, *options])}`"

    return command


_FANCY = {"ok": "✓", "failed": "✗", "other": "•", "running": "▸"}
_PLAIN = {"ok": "ok", "failed": "FAILED", "other": "-", "running": ">"}


def symbols(stream: Any = None) -> Mapping[str, str]:
    """Marks that the stream can show."""
    encoding = getattr(stream or sys.stderr, "encoding", None) or "ascii"
    try:
        "".join(_FANCY.values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN
    return _FANCY
