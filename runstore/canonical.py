"""Canonical JSON: one value, one sequence of bytes, everywhere and forever.

The bytes are those of RFC 8785 (JCS), with one extension: an integer beyond 2**53 - 1 is
written in full decimal digits, where RFC 8785 has no integers of that size. So no two integers
share their bytes. A float below 1e21 that is a whole number shares its bytes with an integer:
``1.0`` with ``1``, and beyond 2**53 with the integer of its shortest digits (ECMA-262), so that
``loads`` gives an int for it; ``dumps`` of that gives the same bytes again. An integer has 4,300
digits at most, whatever limit of its own the process has set (``sys.set_int_max_str_digits``).

orjson writes the values for which it is equal to RFC 8785 (``_orjson_is_exact``,
``_order_may_differ``); :mod:`runstore.jcs` all others, and says what JSON cannot hold, and where.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from itertools import chain
from typing import Any, NoReturn, TypeAlias

import orjson

from runstore.errors import ValueNotJsonError
from runstore.jcs import MAX_DEPTH, MAX_DIGITS, TOO_LONG, scalar, short, too_long, type_name, write

__all__ = [
    "MAX_DEPTH", "MAX_DIGITS", "Json", "digest", "dumps", "exact", "integer", "loads", "type_name",
]  # fmt: skip

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""What ``dumps`` takes and ``loads`` gives: exactly these types, no subclass of them."""

_FLAT = frozenset({str, int, bool, type(None)})
_NUMBERED = _FLAT | {float}
_KNOWN = _NUMBERED | {dict, list}

# orjson's own limit of nesting, above which it refuses to write.
_ORJSON_DEPTH = 254

# STRICT_INTEGER: beyond 2**53 orjson must refuse rather than guess. The types were checked
# before; the two others make a subclass or a dataclass an error even so.
_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
)

# The lead bytes of UTF-8 for U+10000 and up, and for U+E000-U+FFFF.
_ASTRAL = re.compile(rb"[\xf0-\xf4]")
_ABOVE_SURROGATES = re.compile(rb"[\xee\xef]")


def dumps(value: object) -> bytes:
    """The canonical bytes of a value (RFC 8785; integers beyond 2**53 in full digits).

    Takes exactly dict (with str keys), list, str, int, float, bool and None, to ``MAX_DEPTH``
    levels. Raises ``ValueNotJsonError`` for anything else - a tuple, a set, an enum, NaN, an
    infinity, a lone surrogate, an integer of more than ``MAX_DIGITS`` digits, a value that holds
    itself - with the place in it (``$.a[3]``), which is also the error's attribute ``where``.

    A value that another thread changes meanwhile may be read twice: see :mod:`runstore.copies`.

    Costs half a microsecond or less for scalars and short flat values, four for short nested ones,
    20 to 150 ns for an element of something long; some 0.7 us for each element of a value where
    orjson's bytes would differ (it holds a float that is whole or tiny, or odd keys).
    """
    kind = type(value)
    if kind is dict:
        items: Any = value
        flat = _FLAT.issuperset(map(type, items.values()))
    elif kind is list:
        items = value
        flat = _FLAT.issuperset(map(type, items))
    elif kind is float:
        return scalar(value, ())
    else:
        flat = kind in _FLAT
    if flat or _orjson_is_exact(value):
        try:
            text = orjson.dumps(value, option=_OPTIONS)
        except orjson.JSONEncodeError:
            pass  # a big integer, a lone surrogate, a key that is no str: the writer knows
        else:
            if text.isascii() or not _order_may_differ(text):
                return text
    return write(value)


def digest(value: object) -> str:
    """The sha256 of ``dumps(value)`` in 64 lowercase hex digits. Raises what ``dumps`` raises."""
    return hashlib.sha256(dumps(value)).hexdigest()


def exact(value: object) -> bytes:
    """A JSON text that ``loads`` reads back as the very same value: a float stays one, and members
    keep their order, which ``dumps`` gives up. For values that ``dumps`` takes; raises as it does.
    """
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (ValueError, TypeError, RecursionError):  # a long int, for a process that set a limit
        return write(value, as_it_is=True)


