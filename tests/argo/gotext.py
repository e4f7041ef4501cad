"""How the controller, a Go program, writes values as text: quoted strings, JSON, numbers, ids.

A value reaches a template as text put into JSON, so the details decide: which characters Go escapes
in a way that JSON does not know, and how it spells a float.
"""

import json
import re
from typing import Any

__all__ = ["compact", "fnv32a", "marshal", "quote", "sprint"]

_NAMED = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}
_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def quote(text: str) -> str:
    """Go's `strconv.Quote` without the outer quotes.

    What Go does not print becomes `\\x7f`, `\\a` or `\\U000e0067`: valid in Go, invalid in JSON.
    That is why an item with such a character is an error of its node.
    """
    if text.isprintable() and "\\" not in text and '"' not in text:
        return text
    return "".join(_quoted(character) for character in text)


def _quoted(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    if code in _NAMED:
        return _NAMED[code]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def marshal(value: Any) -> str:
    """Go's `json.Marshal` of a plain value: compact, keys sorted, `<`, `>` and `&` escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).translate(_HTML)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        pairs = (f"{marshal(str(key))}:{marshal(value[key])}" for key in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(marshal, value)) + "]"
    raise TypeError(f"json: unsupported type: {type(value).__name__}")


def _float(value: float) -> str:
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return re.sub(r"e([+-])0(\d)$", r"e\1\2", repr(value))


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\s+')


def compact(raw: str) -> str:
    """`json.Marshal` of JSON kept as it was written: no spaces, numbers and keys untouched."""
    return _TOKEN.sub(lambda m: m[0] if m[0][0] == '"' else "", raw).translate(_HTML)


def sprint(value: Any) -> str:
    """Go's `fmt.Sprintf("%v", value)`."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        return repr(value)
    if isinstance(value, list):
        return "[" + " ".join(map(sprint, value)) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{sprint(value[k])}" for k in sorted(value)) + "]"
    return str(value)


def fnv32a(text: str) -> int:
    """The hash in node ids and pod names: 32 bits, so two names may well share it."""
    digest = 0x811C9DC5
    for byte in text.encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest
