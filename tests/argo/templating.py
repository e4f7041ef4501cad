"""`{{...}}` and `{{=...}}` in a piece of JSON, replaced as the controller replaces them.

The controller replaces in JSON *text*, not in the values: a tag may come out of another tag's
value, and a value that JSON cannot hold spoils the whole template.
"""

import json
import re
from typing import Any

from tests.argo import expressions, functions, gotext

__all__ = [
    "ABSENT",
    "EVERYTHING",
    "TemplateError",
    "Values",
    "environment",
    "loads",
    "replace",
    "split_tags",
    "substitute",
]

Values = dict[str, str | None]
"""What tags refer to, by full name. None: the output of a skipped node, without a default."""

ABSENT = "__argo__internal__absent-optional-argument"
"""Stands for an argument that refers to such an output: the input's own default takes its place."""

# Known only later: an expression that refers to them waits, even where all else is known.
_LATE = {
    "item", "retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration",
    "lastRetry.message", "workflow.status", "workflow.failures",
}  # fmt: skip


class TemplateError(ValueError):
    """A template that cannot be filled in. `missing`: the controller waits for a variable instead
    of failing, for ever if nothing sets it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.missing = (
            "failed to resolve {{" in message
            or " is missing" in message
            or "variable not in env" in message
        )


def split_tags(text: str) -> list[str]:
    """Literals and the tags between them, in turn: a tag reaches from `{{` to the next `}}`."""
    parts, at = [], 0
    while (start := text.find("{{", at)) >= 0:
        end = text.find("}}", start + 2)
        if end < 0:
            raise TemplateError(
                f'Cannot find end tag="}}}}" in the template={gotext.marshal(text)} '
                f"starting from {gotext.marshal(text[start + 2 :])}"
            )
        parts += [text[at:start], text[start + 2 : end]]
        at = end + 2
    return [*parts, text[at:]]


def replace(text: str, values: Values, strict: re.Pattern[str] | None = None) -> str:
    """The text with every tag replaced that `values` knows. A tag that it does not know stays, and
    is an error if `strict` matches it."""
    if "{{" not in text:
        return text
    parts = split_tags(text)
    known: dict[str, Any] | None = None
    for at in range(1, len(parts), 2):
        if parts[at].startswith("="):
            known = environment(values) if known is None else known
            parts[at] = _expression(_unescape_html(parts[at][1:]), values, known, strict)
        else:
            parts[at] = _simple(parts[at], values, strict)
    return "".join(parts)


def substitute(document: Any, values: Values, strict: re.Pattern[str] | None = None) -> Any:
    """A document of JSON values with its tags replaced."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if "{{" not in text:
        return document
    try:
        return json.loads(replace(text, values, strict))
    except json.JSONDecodeError:
        raise TemplateError(
            "cannot finish template replacement because the result was invalid JSON"
        ) from None


def loads(text: str) -> Any:
    """JSON that a replacement made, with the controller's words for the usual fault."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as failure:
        escape = re.match(r"\\.", text[failure.pos :])
        if escape and "escape" in failure.msg:
            raise TemplateError(f"invalid escape sequence `{escape[0]}` in string") from None
        raise TemplateError(f"invalid JSON: {failure}") from None


def _simple(tag: str, values: Values, strict: re.Pattern[str] | None) -> str:
    name = tag.strip()
    if name not in values:
        return _nested(tag, values, strict)
    value = values[name]
    if value is None:
        raise TemplateError(
            f"unable to substitute {{{{{tag}}}}}: output is an absent optional "
            "(skipped/omitted node with no default)"
        )
    return gotext.quote(value)


def _nested(tag: str, values: Values, strict: re.Pattern[str] | None) -> str:
    at = tag.rfind("{{")
    if at > 0 and isinstance(inner := values.get(tag[at + 2 :]), str):
        return "{{" + tag[:at] + gotext.quote(inner)
    artifact = strict is not _EVERYTHING and ".outputs.artifacts." in tag
    if strict is not None and strict.match(tag.strip()) and not artifact:
        raise TemplateError(f"failed to resolve {{{{{tag}}}}}")
    return "{{" + tag + "}}"


_EVERYTHING = re.compile("")
EVERYTHING = _EVERYTHING
"""As `strict`: no tag may stay."""


def _unescape_html(text: str) -> str:
    return text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")


def _expression(
    escaped: str, values: Values, known: dict[str, Any], strict: re.Pattern[str] | None
) -> str:
    """An expression tag. Left as it is where it refers to what is not known and need not be."""
    unresolved = "{{=" + escaped + "}}"
    try:
        text = json.loads(f'"{escaped}"')
        names = expressions.identifiers(text)
    except json.JSONDecodeError:
        raise TemplateError(f"failed to unmarshall JSON expression: {escaped}") from None
    except functions.ExpressionError as failure:
        raise TemplateError(f"failed to evaluate expression: {failure}") from failure
    missing = [name for name in names if not _has(known, values, name)]
    for name in missing:
        if strict is not None and strict.match(name):
            raise TemplateError(f"failed to evaluate expression: {name} is missing")
    tolerant = bool(missing) or strict is None
    if tolerant and any(name in _LATE for name in missing):
        return unresolved
    try:
        value = expressions.evaluate(text, known)
    except functions.ExpressionError as failure:
        if tolerant:
            return unresolved
        raise TemplateError(f"failed to evaluate expression: {failure}") from failure
    if value is None:
        if tolerant:
            return unresolved
        raise TemplateError(f"failed to evaluate expression {gotext.marshal(text)}")
    marshalled = gotext.marshal(value)
    return marshalled[1:-1] if isinstance(value, str) else gotext.quote(marshalled)


def environment(values: Values) -> dict[str, Any]:
    """`a.b.c` as nested maps, with the functions. Beside `a.b`, `a` is lost."""
    known: dict[str, Any] = {}
    names = sorted(values)
    for name, following in zip(names, [*names[1:], ""], strict=True):
        if following.startswith(name + "."):
            continue
        *scopes, last = name.split(".")
        inner = known
        for scope in scopes:
            nested = inner.setdefault(scope, {})
            if not isinstance(nested, dict):
                nested = inner[scope] = {}
            inner = nested
        inner[last] = values[name]
    for name in ("asInt", "asFloat", "jsonpath", "toJson"):
        known[name] = functions.BUILTINS[name]
    known["sprig"] = functions.SPRIG
    return known


def _has(known: dict[str, Any], values: Values, name: str) -> bool:
    if name in values or name in functions.BUILTINS or name in functions.PREDICATES or name == "#":
        return True
    inner: Any = known
    for part in name.split("."):
        if not isinstance(inner, dict) or part not in inner:
            return False
        inner = inner[part]
    return True
