"""What the fields of a record may hold, to the letter of FORMAT.md, section 5.

Readers need less (``runstore.records`` checks what they touch): this is for records that a stranger
hands in, who may have given them digests that fit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from runstore.errors import PathError
from runstore.paths import NodePath
from runstore.records import MAX_COUNT, keys

__all__ = ["ShapeError", "check_shape"]

Shape = Callable[[Any, str], None]
"""Raises :class:`ShapeError`, naming the field, if the value is not of this shape."""

_is_hex = re.compile(r"[0-9a-f]{64}").fullmatch
_is_structure = re.compile(r"[0-9]{1,9}:[0-9a-f]{64}").fullmatch
_is_id = re.compile(r"[a-z0-9-]{1,64}").fullmatch
_MAX_INT = 2**53 - 1


class ShapeError(ValueError):
    """Which field, and what it should be."""


def check_shape(kind: str, record: Mapping[str, Any]) -> None:
    """Check the fields of a record of this kind; those it does not know may hold anything.

    :raises ShapeError: naming the field.
    """
    _KINDS[kind](record, "")


def _that(what: str, holds: Callable[[Any], object]) -> Shape:
    def check(value: Any, at: str) -> None:
        if not holds(value):
            raise ShapeError(f"{at or 'the record'} is not {what}")

    return check


def _map(of: Shape, names: Shape | None = None) -> Shape:
    def check(value: Any, at: str) -> None:
        _is_object(value, at)
        for name, each in value.items():
            if names is not None:
                names(name, f"a name in {at}")
            of(each, f"{at}.{name[:40]}")

    return check


def _list(of: Shape) -> Shape:
    def check(value: Any, at: str) -> None:
        _is_list(value, at)
        for each in value:
            of(each, f"an element of {at}")

    return check


def _fields(required: Mapping[str, Shape], optional: Mapping[str, Shape]) -> Shape:
    def check(value: Any, at: str) -> None:
        _is_object(value, at)
        for name, shape in required.items():
            if name not in value:
                raise ShapeError(f"{at or 'the record'} has no {name}")
            shape(value[name], f"{at}.{name}" if at else name)
        for name, shape in optional.items():
            given = value.get(name)
            if given is not None and given != "":  # absent, null and empty are the same
                shape(given, f"{at}.{name}" if at else name)

    return check


def _is_path(text: Any) -> bool:
    try:
        return type(text) is str and str(NodePath.parse(text)) == text
    except PathError:
        return False


def _is_artifact(name: str) -> bool:
    clean = os.path.normpath(name)
    return clean == name and not name.startswith(("/", "../")) and name not in (".", "..", "") and (
        "\0" not in name
    )  # fmt: skip


def _anything(_value: Any, _at: str) -> None:
    pass


_is_object = _that("an object", lambda v: type(v) is dict)
_is_list = _that("a list", lambda v: type(v) is list)
_text = _that("a text", lambda v: type(v) is str)
_number = _that("a whole number", lambda v: type(v) is int and 0 <= v <= _MAX_INT)
_nonce = _that("a nonce", lambda v: type(v) is str and keys.is_nonce(v))
_count = _that("a number from 1", lambda v: type(v) is int and 1 <= v <= MAX_COUNT)
_digest = _that("a digest", lambda v: type(v) is str and _is_hex(v))
_path = _that("a node path", _is_path)
_attempt = _that("an attempt number", lambda v: type(v) is int and 1 <= v <= 999_999)
_id = _that("an invocation id", lambda v: type(v) is str and _is_id(v))
_structure = _that("a structure digest", lambda v: type(v) is str and _is_structure(v))
_outcome = _that("an outcome", lambda v: v in ("succeeded", "failed", "lost", "cancelled"))
_mode = _that("a mode", lambda v: v in ("start", "retry", "fork", "import", "pull"))
_flag = _that("true or false", lambda v: type(v) is bool)
_artifact = _that("the relative name of a file", _is_artifact)

_values = _map(_anything)
_blob = _fields({"sha256": _digest, "size": _number}, {})
_file = _fields({"sha256": _digest, "size": _number}, {"executable": _flag})
_large = _map(_fields({"sha256": _digest, "size": _number, "value": _digest}, {"codec": _text}))
_holder = _fields(
    {"host": _text},
    {
        "pid": _number,
        "pid_start": _number,
        "boot": _text,
        "pod": _text,
        "mark": _text,
        "user": _text,
    },
)
_consumed = _fields(
    {},
    {
        "params": _map(_digest),
        "artifacts": _map(_fields({"sha256": _digest}, {"from": _text})),
        "results": _map(_digest),
        "ends": _map(_digest),
    },
)
_tried = {
    "run_id": _text,
    "run_nonce": _nonce,
    "path": _path,
    "attempt": _attempt,
    "nonce": _nonce,
    "invocation": _id,
    "consumed": _consumed,
}

_tries: dict[str, Shape] = {"code_digest": _digest, "try": _count, "of": _count}

_KINDS: dict[str, Shape] = {
    "run": _fields(
        {"run_id": _text, "nonce": _nonce, "dag": _is_object, "structure": _structure},
        {
            "created": _text,
            "parameters": _values,
            "large": _large,
            "secrets": _list(_text),
            "labels": _map(_text),
            "origin": _fields({"run_id": _text}, {"pack": _digest}),
            "single_writer": _flag,
            "source": _map(_text),
        },
    ),
    "invocation": _fields(
        {"run_id": _text, "run_nonce": _nonce, "id": _id, "mode": _mode, "number": _count},
        {
            "time": _text,
            "by": _holder,
            "command": _list(_text),
            "code": _values,
            "force": _map(_number, _path),
            "ignored": _list(_text),
            "structure": _structure,
            "dag": _is_object,
            "source": _map(_text),
        },
    ),
    "start": _fields({**_tried, "by": _holder, "time": _text}, {"code": _values, **_tries}),
    "end": _fields(
        {**_tried, "outcome": _outcome},
        {
            "start": _digest,
            "outputs": _values,
            "large": _large,
            "artifacts": _map(_file, _artifact),
            "metrics": _values,
            "error": _map(_text),
            "log": _blob,
            "began": _text,
            "ended": _text,
            "ended_by": _holder,
            **_tries,
        },
    ),
}
