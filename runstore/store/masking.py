"""Keeping the values of secrets out of what is written.

What can be promised is what can be seen: the value itself, as text. What a task derives from it (a
hash, base64, its half), and what it puts into a file that it saves, is the task's own doing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, AnyStr

from runstore.canonical import dumps
from runstore.errors import InputError, ValueNotJsonError

__all__ = [
    "MASK", "hidden_texts", "mask", "mask_pieces", "mask_rest", "refuse_secrets", "refuse_short",
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
        text = value if isinstance(value, str) else _json(value)
        kept = isinstance(value, str | int | float) and type(value) is not bool
        if kept and len(text) < _SHORTEST:
            raise InputError(
                f"the secret {name!r} is shorter than {_SHORTEST} characters, and cannot be kept "
                f"out of logs and errors: use a longer one, or give it as an ordinary parameter",
                parameter=name,
            )


def hidden_texts(secrets: Mapping[str, Any]) -> list[str]:
    """The texts by which the values of secrets show, the longest first: strings of four characters
    and more, also those within a value; of any other value its canonical JSON."""
    found: set[str] = set()
    for value in secrets.values():
        for text in _strings(value):
            # As it is, and as a traceback (repr) or a JSON text would show it.
            found |= {text, repr(text)[1:-1], _json(text)[1:-1]}
        if type(value) is not str and type(value) is not bool and value is not None:
            found.add(_json(value))
    return sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True)


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
    """What stands between ``done`` and ``final``, with all that is hidden and begins there masked,
    and up to where that makes it done. Texts that overlap are hidden by one mask: to hide only one
    of them would show a part of the other."""
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
    """Look at values before they are recorded. To mask a secret in one would hand on another value
    than the task returned.

    A secret is seen where a text, a key of a mapping or a number, at any depth, is the secret as a
    whole: a string of four characters or more, also one within its value, or its number. One of
    eight characters or more is seen also inside of a longer text (``"Bearer <secret>"``); a
    shorter one is not, since it would be found in ordinary words. Numbers within the value of a
    secret, truth values, and what was derived from one are not recognised.

    :raises InputError: naming the first value that a secret is seen in.
    """
    known: dict[str, str] = {}
    for name, value in secrets.items():
        known.update(dict.fromkeys(hidden_texts({name: value}), name))
    if not known:
        return
    numbers = {number: name for text, name in known.items() for number in _number(text)}
    within = [text for text in known if len(text) >= _FOUND_WITHIN]
    for name, value in values.items():
        for item in _texts_and_numbers(value):
            if not isinstance(item, str):
                seen = numbers.get(item)
            elif (seen := known.get(item)) is None:
                seen = next((known[text] for text in within if text in item), None)
            if seen is not None:
                raise InputError(
                    f"{what} {name!r} of {path} is the secret {seen!r}, or has it in it, and a "
                    f"secret is never stored: what needs it reads it as a parameter",
                    path=path,
                    parameter=name,
                )


def _number(text: str) -> Iterator[float]:
    try:
        number = json.loads(text)
    except (ValueError, RecursionError):
        return
    if type(number) in (int, float):
        yield number


def _texts_and_numbers(value: Any) -> Iterator[Any]:
    """All that a value has in it, keys too; of one that holds itself, all once."""
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