def loads(data: bytes, *, safe: bool = False) -> Json:
    """The value of a JSON text (RFC 8259, UTF-8 without a byte order mark), exactly.

    Integers beyond 2**53 stay integers; with ``safe`` they are refused, as in I-JSON. Raises
    ``ValueNotJsonError`` for what is not JSON, for an integer of more than ``MAX_DIGITS`` digits,
    and for what JSON readers disagree about (RFC 7493): duplicate keys, NaN, a number beyond the
    doubles (``1e400``), lone surrogates, nesting too deep for the stack.

    For users' files and blobs: about twice the time of ``json.loads``.
    """
    try:
        text = data.decode("utf-8")
        try:
            # The digits of each integer are counted here only if the process allows more of them.
            few = 0 < sys.get_int_max_str_digits() <= MAX_DIGITS
            decode = _SAFE.decode if safe else _DECODER.decode if few else _counting
            value: Json = decode(text)
        except (json.JSONDecodeError, ValueNotJsonError):
            raise
        except ValueError:  # more digits than this process allows, and perhaps not too many
            value = _counting(text)
    except UnicodeDecodeError as error:
        raise ValueNotJsonError(f"not JSON: not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueNotJsonError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueNotJsonError("this JSON is nested too deeply to be read") from error
    if _SURROGATE_ESCAPE.search(text) is not None:
        write(value)  # raises for a half of a pair, and tells where it is
    return value


# --- where orjson is exact ------------------------------------------------------------------


def _orjson_is_exact(value: object) -> bool:
    """Whether orjson writes these types and floats as RFC 8785 does. Level by level, so that each
    check runs at C speed over many elements. Keys, their order and the size of integers are not
    looked at: orjson itself refuses keys that are no str and, with STRICT_INTEGER, big ones."""
    level: list[Any] = [value]
    for _ in range(_ORJSON_DEPTH + 1):
        kinds = set(map(type, level))
        if not kinds <= _KNOWN:
            return False
        if float in kinds and not _floats_are_plain([v for v in level if type(v) is float]):
            return False
        # Each container once: a value that holds itself twice would double at every level.
        dicts = list({id(v): v for v in level if type(v) is dict}.values()) if dict in kinds else []
        lists = list({id(v): v for v in level if type(v) is list}.values()) if list in kinds else []
        if not dicts and not lists:
            return True
        level = list(chain(chain.from_iterable(map(dict.values, dicts)), *lists))
    return False


def _floats_are_plain(floats: list[float]) -> bool:
    # ECMA-262 Number::toString and orjson agree on fractions from 1e-5 up; on whole numbers and
    # between 1e-6 and 1e-5 they do not, and orjson writes NaN and infinities as null.
    return (
        all(map(math.isfinite, floats))
        and not any(map(float.is_integer, floats))
        and min(map(abs, floats)) >= 1e-5
    )


def _order_may_differ(text: bytes) -> bool:
    # orjson sorts keys by code point, RFC 8785 3.2.3 by UTF-16 code unit. The two differ only
    # for an astral character (a surrogate pair, D800-DFFF) against one of U+E000-U+FFFF.
    return _ASTRAL.search(text) is not None and _ABOVE_SURROGATES.search(text) is not None


# --- the exact reader -----------------------------------------------------------------------

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueNotJsonError(
                    f"not JSON: the key {short(key)} stands twice in one object"
                )
            seen.add(key)
    return made


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueNotJsonError(f"not JSON: the number {short(text)} is beyond the doubles")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueNotJsonError(f"not JSON: {text}")


def integer(text: str) -> int:
    """The integer of some decimal digits, with no limit but that of this module.

    :raises ValueNotJsonError: for more than ``MAX_DIGITS`` of them.
    """
    if len(text) > MAX_DIGITS and len(text.lstrip("-")) > MAX_DIGITS:
        raise too_long()
    try:
        return int(text)
    except ValueError:
        from decimal import Decimal

        return int(Decimal(text))


_HOOKS: dict[str, Any] = {
    "object_pairs_hook": _object, "parse_float": _float, "parse_constant": _constant,
}  # fmt: skip
_DECODER = json.JSONDecoder(**_HOOKS)


def _safe(digits: str) -> int:
    if len(digits) > 17 or abs(number := int(digits)) > 2**53 - 1:
        raise ValueNotJsonError(f"not I-JSON: the integer {short(digits)} is beyond 2^53 - 1")
    return number


_SAFE = json.JSONDecoder(parse_int=_safe, **_HOOKS)


def _counting(text: str) -> Json:
    """A JSON text, with the digits of its integers counted."""
    long: list[str] = []

    def read(digits: str) -> int:
        if len(digits.lstrip("-")) <= MAX_DIGITS:
            return integer(digits)
        long.append(digits[:1])
        return TOO_LONG

    value: Json = json.JSONDecoder(parse_int=read, **_HOOKS).decode(text)
    if long:
        write(value)  # raises for the first of them, and tells where it is
    return value
