"""Tasks that hand over objects of which every hook raises what ends a program; see `hostile`."""

from __future__ import annotations

from asyncio import CancelledError
from itertools import product
from typing import Any

from runstore import Attempt
from tests.executor.hostile_values import hostile

HOOKS = [
    "iter", "len", "bool", "repr", "str", "eq", "hash", "reduce", "reduce_ex", "getattr", "format",
    "index", "float",
]  # fmt: skip
RAISED = (
    KeyboardInterrupt, SystemExit, GeneratorExit, CancelledError, MemoryError, RecursionError
)  # fmt: skip


def made(kind: type[BaseException]) -> tuple[dict[str, Any], type[Exception]]:
    """What raises it whatever it is asked: an object, a class, an object of that class; and an
    exception that does."""

    def raises(*_: Any, **__: Any) -> Any:
        raise kind("asked")

    hooks = {f"__{name}__": raises for name in HOOKS} | {"__class__": property(raises)}
    meta = type("Meta", (type,), {"__getattribute__": raises, "__instancecheck__": raises})
    odd = type("Odd", (), hooks)
    odd_class = meta("Class", (), {})
    without = {name: hook for name, hook in hooks.items() if name != "__hash__"}
    things = {"object": odd(), "class": odd_class, "of_a_class": object.__new__(odd_class)}
    return things, type("Error", (Exception,), without)


# -- what is done with it: the step fails, and its error says so -----------------------------------

NOT_JSON = "is no JSON value"


def returned(odd: Any, attempt: Attempt) -> Any:
    return odd


def in_a_list(odd: Any, attempt: Attempt) -> Any:
    return [1, {"a": odd}]


def as_outputs(odd: Any, attempt: Attempt) -> None:
    attempt.outputs = odd


def in_outputs(odd: Any, attempt: Attempt) -> None:
    attempt.outputs["x"] = odd


def as_metrics(odd: Any, attempt: Attempt) -> int:
    attempt.metrics = odd
    return 1


def in_metrics(odd: Any, attempt: Attempt) -> int:
    attempt.metrics["m"] = odd
    return 1


PLACES = {
    returned: f"{NOT_JSON}|asked|KeyboardInterrupt",  # it is asked whether it is to be awaited
    in_a_list: NOT_JSON,
    as_outputs: "must be a dict",
    in_outputs: NOT_JSON,
    as_metrics: "must be a dict",
    in_metrics: "m",
}


def add(name: str, said: str, does: Any) -> None:
    def function(attempt: Attempt) -> Any:
        return does(attempt)

    function.__name__ = function.__qualname__ = name
    globals()[name] = hostile(said)(function)


def raises_it(error: type[Exception]) -> Any:
    def does(_: Attempt) -> None:
        raise error

    return does


for kind in RAISED:
    things, error = made(kind)
    for (what, thing), (place, said) in product(things.items(), PLACES.items()):
        add(
            f"{place.__name__}_{what}_{kind.__name__}", said,
            lambda attempt, place=place, thing=thing: place(thing, attempt),
        )  # fmt: skip
    add(f"raised_{kind.__name__}", "Error", raises_it(error))
