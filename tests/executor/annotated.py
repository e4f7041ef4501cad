"""The attempt, asked for in every spelling; names that only a type checker has among them."""

from __future__ import annotations

import functools
import typing
from typing import TYPE_CHECKING, Annotated

import runstore
import runstore as rs
from runstore import Attempt as Mine

if TYPE_CHECKING:
    from somewhere import Thing  # type: ignore[import-not-found]
    from tenacity import Attempt as NotOurs  # type: ignore[import-not-found]

    from runstore import Attempt
    from runstore import Attempt as Theirs

Alias = runstore.Attempt


class Attempt2:
    pass


def module(a: runstore.Attempt):
    return a


def short(a: rs.Attempt):
    return a


def name(a: Mine):
    return a


def checked(a: Attempt):
    return a


def renamed(a: Theirs):
    return a


def alias(a: Alias):
    return a


def union(a: Attempt | None = None):
    return a


def either(a: rs.Attempt | None):
    return a


def optional(a: Mine | None):
    return a


def optional_text(a: Attempt | None):
    return a


def quoted(a: Mine):
    return a


def old_union(a: rs.Attempt | None):
    return a


def annotated(a: Annotated[rs.Attempt, "x"]):
    return a


def annotated_unknown(a: typing.Annotated[Attempt, Thing("x")]):
    return a


def keyword(*, a: Attempt):
    return a


def other_type(a: Thing | rs.Attempt):
    return a


class Holder:
    def method(self, a: Attempt):
        return a

    def __call__(self, a: Mine):
        return a


def wraps(function):
    @functools.wraps(function)
    def inner(*arguments, **named):
        return function(*arguments, **named)

    return inner


OURS = [
    module,
    short,
    name,
    checked,
    renamed,
    alias,
    union,
    either,
    optional,
    optional_text,
    quoted,
    old_union,
    annotated,
    annotated_unknown,
    keyword,
    other_type,
    Holder().method,
    Holder(),
    wraps(checked),
    functools.partial(checked),
]


def not_ours(a: NotOurs):
    return a


def another(a: Attempt2):
    return a


def a_list(a: list[Attempt]):
    return a


def text(a: str):
    return a


def nothing(a):
    return a


def unknown(a: Thing):
    return a


def broken(a: "what ! this"):  # type: ignore[valid-type]  # noqa: F722 - somebody wrote it
    return a


OTHERS = [not_ours, another, a_list, text, nothing, unknown, broken]


def unannotated(attempt):
    return attempt
