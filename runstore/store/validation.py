"""What a task said at the end of an attempt, checked and made fit to be recorded. Its objects are a
stranger's: no method of theirs is trusted."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, cast

from runstore.canonical import type_name
from runstore.errors import (
    BlobDamagedError,
    BlobMissingError,
    InputError,
    ParameterError,
    ValueNotJsonError,
)
from runstore.store.blobs import checked, inline

__all__ = ["check_names", "clean", "described", "measured", "plain"]


def plain(given: object, what: str) -> dict[str, Any]:
    """The names and values of a mapping, as they are now.

    :param what: whose they are, for the message.
    :raises InputError: for what is no mapping, cannot be read, or has names that are no texts.
    """
    if type(given) is not dict:
        kind = type(given)
        try:
            if issubclass(kind, dict):
                given = dict.copy(cast("dict[Any, Any]", given))  # what it holds, not what it says
            elif issubclass(kind, Mapping):
                given = {**cast("Mapping[Any, Any]", given)}
            else:
                raise InputError(f"{what} is a {type_name(kind)}: it must be a dict")
        except (InputError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a mapping of the task's own making
            raise InputError(
                f"{what} cannot be read: a {type_name(kind)}, which raised "
                f"{type_name(type(error))}",
                advice="give a dict",
            ) from None
    found: dict[str, Any] = {}
    for name, value in given.copy().items():
        if not issubclass(type(name), str):
            raise InputError(f"{what} has a name of type {type_name(type(name))}: names are texts")
        found[str.__str__(name)] = value
    return found


def measured(
    metrics: Iterable[tuple[object, str]],
    path: str,
    refuse_name: Callable[[str], None],
    refuse: Callable[[Mapping[str, Any]], None],
    *,
    strict: bool,
) -> dict[str, Any]:
    """Metrics as they are recorded, those that come later before those of the same name.

    :param metrics: mappings, and what each is called.
    :param refuse_name, refuse: raise for one that must not be stored.
    :param strict: raise for what cannot be kept; else it is left out, since an attempt that failed
        must be able to end.
    :raises ValueNotJsonError, InputError: naming the metric.
    """
    found: dict[str, Any] = {}
    for given, what in metrics:
        try:
            found |= plain(given, what)
        except InputError:
            if strict:
                raise
    kept: dict[str, Any] = {}
    for name, value in found.items():
        try:
            refuse_name(name)
            kept[name] = _metric(name, value, path)
            refuse({name: kept[name]})
        except InputError:
            if strict:
                raise
            kept.pop(name, None)
    return kept


def _metric(name: str, value: object, path: str) -> Any:
    what = f"metric {name!r} of {path}"
    checked(name, what)  # a name may be no UTF-8
    fits = inline(checked(value, what))
    if fits is None:
        raise ValueNotJsonError(
            f"{what} is too large for a record, or has an integer beyond 2^53 in it",
            advice="return it, or make it a text",
        )
    return fits[0]


def check_names(path: str, returns: Iterable[str], values: Mapping[str, Any]) -> None:
    """
    :raises ParameterError: naming every output that is missing, and each that nobody asked for.
    """
    listed = ", ".join(map(repr, returns)) or "nothing"
    missing = [name for name in returns if name not in values]
    more = [name for name in values if name not in returns]
    if missing:
        raise ParameterError(
            f"{path} is to return {_listed(missing)} and did not"
            + (f"; it returned {_listed(more)} instead" if more else ""),
            advice="return it, or take it out of `returns`",
            path=path,
            parameter=missing[0],
        )
    if more:
        raise ParameterError(
            f"{path} returned {_listed(more)}, and its `returns` lists {listed}",
            advice="add it there",
            path=path,
            parameter=more[0],
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def described(error: BaseException | str, mask: Callable[[str], str]) -> dict[str, str]:
    """What a record says of an error. Never raises, whatever a task has made of its exceptions."""
    if issubclass(type(error), str):  # isinstance would ask the error for its class
        return {"type": "Error", "message": clean(mask(str.__str__(error)))}
    error = cast("BaseException", error)
    kind = type_name(type(error))
    # Names of ours, and of Python's, are known without their module.
    known = kind.startswith("runstore.")
    said = {
        "type": clean(mask(kind.rpartition(".")[2] if known else kind)),
        "message": clean(mask(_attempted(lambda: str(error), "its message"))),
    }
    trace = _TRACE(error)
    if trace is not None or _CAUSE(error) is not None:  # else it says no more
        said["traceback"] = clean(mask(_traced(error, trace)))
    if type(error) in (BlobMissingError, BlobDamagedError):
        facts = vars(error).get("facts")
        sha256 = facts.get("sha256") if type(facts) is dict else None
        if type(sha256) is str:
            said["sha256"] = sha256  # so that a retry makes that blob again
    return said


# Read where Python keeps them: a class may have made properties of these names.
_TRACE, _CAUSE = (BaseException.__dict__[slot].__get__ for slot in ("__traceback__", "__cause__"))


def _traced(error: BaseException, trace: TracebackType | None) -> str:
    try:
        return _text("".join(traceback.format_exception(type(error), error, trace)))
    except BaseException:  # noqa: BLE001 - notes, causes, a text of the task's own making
        frames = _attempted(lambda: "".join(traceback.format_tb(trace)), "its traceback")
        return f"Traceback (most recent call last):\n{frames}{type_name(type(error))}"


def _attempted(say: Callable[[], str], what: str) -> str:
    try:
        return _text(say())
    except BaseException as broken:  # noqa: BLE001 - an exception of the task's own making
        return f"({what} cannot be had: {type_name(type(broken))})"


def _text(text: str) -> str:
    """A text that is nothing but one: of a subclass, what it holds."""
    return str.__str__(text)


def clean(text: str, limit: int = 16_384) -> str:
    """Text a record can hold: no half surrogates; of a long one the end (where errors are)."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"...{text[-limit:]}"
