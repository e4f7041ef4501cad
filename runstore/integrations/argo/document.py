"""A document as YAML that no reader takes for anything else: every text stands in double quotes, as
JSON writes it, which YAML 1.1 and 1.2 read alike. ``n``, ``on``, ``1e3`` and ``2026-01-01`` stay
texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["to_yaml"]

_KEY = re.compile(r"[A-Za-z][-A-Za-z0-9_]*")
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])


def to_yaml(document: Mapping[str, Any]) -> str:
    """The same text for the same document."""
    return "\n".join(_lines(document, 0)) + "\n"


def _lines(value: Mapping[str, Any] | list[Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    pairs: Any = value.items() if isinstance(value, Mapping) else ((None, each) for each in value)
    for name, inner in pairs:
        begin = f"{indent}- " if name is None else f"{indent}{_key(name)}:"
        if not isinstance(inner, Mapping | list) or not inner:
            space = "" if name is None else " "
            yield f"{begin}{space}{_scalar(inner)}"
        elif name is None:
            # The first line of what is in it stands behind the dash.
            first, *rest = _lines(inner, depth + 1)
            yield begin + first.lstrip(" ")
            yield from rest
        else:
            yield begin
            yield from _lines(inner, depth + 1)


def _key(name: str) -> str:
    return name if _KEY.fullmatch(name) and name.lower() not in _WORDS else _scalar(name)


def _scalar(value: Any) -> str:
    # Not everything that JSON leaves as it is may stand in YAML (YAML 1.2.2, section 5.1).
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
