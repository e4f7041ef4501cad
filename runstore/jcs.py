"""The exact writer of canonical JSON: for every value, without recursion. Its errors say where in a
value something is that JSON cannot hold. :mod:`runstore.canonical` says what the bytes are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from operator import methodcaller
from typing import Any

import orjson

from runstore.errors import ValueNotJsonError

__all__ = [
    "MAX_DEPTH", "MAX_DIGITS", "TOO_LONG", "scalar", "short", "too_long", "type_name", "write",
]  # fmt: skip

MAX_DEPTH = 500
"""How deep lists and objects may nest: parsers give up between 500 and 1,024 levels."""

MAX_DIGITS = 4_300
"""The most decimal digits of an integer: CPython's default limit for reading one, whatever limit
this process has."""

TOO_LONG: int = 10**MAX_DIGITS
_SAFE_INT = 2**53 - 1  # RFC 8785 3.2.2.3 and RFC 7493 2.2: beyond it a double is not exact

_STR = frozenset({str})


_UTF_16 = methodcaller("encode", "utf-16-be", "surrogatepass")


class _Frame:
    """An open list or object: what is left to write of it, and how it ends."""

    __slots__ = ("at", "close", "items", "value")

    def __init__(self, value: Any, as_it_is: bool) -> None:
        self.value = value
        self.at: str | int = ""
        self.items: Iterator[tuple[str | int, Any]]
        if type(value) is list:
            self.items, self.close = iter(enumerate(value)), b"]"
        else:
            # RFC 8785 3.2.3. A lone surrogate is refused where its key is written.
            keys = value if as_it_is else sorted(value, key=_UTF_16)
            self.items, self.close = ((key, value[key]) for key in keys), b"}"


def write(value: object, *, as_it_is: bool = False) -> bytes:
    """``dumps`` for every value there is, without recursion; or ``exact``."""
    if type(value) is not list and type(value) is not dict:
        return scalar(value, (), as_it_is)
    frames: list[_Frame] = []
    parts: list[bytes] = []
    opened: set[int] = set()
    _open(value, frames, parts, opened, as_it_is)
    while True:
        frame = frames[-1]
        keyed = frame.close == b"}"
        for at, item in frame.items:
            frame.at = at
            if keyed:
                parts.append(scalar(at, frames) + b":")
            if type(item) is list or type(item) is dict:
                _open(item, frames, parts, opened, as_it_is)
                break
            parts.append(scalar(item, frames, as_it_is))
            parts.append(b",")
        else:
            frames.pop()
            opened.discard(id(frame.value))
            if parts[-1] == b",":
                parts.pop()
            parts.append(frame.close)
            if not frames:
                return b"".join(parts)
            parts.append(b",")


def _open(
    value: Any, frames: list[_Frame], parts: list[bytes], opened: set[int], as_it_is: bool
) -> None:
    if id(value) in opened:
        raise _refusal(f"a {type(value).__name__} that holds itself", frames)
    if len(frames) >= MAX_DEPTH:
        raise _refusal(f"nested deeper than {MAX_DEPTH} levels", frames)
    if type(value) is dict and not _STR.issuperset(map(type, value)):
        key = next(key for key in value if type(key) is not str)
        raise _refusal(f"a key of type {type_name(type(key))}, not str", frames)
    opened.add(id(value))
    frames.append(_Frame(value, as_it_is))
    parts.append(b"[" if type(value) is list else b"{")


def scalar(value: Any, frames: Iterable[_Frame], as_it_is: bool = False) -> bytes:
    kind = type(value)
    if kind is str:
        try:
            # RFC 8785 3.2.2.2: orjson escapes exactly what it says, and nothing else.
            return orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise _refusal(f"text with a lone surrogate ({short(value)})", frames) from error
    if kind is float:
        if not math.isfinite(value):
            raise _refusal(f"the float {value!r}, which JSON has no number for", frames)
        return (repr(value) if as_it_is else _double(value)).encode("ascii")
    if kind is int:
        return _integer(value, frames).encode("ascii")
    if kind is bool:
        return b"true" if value else b"false"
    if value is None:
        return b"null"
    raise _refusal(f"a value of type {type_name(kind)}", frames)


def _double(value: float) -> str:
    """ECMA-262 Number::toString, as RFC 8785 3.2.2.3 asks, from Python's shortest digits."""
    text = repr(value)
    if "e" not in text:
        if text.endswith(".0"):
            return "0" if value == 0 else text[:-2]
        return text
    sign = "-" if value < 0 else ""
    mantissa, exponent = text.removeprefix("-").split("e")
    digits = mantissa.replace(".", "")
    point = int(exponent) + 1  # how many digits stand before the decimal point
    if 0 < point <= 21:
        return sign + digits.ljust(point, "0")
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


def _integer(value: int, frames: Iterable[_Frame]) -> str:
    if -_SAFE_INT <= value <= _SAFE_INT:
        return str(value)
    if not -TOO_LONG < value < TOO_LONG:
        raise _refusal(_TOO_MANY, frames, _ADVICE)
    try:
        return str(value)
    except ValueError:  # this process allows fewer digits; Decimal has no such limit, and is exact
        from decimal import Decimal

        return str(Decimal(value))


_TOO_MANY = f"an integer of more than {MAX_DIGITS:,} digits"
_ADVICE = "make it a text, or a file"


def too_long() -> ValueNotJsonError:
    """The error to raise for an integer that is too long."""
    return ValueNotJsonError(_TOO_MANY, advice=_ADVICE)


def _refusal(
    what: str,
    frames: Iterable[_Frame],
    advice: str = "JSON holds dict, list, str, int, float, bool and None only",
) -> ValueNotJsonError:
    where = "$" + "".join(_step(frame.at) for frame in frames)
    if len(where) > 200:
        where = f"{where[:120]}...{where[-70:]}"
    return ValueNotJsonError(f"{where}: {what}", advice=advice, where=where)


def _step(at: str | int) -> str:
    if type(at) is int:
        return f"[{at}]"
    text = str(at)
    # ASCII only: a key may hold what no terminal, and no encoder, would take.
    return f".{text}" if text.isidentifier() and text.isascii() else f"[{json.dumps(text)}]"


def short(value: str) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def type_name(kind: type) -> str:
    """The name of a type, with its module, whatever its metaclass has to say of that."""
    name: str = _NAME(kind)
    module = _MODULE(kind)
    full = name if module == "builtins" or type(module) is not str else f"{module}.{name}"
    return full.encode("utf-8", "replace").decode()


_NAME, _MODULE = (type.__dict__[slot].__get__ for slot in ("__name__", "__module__"))
