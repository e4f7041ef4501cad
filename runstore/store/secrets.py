"""Keeping the values of secrets out of what is written: the value itself, and the spellings that
programs give it on the way to a log (`_spelt`). What a task derives from it otherwise (a hash, a
part), and what it puts into a file, is not found."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, AnyStr

from runstore.canonical import dumps
from runstore.errors import InputError, ValueNotJsonError

__all__ = [
    "MASK", "hidden_texts", "mask", "mask_pieces", "mask_rest", "refuse_names", "refuse_secrets",
    "refuse_short",
]  # fmt: skip

MASK = "***"
_SHORTEST = 4
"""Of fewer characters a text is found everywhere, and masks what is no secret."""
_FOUND_WITHIN = 8
"""Of fewer characters a secret is found in ordinary words, which must not be refused for it."""


def refuse_short(secrets: Mapping[str, Any]) -> None:
    """
    :raises InputError: for a text or a number that is too short to be found, and so to be kept out
        of logs and errors.
    """
    for name, value in secrets.items():
        text = value.strip() if isinstance(value, str) else _json(value)
        kept = isinstance(value, str | int | float) and type(value) is not bool
        if kept and len(text) < _SHORTEST:
            raise InputError(
                f"the secret {name!r} is shorter than {_SHORTEST} characters, and cannot be kept "
                "out of logs and errors",
                advice="use a longer one, or give it as an ordinary parameter",
                parameter=name,
            )


def hidden_texts(secrets: Mapping[str, Any]) -> list[str]:
    """The texts to mask, the longest first: strings of four characters and more, also within a
    value; of any other value its canonical JSON. Each in its usual spellings; of one of several
    lines, the longer lines too."""
    found: set[str] = set()
    for value in secrets.values():
        found |= _shown(value)
        for text in _strings(value):
            lines = [line.strip() for line in text.splitlines()]
            found.update(line for line in lines if len(line) >= _FOUND_WITHIN)
    return sorted(found, key=len, reverse=True)


def _shown(value: Any) -> set[str]:
    found = {each for text in _strings(value) for each in _spellings(text)}
    if type(value) is not str and type(value) is not bool and value is not None:
        found.add(_json(value))
    return {text for text in found if len(text) >= _SHORTEST}


@functools.lru_cache(64)  # a run has few, and asks for each log, error and output
def _spellings(text: str) -> frozenset[str]:
    return frozenset(_spelt(text))


def _spelt(text: str) -> Iterator[str]:
    """A text as Python, JSON, URLs, shells, HTML and base64 write it."""
    import html
    import shlex
    from base64 import b64encode, urlsafe_b64encode
    from urllib.parse import quote, quote_plus

    # A secret of a file ends with a line feed, and is used without; a terminal adds a return.
    for plain in {text, text.strip(), text.replace("\n", "\r\n")}:
        raw = plain.encode("utf-8", "surrogatepass")
        quoted = json.dumps(plain)[1:-1]
        yield from (plain, quoted, json.dumps(quoted)[1:-1], quoted.replace("/", "\\/"))
        yield from (_json(plain)[1:-1], repr(plain)[1:-1], ascii(plain)[1:-1], repr(raw)[2:-1])
        for url in (quote(raw), quote(raw, safe=""), quote_plus(raw), quote_plus(raw, safe="/")):
            yield from (url, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), url))
        yield from (shlex.quote(plain).strip("'"), plain.replace("'", r"'\''"))
        yield re.sub(r"[^\w@%+=:,./-]", r"\\\g<0>", plain)  # printf %q
        yield from (html.escape(plain), html.escape(plain, quote=False))
        for before in range(3):  # where it may begin among the bytes that are encoded together
            for encode in (b64encode, urlsafe_b64encode):
                # Without the digits at either end that depend on what stands beside it.
                begin, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
                digits = encode(bytes(before) + raw).decode()[begin:end]
                if len(digits) >= _FOUND_WITHIN:
                    yield digits


def _json(value: Any) -> str:
    try:
        return dumps(value).decode()
    except ValueNotJsonError:
        return ""  # never a parameter: a run does not take it


def _strings(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield str(item)
        elif isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)


def mask(text: str, secrets: Mapping[str, Any]) -> str:
    """``text`` with every value of a secret replaced by ``***``."""
    return mask_rest(text, hidden_texts(secrets), MASK, 0) if secrets else text


def mask_rest(text: AnyStr, hidden: Sequence[AnyStr], by: AnyStr, begin: int) -> AnyStr:
    """What stands in ``text`` from ``begin`` on, masked. What is hidden and begins before that is
    left out as a whole: no part of it is shown."""
    masked, _ = _hide(text, hidden, by, begin, len(text))
    return masked


def mask_pieces(pieces: Iterable[AnyStr], hidden: Sequence[AnyStr], by: AnyStr) -> Iterator[AnyStr]:
    """A text that comes in pieces, masked as if it came in one: wherever it is cut."""
    if not hidden:
        yield from pieces
        return
    longest = max(map(len, hidden))
    held, covered = by[:0], 0
    for piece in pieces:
        held += piece
        # All that could begin before this is in sight to its end; what begins later may go on.
        final = max(0, len(held) - (longest - 1))
        masked, done = _hide(held, hidden, by, covered, final)
        yield masked
        held, covered = held[final:], done - final
    yield mask_rest(held, hidden, by, covered)


def _hide(
    text: AnyStr, hidden: Sequence[AnyStr], by: AnyStr, done: int, final: int
) -> tuple[AnyStr, int]:
    """What stands between ``done`` and ``final``, masked, and up to where the text is done then.
    Texts that overlap are hidden by one mask: masking one alone would show a part of the other."""
    found = []
    for each in hidden:
        at = text.find(each, 0, final + len(each) - 1)
        while at >= 0:
            found.append((at, at + len(each)))
            at = text.find(each, at + 1, final + len(each) - 1)
    shown = []
    for begin, end in sorted(found):
        if begin >= done:
            shown += [text[done:begin], by]
        done = max(done, end)
    if done < final:
        shown.append(text[done:final])
        done = final
    return by[:0].join(shown), done


def refuse_secrets(
    values: Mapping[str, Any], secrets: Mapping[str, Any], what: str, path: str
) -> None:
    """Refuse values with a secret in them: masking it would record another value than was returned.

    A secret is seen where a text, a key or a number, at any depth, is the secret as a whole; one of
    eight characters or more also inside of a longer text (``"Bearer <secret>"``), a shorter one
    not, since it would be found in ordinary words. What was derived from one is not recognised.

    :raises InputError: naming the first value that a secret is seen in.
    """
    known = _known(secrets)
    for name, value in values.items() if known else ():
        for item in _texts_and_numbers(value):
            seen = _seen(item, known) if isinstance(item, str) else known.get(_json(item))
            if seen is not None:
                raise InputError(
                    f"{what} {name!r} of {path} is the secret {seen!r}, or has it in it, and a "
                    f"secret is never stored",
                    advice="let what needs it read it as a parameter",
                    path=path,
                    parameter=name,
                )


def refuse_names(names: Iterable[str], secrets: Mapping[str, Any], what: str, path: str) -> None:
    """Refuse names with a secret in them, also as a part of a path, or that without its suffix.

    :param what: what they name, an output for one.
    :raises InputError: without the name.
    """
    known = _known(secrets)
    for name in names if known else ():
        parts = [name, *re.split(r"[/\\]", name)]
        for part in [*parts, *(part.partition(".")[0] for part in parts)]:
            if (seen := _seen(part, known)) is not None:
                raise InputError(
                    f"the name of {what} of {path} is the secret {seen!r}, or has it in it, and a "
                    "secret is never stored",
                    advice="choose another name",
                    path=path,
                    parameter=seen,
                )


def _known(secrets: Mapping[str, Any]) -> dict[str, str]:
    """Each text by which a secret is seen, and the name of that secret."""
    return {text: name for name, value in secrets.items() for text in _shown(value)}


def _seen(text: str, known: Mapping[str, str]) -> str | None:
    if text in known:
        return known[text]
    return next((n for t, n in known.items() if len(t) >= _FOUND_WITHIN and t in text), None)


def _texts_and_numbers(value: Any) -> Iterator[Any]:
    """All texts and numbers in a value, keys too. The value may hold itself."""
    stack = [value]
    opened: dict[int, Any] = {}  # kept with their ids, which are theirs as long as they live
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield str(item)
        elif isinstance(item, int | float):
            if not isinstance(item, bool):
                yield item
        elif isinstance(item, Mapping | list | tuple) and id(item) not in opened:
            opened[id(item)] = item
            stack.extend(item)
            if isinstance(item, Mapping):
                stack.extend(item.values())
