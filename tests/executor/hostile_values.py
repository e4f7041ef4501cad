"""Tasks that return and set what no task should; see `hostile`, which is the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from runstore import Attempt, task

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


class Text(str):
    """A text that does not do what a text does."""

    __slots__ = ()
    encode = find = __len__ = __getitem__ = __eq__ = boom
    __hash__ = str.__hash__


class Meta(type):
    __name__ = property(boom)
    __module__ = property(boom)


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
