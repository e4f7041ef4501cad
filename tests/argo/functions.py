"""What an expression can call and how its operators work: the built-ins of expr-lang, and of sprig
what a workflow may want (Argo offers all of sprig but `env` and `expandenv`).
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from tests.argo import gotext

__all__ = [
    "BUILTINS",
    "PREDICATES",
    "SPRIG",
    "ExpressionError",
    "binary",
    "boolean",
    "type_name",
    "unary",
]


class ExpressionError(ValueError):
    """An expression that the real thing refuses, when it compiles or when it runs."""


def type_name(value: Any) -> str:
    """The type as the messages of expr-lang name it."""
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "nil" if value is None else "[]interface {}" if isinstance(value, list) else "map"


def boolean(value: Any) -> bool:
    """No other value stands for true or false."""
    if not isinstance(value, bool):
        raise ExpressionError(f"invalid operation: expected bool, got {type_name(value)}")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unary(operator: str, value: Any) -> Any:
    """`not`, `!`, `-`, `+`."""
    if operator in ("not", "!"):
        return not boolean(value)
    if not _number(value):
        raise ExpressionError(f"invalid operation: {operator} (mismatched type {type_name(value)})")
    return -value if operator == "-" else value


def _divide(left: Any, right: Any) -> float:
    if right == 0:
        return float("inf") if left > 0 else float("-inf") if left < 0 else float("nan")
    return float(left / right)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "**": lambda a, b: float(a) ** float(b),
    "^": lambda a, b: float(a) ** float(b),
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda a, b: b in a,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "matches": lambda a, b: re.search(b, a) is not None,
}


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def binary(operator: str, left: Any, right: Any) -> Any:
    """The operators that look at both sides; a mismatch of types is an error, as for expr-lang."""
    if operator in ("==", "!="):
        return _equal(left, right) is (operator == "==")
    if operator == "in":
        if right is None:
            return False
        if not isinstance(right, (list, dict)):
            raise ExpressionError(f'operator "in" not defined on {type_name(right)}')
        return any(_equal(left, item) for item in right)
    if operator == "..":
        return list(range(left, right + 1))
    both_text = isinstance(left, str) and isinstance(right, str)
    if operator in _TEXT and both_text:
        try:
            return _TEXT[operator](left, right)
        except re.error as failure:
            raise ExpressionError(f"error parsing regexp: {failure}") from failure
    if operator == "%" and isinstance(left, int) and isinstance(right, int) and right:
        return left - right * int(left / right)
    textual = both_text and operator in ("+", "<", "<=", ">", ">=")
    if operator in _ARITHMETIC and (textual or (_number(left) and _number(right))):
        return _ARITHMETIC[operator](left, right)
    kinds = f"{type_name(left)} and {type_name(right)}"
    raise ExpressionError(f"invalid operation: {operator} (mismatched types {kinds})")


def _int(value: Any) -> int:
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?\d+", value) is None:
            raise ExpressionError(f"invalid operation: int({value})")
        return int(value)
    if not _number(value):
        raise ExpressionError(f"invalid operation: int({type_name(value)})")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, str) or _number(value):
        try:
            return float(value)
        except ValueError:
            raise ExpressionError(f"invalid operation: float({value})") from None
    raise ExpressionError(f"invalid operation: float({type_name(value)})")


def _jsonpath(text: str, path: str) -> Any:
    """`$`, `.name`, `['name']`, `[0]` and `[*]`: what workflows use."""
    found, many = [json.loads(text)], False
    for name, quoted, index in re.findall(r"\.([\w-]+)|\['([^']*)'\]|\[(\d+|\*)\]", path):
        if index == "*":
            many = True
            found = [item for value in found for item in value]
        else:
            key: Any = int(index) if index else name or quoted
            found = [value[key] for value in found]
    return found if many else found[0]


def _go_replacement(template: str) -> str:
    return re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", template.replace("\\", "\\\\"))


def _pairs(value: dict[str, Any]) -> list[list[Any]]:
    return [[key, value[key]] for key in value]


BUILTINS: dict[str, Callable[..., Any]] = {
    "len": len,
    "int": _int,
    "float": _float,
    "string": gotext.sprint,
    "abs": abs,
    "max": lambda *values: max(values[0] if len(values) == 1 else values),
    "min": lambda *values: min(values[0] if len(values) == 1 else values),
    "sum": sum,
    "trim": lambda text, cut=" \t\n\r": text.strip(cut),
    "trimPrefix": lambda text, prefix: text.removeprefix(prefix),
    "trimSuffix": lambda text, suffix: text.removesuffix(suffix),
    "upper": str.upper,
    "lower": str.lower,
    "split": lambda text, by: text.split(by) if by else list(text),
    "replace": lambda text, old, new: text.replace(old, new),
    "repeat": lambda text, count: text * count,
    "join": lambda items, by="": by.join(items),
    "indexOf": str.find,
    "hasPrefix": str.startswith,
    "hasSuffix": str.endswith,
    "first": lambda items: items[0] if items else None,
    "last": lambda items: items[-1] if items else None,
    "keys": list,
    "values": lambda value: list(value.values()),
    "toPairs": _pairs,
    "reverse": lambda items: items[::-1],
    "sort": sorted,
    "uniq": lambda items: [item for at, item in enumerate(items) if item not in items[:at]],
    "concat": lambda *lists: [item for items in lists for item in items],
    "toJSON": lambda value: json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True),
    "fromJSON": json.loads,
    "toBase64": lambda text: base64.b64encode(text.encode()).decode(),
    "fromBase64": lambda text: base64.b64decode(text).decode(),
    "type": type_name,
    "asInt": _int,
    "asFloat": _float,
    "jsonpath": _jsonpath,
    "toJson": gotext.marshal,
}

PREDICATES: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "map": lambda items, of: [of(item) for item in items],
    "filter": lambda items, of: [item for item in items if boolean(of(item))],
    "all": lambda items, of: all(boolean(of(item)) for item in items),
    "any": lambda items, of: any(boolean(of(item)) for item in items),
    "none": lambda items, of: not any(boolean(of(item)) for item in items),
    "one": lambda items, of: sum(boolean(of(item)) for item in items) == 1,
    "count": lambda items, of: sum(boolean(of(item)) for item in items),
    "find": lambda items, of: next((item for item in items if boolean(of(item))), None),
}


def _empty(value: Any) -> bool:
    return (
        value is None or value in ("", 0, False) or (isinstance(value, (list, dict)) and not value)
    )


def _hash(name: str) -> Callable[[str], str]:
    return lambda text: hashlib.new(name, text.encode()).hexdigest()


SPRIG: dict[str, Callable[..., Any]] = {
    "trim": str.strip,
    "trimAll": lambda cut, text: text.strip(cut),
    "trimPrefix": lambda prefix, text: text.removeprefix(prefix),
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
    "nospace": lambda text: re.sub(r"\s", "", text),
    "repeat": lambda count, text: text * int(count),
    "replace": lambda old, new, text: text.replace(old, new),
    "contains": lambda part, text: part in text,
    "hasPrefix": lambda prefix, text: text.startswith(prefix),
    "hasSuffix": lambda suffix, text: text.endswith(suffix),
    "substr": lambda start, end, text: text[max(start, 0) : None if end < 0 else end],
    "trunc": lambda size, text: text[:size] if size >= 0 else text[size:],
    "quote": lambda *values: " ".join('"' + gotext.quote(gotext.sprint(v)) + '"' for v in values),
    "squote": lambda *values: " ".join(f"'{gotext.sprint(v)}'" for v in values),
    "b64enc": lambda text: base64.b64encode(text.encode()).decode(),
    "b64dec": lambda text: base64.b64decode(text).decode(),
    "b32enc": lambda text: base64.b32encode(text.encode()).decode(),
    "b32dec": lambda text: base64.b32decode(text).decode(),
    "sha1sum": _hash("sha1"),
    "sha256sum": _hash("sha256"),
    "sha512sum": _hash("sha512"),
    "adler32sum": lambda text: str(zlib.adler32(text.encode())),
    "splitList": lambda by, text: text.split(by),
    "join": lambda by, items: by.join(map(gotext.sprint, items)),
    "toString": gotext.sprint,
    "int": _int,
    "int64": _int,
    "atoi": _int,
    "float64": _float,
    "add": lambda *values: sum(map(_int, values)),
    "add1": lambda value: _int(value) + 1,
    "sub": lambda left, right: _int(left) - _int(right),
    "mul": lambda left, right: _int(left) * _int(right),
    "div": lambda left, right: int(_int(left) / _int(right)),
    "mod": lambda left, right: _int(left) % _int(right),
    "max": lambda *values: max(map(_int, values)),
    "min": lambda *values: min(map(_int, values)),
    "empty": _empty,
    "default": lambda fallback, value=None: fallback if _empty(value) else value,
    "coalesce": lambda *values: next((value for value in values if not _empty(value)), None),
    "ternary": lambda yes, no, test: yes if test else no,
    "list": lambda *values: list(values),
    "dict": lambda *values: dict(zip(values[::2], values[1::2], strict=False)),
    "first": lambda items: items[0] if items else None,
    "last": lambda items: items[-1] if items else None,
    "len": len,
    "toJson": gotext.marshal,
    "fromJson": json.loads,
    "regexMatch": lambda pattern, text: re.search(pattern, text) is not None,
    "regexFind": lambda pattern, text: (re.search(pattern, text) or [""])[0],
    "regexReplaceAll": lambda pattern, text, new: re.sub(pattern, _go_replacement(new), text),
}
