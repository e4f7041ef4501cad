"""What a task hands back: named as its `returns` says, or told what to hand back instead."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from runstore.canonical import dumps, loads, type_name
from runstore.dag import Task
from runstore.errors import ValueNotJsonError
from runstore.executor.coroutines import promised
from runstore.executor.failure import TaskFailedError
from runstore.store import Attempt
from runstore.store.validation import plain

__all__ = ["by_name", "from_file", "with_advice"]


def by_name(attempt: Attempt, task: Task, value: Any) -> tuple[Mapping[str, Any], str]:
    """What a function returned, by name, and a warning, if there is one.

    :raises TaskFailedError: if it is not as many as ``returns`` names, or a promise of a value.
    """
    names = task.returns
    path = attempt.path
    _refuse_promise(value, path)
    kind = type(value)
    if not names:
        if value is None:
            return {}, ""
        return {}, (
            f"{path} returned a {type_name(kind)} and its `returns` names nothing: "
            f"the value is not kept"
        )
    if value is None and type(attempt.outputs) is dict and attempt.outputs:
        return {}, ""  # what it set there is what it returns
    if len(names) == 1:
        return {names[0]: value}, ""
    if issubclass(kind, dict):
        given = plain(value, f"what {path} returned")
        for each in given.values():
            _refuse_promise(each, path)
        return given, ""  # whether these are the names is seen when the attempt succeeds
    shown = f"a {type_name(kind)}"
    if issubclass(kind, tuple):
        parts = tuple.__getitem__(value, slice(None))
        for each in parts:
            _refuse_promise(each, path)
        if len(parts) == len(names):
            return dict(zip(names, parts, strict=True)), ""
        shown = f"a tuple of {len(parts)}"
    raise TaskFailedError(
        f"{path} returned {shown}, and its `returns` names {len(names)}: "
        f"{', '.join(names)}; return a tuple in this order, or a dict with these keys"
    )


def _refuse_promise(value: object, path: str) -> None:
    instead = promised(value)
    if instead:
        raise TaskFailedError(f"{path} returned a {type_name(type(value))}: {instead}")


def from_file(attempt: Attempt, task: Task, file: str) -> Mapping[str, Any]:
    """What a command wrote to ``$RUNSTORE_RETURNS``.

    :raises TaskFailedError: if that is no JSON object, saying what to write instead.
    """
    if not os.path.exists(file):
        if task.returns:
            raise TaskFailedError(
                f"{attempt.path} is to return {', '.join(task.returns)}, and wrote no JSON object "
                f'to "$RUNSTORE_RETURNS"'
            )
        return {}
    with open(file, "rb") as opened:
        data = opened.read()
    example = json.dumps(dict.fromkeys(task.returns, "..."), ensure_ascii=False)
    try:
        document = loads(data)
    except ValueNotJsonError as error:
        raise TaskFailedError(
            f'{attempt.path} wrote to "$RUNSTORE_RETURNS" what cannot be used: '
            f"{_in_words(data, error)}; write one JSON object, {example}"
        ) from None
    if not isinstance(document, dict):
        raise TaskFailedError(
            f'{attempt.path} wrote no JSON object to "$RUNSTORE_RETURNS", and its names with it: '
            f"write {example}"
        )
    return document


def _in_words(data: bytes, error: ValueNotJsonError) -> str:
    """What is wrong with a JSON text. Python's reader takes NaN, so that its place is found."""
    try:
        document = json.loads(data)
        advice = _advice([document])
        dumps(document)
    except ValueNotJsonError as placed:
        if advice:
            return f"{error}, at {placed.facts.get('where', '$')}: {advice}"
        return str(placed)
    except (ValueError, RecursionError):
        pass
    return str(error)


def with_advice(error: ValueNotJsonError, *outputs: object) -> ValueNotJsonError:
    """An error about values that were returned, with what to return instead. They are asked what
    they are, and may raise anything."""
    values: list[object] = []
    for given in outputs:
        if issubclass(type(given), dict):
            values += dict.values(given)  # type: ignore[arg-type]
    advice = _advice(values)
    return error.reworded(advice=advice) if advice else error


def _advice(values: list[Any]) -> str:
    """What to do about the first thing that JSON does not hold."""
    stack = values[::-1]
    seen: dict[int, Any] = {}
    first = ""
    while stack:
        item = stack.pop()
        kind = type(item)
        if item is None or kind in (str, int, bool) or (kind is float and math.isfinite(item)):
            continue
        if kind not in (dict, list):
            # All are looked at: a coroutine among them is closed.
            promise = promised(item)
            first = first or _instead(item, promise)
            continue
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if kind is dict:
            if not first and any(type(key) is not str for key in item):
                first = "make its keys texts: str(key)"
            stack.extend(reversed(item.copy().values()))
        else:
            stack.extend(reversed(item))
    return first


def _instead(item: Any, promise: str) -> str:
    kind = type(item)
    if promise:
        return promise
    if kind is float:
        return "NaN and the infinities are not JSON: return null (None) or a text for it"
    if issubclass(kind, tuple):
        return "return a list for a tuple, or name each of it in `returns`"
    if issubclass(kind, set | frozenset):
        return "convert it to a list: sorted(...) of it is the same in every run"
    if issubclass(kind, bytes | bytearray):
        return "decode it to a text, or keep it as a file: attempt.save_bytes(name, data)"
    if issubclass(kind, Mapping):
        return "convert it to a dict: dict(...)"
    if hasattr(kind, "tolist"):  # numpy's arrays and numbers, and what is like them
        return "convert it: .tolist() of it"
    return "return what it holds as dict, list, text and number, or keep a file: attempt.save(name)"
