"""What a function takes, and whether a call of it runs it.

Annotations are looked up as Python does: as what they are, or by name where the function is
defined, also below ``if TYPE_CHECKING:``, whose imports are read from the source.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import linecache
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin

from runstore.errors import DagError

__all__ = [
    "attempt_parameters", "inside", "looks_like_attempt", "parameters_of", "refuse_generator",
]  # fmt: skip


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """
    :raises TypeError, ValueError: for one that tells nothing of them, written in C.
    """
    if sys.version_info >= (3, 14):  # evaluated when asked for: names may be missing then
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF).parameters
    return inspect.signature(function).parameters


def attempt_parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters that are to be given the attempt: annotated :class:`runstore.Attempt`,
    ``Attempt | None`` or ``Annotated[Attempt, ...]``, by whatever name it goes there."""
    found = []
    scope: _Scope | None = None
    for name, parameter in parameters_of(function).items():
        if parameter.annotation is not parameter.empty:
            scope = scope or _Scope(function)
            if _is_attempt(parameter.annotation, scope):
                found.append(name)
    return tuple(found)


def looks_like_attempt(parameter: inspect.Parameter) -> bool:
    """Whether somebody may have meant it to be the attempt, who did not say so."""
    return parameter.name == "attempt" or "Attempt" in str(parameter.annotation)


def inside(function: Any) -> Any:
    """The function that a partial, a method or an object with `__call__` runs."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        else:
            break
    called = getattr(type(function), "__call__", None)  # noqa: B004 - its code is looked at
    if not isinstance(function, type) and isinstance(called, types.FunctionType):
        return called
    return function


def refuse_generator(function: Callable[..., Any], name: str) -> None:
    """
    :raises DagError: for a function with `yield` in it: a call runs nothing of it.
    """
    code = inside(function)
    if inspect.isasyncgenfunction(code):
        raise DagError(
            f"function {name!r} is an async generator (`async def` with `yield`): a call runs "
            "nothing of it. Collect what it yields and return that, in a function of its own",
            advice=f"`return [x async for x in {name}()]`",
            nodes=(name,),
        )
    if inspect.isgeneratorfunction(code):
        raise DagError(
            f"function {name!r} is a generator (it has a `yield`): a call runs nothing of it. "
            "Return a list in place of it, or make a task of a function that does",
            advice=f"`return list({name}())`",
            nodes=(name,),
        )


def _is_attempt(annotation: Any, scope: _Scope) -> bool:
    stack, left = [annotation], 100  # an alias may name itself
    while stack and left:
        left -= 1
        one = stack.pop()
        if isinstance(one, ForwardRef):
            one = one.__forward_arg__
        if isinstance(one, str):
            stack += scope.parts(one)
        elif one is _attempt_class():
            return True
        elif get_origin(one) is Annotated:
            stack.append(get_args(one)[0])
        elif get_origin(one) in (Union, types.UnionType):
            stack += get_args(one)
        elif type(one).__name__ == "TypeAliasType":  # `type A = Attempt`, of Python 3.12
            stack.append(one.__value__)
        elif isinstance(one, typing.NewType):
            stack.append(one.__supertype__)
    return False


def _attempt_class() -> Any:
    # No annotation is of that class before it is imported, which few need.
    return getattr(sys.modules.get("runstore.store.attempt"), "Attempt", _Scope)


class _Scope:
    """The names where a function is defined."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code = inspect.unwrap(inside(function))
        code = vars(code).get("__init__") if isinstance(code, type) else inside(code)
        self._globals: dict[str, Any] = getattr(code, "__globals__", {})
        self._file: str = getattr(getattr(code, "__code__", None), "co_filename", "")

    def parts(self, text: str) -> Iterator[Any]:
        """What an annotation that is a text stands for: each type of a union, as far as it can be
        found; an annotation may be anything."""
        with suppress(Exception):
            stack: list[ast.expr] = [ast.parse(text.strip(), mode="eval").body]
            while stack:
                node = stack.pop()
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                    stack += [node.left, node.right]
                elif isinstance(node, ast.Subscript):
                    given = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                    kind = self._find(ast.unparse(node.value))
                    stack += given[:1] if kind is Annotated else given if kind in _UNIONS else ()
                elif isinstance(node, ast.Constant):
                    yield node.value  # a text again, quoted twice
                elif isinstance(node, ast.Name | ast.Attribute):
                    yield self._find(ast.unparse(node))

    def _find(self, dotted: str) -> Any:
        """What a name means; ``None`` if that cannot be found out."""
        name, *rest = dotted.split(".")
        if name in self._globals:
            found = self._globals[name]
        else:
            # For type checkers alone, or not at all: what else could it be then?
            source = "".join(linecache.getlines(self._file, self._globals))
            module, attribute = _imports(source).get(name, _KNOWN.get(name, ("", None)))
            if module.partition(".")[0] not in ("runstore", "typing"):
                return None
            found = importlib.import_module(module)
            rest = rest if attribute is None else [attribute, *rest]
        for each in rest:
            found = getattr(found, each, None)
        return found


_UNIONS = (Union, typing.Optional)
_KNOWN: Mapping[str, tuple[str, str | None]] = {
    "Attempt": ("runstore", "Attempt"),
    "runstore": ("runstore", None),
}


@functools.lru_cache(maxsize=8)
def _imports(source: str) -> Mapping[str, tuple[str, str | None]]:
    """Name -> module, and what it is in that, for all that a source imports anywhere."""
    found: dict[str, tuple[str, str | None]] = {}
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                for each in node.names:
                    whole = each.name if each.asname else each.name.partition(".")[0]
                    found[each.asname or whole] = (whole, None)
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for each in node.names:
                    found[each.asname or each.name] = (module, each.name)
    return found
