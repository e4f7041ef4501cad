"""Tasks that do what no task should: each fails, and nothing else does.

``CASES``: what a task is called -> what its error must say. The others succeed.
"""

from __future__ import annotations

import asyncio
import sys

import tests.executor.hostile_hooks  # noqa: F401 - its tasks are among NODES
from runstore import Attempt, Dag, task
from tests.executor.hostile_values import CASES, NODES, Meta, Text, boom, hostile

__all__ = ["CASES", "pipeline"]

# -- raised --------------------------------------------------------------------------------------


class NoText(Exception):
    __str__ = boom


class NoRepr(Exception):
    __repr__ = boom


class NoPickle(Exception):
    __reduce__ = boom


class NoClass(Exception):
    __class__ = property(boom)


class Properties(Exception):
    args = property(boom)
    __cause__ = property(boom)
    __context__ = property(boom)
    __traceback__ = property(boom)
    __notes__ = property(boom)
    __dict__ = property(boom)


class NoAttributes(Exception):
    def __getattribute__(self, name):
        raise SystemExit(f"no {name}")


class Exits(Exception):
    def __str__(self):  # noqa: PLE0307 - it is not to
        sys.exit(0)


class SaysText(Exception):
    def __str__(self):
        return Text("said in a text of its own")


class Nameless(Exception, metaclass=Meta):
    pass


@hostile("NoText")
def no_text():
    raise NoText


@hostile("NoRepr")
def no_repr():
    raise NoRepr(NoRepr())


@hostile("NoPickle")
def no_pickle():
    raise NoPickle(lambda: 1)


@hostile("NoClass")
def no_class():
    raise NoClass


@hostile("Properties")
def properties():
    raise Properties("x") from Properties()


@hostile("NoAttributes")
def no_attributes():
    raise NoAttributes


@hostile("Exits")
def exits_when_asked():
    raise Exits


@hostile("said in a text of its own")
def says_text():
    raise SaysText


@hostile("Nameless")
def unreadable_latest():
    raise Nameless


@hostile("? and ?")
def surrogates():
    raise type("Odd\x1b[31mname", (Exception,), {})("\udfff and \ud800")


@hostile("sys.exit(0)")
def exit_with_success():
    raise SystemExit(0)


@hostile("sys.exit(<object object at")
def exit_with_an_object():
    sys.exit(object())


@hostile("an object whose repr raised")
def exit_with_no_repr():
    sys.exit(NoRepr())


@hostile("KeyboardInterrupt")
def interrupts():
    raise KeyboardInterrupt


@hostile("GeneratorExit")
def generator_exit():
    raise GeneratorExit


@hostile("CancelledError")
def cancelled():
    raise asyncio.CancelledError


@hostile("StopIteration")
def stop_iteration():
    raise StopIteration(1)


@hostile("MemoryError")
def memory():
    raise MemoryError


@hostile("RecursionError")
def recursion():
    return recursion()


@hostile("ExceptionGroup: many (5000 sub-exceptions)")
def group():
    raise ExceptionGroup("many", [ValueError(n) for n in range(5_000)])


@hostile("ExceptionGroup")
def nested_groups():
    error: Exception = ValueError("innermost")
    for _ in range(3_000):
        error = ExceptionGroup("around", [error])
    raise error


@hostile("the last cause")
def causes():
    error = ValueError("first")
    for n in range(5_000):
        error, cause = ValueError(f"cause {n}"), error
        error.__cause__ = cause
    raise RuntimeError("the last cause") from error


@hostile("RuntimeError: ...")
def huge_message():
    raise RuntimeError("m" * 20_000_000)


@hostile("RuntimeError")
def huge_integer_in_a_message():
    raise RuntimeError(10**5_000)


@hostile("StorageError: the store is gone")
def raises_one_of_ours():
    from runstore.errors import StorageError

    raise StorageError("the store is gone")


@hostile("AttemptEndedError: it is over")
def raises_another_of_ours():
    from runstore.errors import AttemptEndedError

    raise AttemptEndedError("it is over")


# -- and what goes on ----------------------------------------------------------------------------


def fine():
    return "fine"


def limits_digits(attempt: Attempt):
    """A limit of the process's own is none of ours."""
    old = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        attempt.outputs["kept"] = 10**4_000
    finally:
        sys.set_int_max_str_digits(old)


pipeline = Dag(
    [
        *NODES,
        task(fine, name="before", returns="b"),
        task(fine, name="after", after="before", returns="a"),
        task(limits_digits, returns="kept"),
    ]
)
