"""Digests of what nodes hand on: values, results, ends (FORMAT.md, section 7.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from runstore.canonical import digest, dumps
from runstore.errors import ValueNotJsonError
from runstore.records import Blob, Secret

__all__ = [
    "composite_result", "end_result", "ends_digest", "holds_blob", "shown", "state_result",
    "task_result", "value_digest",
]  # fmt: skip


def _tagged(tag: bytes, value: Any) -> str:
    return sha256(tag + dumps(value)).hexdigest()


def value_digest(value: Any) -> str:
    """The digest of a value as it is consumed; of a blob it is the blob's name."""
    kind = type(value)
    if kind is Blob:
        return value.value or value.sha256  # type: ignore[no-any-return]
    if kind is Secret:
        return _tagged(b"runstore/secret/1\n", value.name)
    if kind is list and holds_blob(value):
        return _tagged(b"runstore/list/1\n", [value_digest(item) for item in value])
    return digest(value)


def holds_blob(value: list[Any]) -> bool:
    """Only the list of a map, or a list of such lists, does: a value in a record never does."""
    stack = [value]
    while stack:
        items = stack.pop()
        kinds = set(map(type, items))
        if Blob in kinds:
            return True
        if list in kinds:
            stack.extend(item for item in items if type(item) is list)
    return False


def task_result(outputs: Mapping[str, Any], artifacts: Mapping[str, Blob], end: str) -> str:
    """The result of a task that succeeded. ``end`` is the digest of its end record."""
    if not outputs and not artifacts:
        return end_result(end)
    made: dict[str, Any] = {}
    if outputs:
        made["values"] = {name: value_digest(value) for name, value in outputs.items()}
    if artifacts:
        made["artifacts"] = {name: blob.sha256 for name, blob in artifacts.items()}
    return _tagged(b"runstore/result/1/task\n", made)


def end_result(end: str) -> str:
    """The result of a task that hands over nothing to compare, or failed: its very attempt."""
    return _tagged(b"runstore/result/1/end\n", end)


def composite_result(
    kind: str, params: Mapping[str, str], results: Mapping[str, str], inside: Mapping[str, Any]
) -> str:
    """The result of a composite: over the results in it, and over what it consumed itself."""
    return _tagged(
        b"runstore/result/1/composite\n",
        {"kind": kind, "params": params, "results": results, "inside": inside},
    )


def state_result(state: str, upstream: Mapping[str, str]) -> str:
    """The result of a node without an attempt that counts: never over older records."""
    return _tagged(b"runstore/result/1/state\n", {"state": state, "upstream": upstream})


def ends_digest(of: Iterable[str], after: Iterable[str]) -> str:
    """The digest of end records, for tasks that ask for more than content.

    :param of: those of a node, or of the nodes in it.
    :param after: the same digest of what it follows.
    """
    made = {"of": sorted(of), "after": sorted({each for each in after if each})}
    return _tagged(b"runstore/ends/1\n", made)


def shown(value: Any, limit: int = 60) -> str:
    """A value in a message: canonical JSON, shortened."""
    if type(value) is Secret:
        return "a secret"
    if type(value) is Blob:
        if value.codec is not None:
            return (
                f"a value in the codec {value.codec!r:.80}, which this runstore does not know "
                f"(upgrade it)"
            )
        return f"a value of {value.size} bytes"
    try:
        text = dumps(value).decode()
    except ValueNotJsonError:
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
