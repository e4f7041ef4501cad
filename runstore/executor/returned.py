"""What a task hands back: named as its `returns` says, or told what to hand back instead."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from runstore.canonical import dumps, loads
from runstore.dag import Task
from runstore.errors import ValueNotJsonError
from runstore.executor.failure import TaskFailedError
from runstore.store import Attempt

__all__ = ["by_name", "from_file", "with_advice"]


def by_name(attempt: Attempt, task: Task, value: Any) -> tuple[Mapping[str, Any], str]:
    """What a function returned, by name, and a warning, if there is one.

    :raises TaskFailedError: if it is not as many as ``returns`` names.
    """
    names = task.returns
    if not names:
        if value is None:
            return {}, ""
        return {}, (
            f"{attempt.path} returned a {type(value).__name__} and its `returns` names nothing: "
            f"the value is not kept"
        )
    if len(names) == 1:
        return {names[0]: value}, ""
    if isinstance(value, dict) and set(value) == set(names):
        return value, ""
    if isinstance(value, tuple) and len(value) == len(names):
        return dict(zip(names, value, strict=True)), ""
    shown = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
    raise TaskFailedError(
        f"{attempt.path} returned {shown}, and its `returns` names {len(names)}: "
        f"{', '.join(names)}; return a tuple in this order, or a dict with these keys"
    )


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
        advice = _advice({"": document})
        dumps(document)
    except ValueNotJsonError as placed:
        if advice:
            return f"{error}, at {placed.facts.get('where', '$')}: {advice}"
    except (ValueError, RecursionError):
        pass
    return str(error)


# -- from python ---------------------------------------------------------------------------------


def with_advice(error: ValueNotJsonError, values: Mapping[str, Any]) -> ValueNotJsonError:
    """An error about values that were returned, with what to return instead."""
    advice = _advice(values)
    return ValueNotJsonError(f"{error}; {advice}", **error.facts) if advice else error


def _advice(values: Mapping[str, Any]) -> str:
    """What to do about the first thing that JSON does not hold."""
    stack: list[Any] = list(values.values())[::-1]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        kind = type(item)
        if item is None or kind in (str, int, bool) or (kind is float and math.isfinite(item)):
            continue
        if kind not in (dict, list):
            return _instead(item)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if kind is dict:
            if any(type(key) is not str for key in item):
                return "make its keys texts: str(key)"
            stack.extend(reversed(item.values()))
        else:
            stack.extend(reversed(item))
    return ""


def _instead(item: Any) -> str:
    if type(item) is float:
        return "NaN and the infinities are not JSON: return null (None) or a text for it"
    if isinstance(item, tuple):
        return "return a list for a tuple, or name each of it in `returns`"
    if isinstance(item, set | frozenset):
        return "convert it to a list: sorted(...) of it is the same in every run"
    if isinstance(item, bytes | bytearray):
        return "decode it to a text, or keep it as a file: attempt.save_bytes(name, data)"
    if isinstance(item, Mapping):
        return "convert it to a dict: dict(...)"
    if hasattr(type(item), "tolist"):  # numpy's arrays and numbers, and what is like them
        return "convert it: .tolist() of it"
    return "return what it holds as dict, list, text and number, or keep a file: attempt.save(name)"
