"""Tasks that do what no task should: each fails, and nothing else does.

``CASES``: what a task is called -> what its error must say. The others succeed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from runstore import Attempt, Dag, task

NODES = []
CASES: dict[str, str] = {}


def hostile(said, returns="x"):
    def add(function):
        NODES.append(task(function, returns=returns))
        CASES[function.__name__] = said
        return function

    return add


class Boom(Exception):
    pass


def boom(*_):
    raise Boom("boom")


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


class Text(str):
    """A text that does not do what a text does."""

    __slots__ = ()
    encode = find = __len__ = __getitem__ = __eq__ = boom
    __hash__ = str.__hash__


class SaysText(Exception):
    def __str__(self):
        return Text("said in a text of its own")


class Meta(type):
    __name__ = property(boom)
    __module__ = property(boom)


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
def nameless():
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


# -- returned ------------------------------------------------------------------------------------


class Raises(Mapping):
    __getitem__ = __iter__ = __len__ = keys = boom


class Exiting(Mapping):
    __getitem__ = __len__ = boom

    def __iter__(self):
        sys.exit(3)


class Storing(Mapping):
    __getitem__ = __len__ = boom

    def __iter__(self):
        raise OSError("no such disk")


class Lying(dict):
    items = keys = values = __iter__ = __getitem__ = __len__ = boom


class Oddity(metaclass=Meta):
    __class__ = property(boom)
    __iter__ = __len__ = __bool__ = __repr__ = __eq__ = __getattr__ = __reduce__ = boom


class Pair(tuple):
    __len__ = __iter__ = __getitem__ = boom


@hostile("'x' returned by mapping is no JSON value")
def mapping():
    return Raises()


@hostile("what mapping_of_two returned|returned a .*Raises", returns=("x", "y"))
def mapping_of_two():
    return Raises()


@hostile("names 2: x, y", returns=("x", "y"))
def lying_of_two():
    return Pair((1, 2, 3))


@hostile("no JSON value")
def lying():
    return Lying(x=1)


@hostile("no JSON value")
def oddity():
    return Oddity()


@hostile("no JSON value")
def oddity_inside():
    return [1, {"a": Oddity()}]


@hostile("no JSON value")
def text_of_its_own():
    return Text("t")


@hostile("key of type")
def key_of_its_own():
    return {Text("k"): 1}


@hostile("no JSON value")
def unpicklable():
    return lambda: 1


@hostile("integer of more than 4,300 digits")
def huge_integer():
    return {"n": [-(10**5_000)]}


@hostile("no JSON value")
def holds_itself():
    value: list = []
    value.append([value, value])
    return value


@hostile("nested deeper")
def deep():
    value: list = []
    for _ in range(100_000):
        value = [value]
    return value


@hostile("lone surrogate")
def half_a_character():
    return {"text": "\ud800"}


@hostile("no JSON value")
def a_class_of_odd_name():
    return type("odd\x1b[31m", (), {})()


# -- set -----------------------------------------------------------------------------------------


@hostile("`attempt.metrics` of metrics_none is a NoneType")
def metrics_none(attempt: Attempt):
    attempt.metrics = None
    return 1


@hostile("`attempt.metrics` of metrics_raise cannot be read")
def metrics_raise(attempt: Attempt):
    attempt.metrics = Exiting()
    return 1


@hostile("RuntimeError: for another reason")
def metrics_of_one_that_failed(attempt: Attempt):
    attempt.metrics = Exiting()
    raise RuntimeError("for another reason")


@hostile("metric 'm' of metric_odd is no JSON value")
def metric_odd(attempt: Attempt):
    attempt.metrics["m"] = Oddity()
    return 1


@hostile("metric 'm' of metric_huge is no JSON value")
def metric_huge(attempt: Attempt):
    attempt.metrics["m"] = 10**5_000
    return 1


@hostile("has a name of type int")
def metric_of_no_name(attempt: Attempt):
    attempt.metrics[1] = 1
    return 1


@hostile("metric '\\ud800'|metric '.*surrogate")
def metric_of_half_a_name(attempt: Attempt):
    attempt.metrics["\ud800"] = 1
    return 1


@hostile("`attempt.outputs` of outputs_none is a NoneType")
def outputs_none(attempt: Attempt):
    attempt.outputs = None
    return 1


@hostile("`attempt.outputs` of outputs_raise cannot be read")
def outputs_raise(attempt: Attempt):
    attempt.outputs = Storing()
    return 1


@hostile("outputs_more returned 'y', and its `returns` lists 'x'")
def outputs_more(attempt: Attempt):
    attempt.outputs["y"] = 1
    return 1


@hostile("AttributeError")
def run_replaced(attempt: Attempt):
    attempt.run = attempt.start = None
    return 1


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
