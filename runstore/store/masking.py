"""Keeping the values of secrets out of what is written.

What can be promised is what can be seen: the value itself, as text. What a task derives from it (a
hash, base64, its half), and what it puts into a file that it saves, is the task's own doing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runstore.canonical import dumps
from runstore.errors import InputError, ValueNotJsonError

__all__ = ["MASK", "refuse_short", "hidden_texts", "mask", "refuse_secrets"]

MASK = "***"
_SHORTEST = 4
"""Of fewer characters a text is found everywhere, and masks what is no secret."""


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
    if not secrets:
        return text
    for hidden in hidden_texts(secrets):
        text = text.replace(hidden, MASK)
    return text


def refuse_secrets(
    values: Mapping[str, Any], secrets: Mapping[str, Any], what: str, path: str
) -> None:
    """Look at values before they are recorded.

    :raises InputError: naming the first that is, or has in it, the whole value of a secret. To mask
        it would hand on another value than the task returned.
    """
    known = {text: name for name, value in secrets.items() for text in _strings(value)}
    known = {text: name for text, name in known.items() if len(text) >= _SHORTEST}
    if not known:
        return
    for name, value in values.items():
        for text in _strings(value):
            if text in known:
                raise InputError(
                    f"{what} {name!r} of {path} is the secret {known[text]!r}, which is never "
                    f"stored: what needs it reads it as a parameter",
                    path=path,
                    parameter=name,
                )
