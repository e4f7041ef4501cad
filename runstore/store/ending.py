"""What is said at the end of an attempt: checked, and made fit to be recorded."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from runstore.canonical import dumps
from runstore.errors import (
    BlobDamagedError,
    BlobMissingError,
    ParameterError,
    ValueNotJsonError,
)
from runstore.store.blobs import INLINE_BYTES

__all__ = ["check_metric", "check_names", "clean", "described"]


def check_metric(name: object, value: object, path: str) -> None:
    what = f"metric {name!r} of {path}"
    try:
        size = len(dumps({name: value}))
        if size <= INLINE_BYTES:
            orjson.dumps({"": {"": {"": value}}}, option=orjson.OPT_STRICT_INTEGER)
    except ValueNotJsonError as error:
        raise ValueNotJsonError(f"{what} is no JSON value: {error}", **error.facts) from None
    except orjson.JSONEncodeError:
        size = INLINE_BYTES + 1
    if size > INLINE_BYTES:
        raise ValueNotJsonError(f"{what} is too large for a record")


def check_names(path: str, returns: Iterable[str], values: Mapping[str, Any]) -> None:
    for name in returns:
        if name not in values:
            raise ParameterError(
                f"{path} is to return {name!r} and did not: return it, or take it out of `returns`",
                path=path,
                parameter=name,
            )
    for name in values:
        if name not in returns:
            listed = ", ".join(map(repr, returns)) or "nothing"
            raise ParameterError(
                f"{path} returned {name!r}, and its `returns` lists {listed}: add it there",
                path=path,
                parameter=name,
            )


def described(error: BaseException | str, mask: Callable[[str], str]) -> dict[str, str]:
    """What a record says of an error. Never raises, whatever a task has made of its exceptions."""
    if isinstance(error, str):
        return {"type": "Error", "message": clean(mask(str(error)))}
    kind = type(error)
    module = kind.__module__  # type: str | None  # a class may say anything of itself
    known = not isinstance(module, str) or module == "builtins" or module.startswith("runstore.")
    name = kind.__name__ if known else f"{module}.{kind.__name__}"
    # Masked before it is cut: half a secret would not be found.
    said = {
        "type": clean(mask(name)),
        "message": clean(mask(_attempted(lambda: str(error), "its message"))),
    }
    if error.__traceback__ is not None or error.__cause__ is not None:  # else it says no more
        said["traceback"] = clean(
            mask(_attempted(lambda: "".join(traceback.format_exception(error)), "its traceback"))
        )
    if isinstance(error, BlobMissingError | BlobDamagedError):
        sha256 = getattr(error, "facts", {}).get("sha256")
        if isinstance(sha256, str):
            said["sha256"] = sha256  # so that a retry makes that blob again
    return said


def _attempted(say: Callable[[], str], what: str) -> str:
    try:
        return say()
    except BaseException as broken:  # noqa: BLE001 - an exception of the task's own making
        return f"({what} cannot be had: {type(broken).__name__})"


def clean(text: str, limit: int = 16_384) -> str:
    """Text a record can hold: no half surrogates; of a long one the end (where errors are)."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"...{text[-limit:]}"
