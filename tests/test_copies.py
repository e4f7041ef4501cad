"""A copy is what reading the bytes again would give; a snapshot is safe from its owner."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.canonical import MAX_DEPTH, dumps, exact, loads
from runstore.copies import copied, snapshot
from runstore.errors import ValueNotJsonError

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
)


def containers(value):
    found, stack = {}, [value]
    while stack:
        item = stack.pop()
        if type(item) in (list, dict):
            found[id(item)] = item
            stack.extend(item.values() if type(item) is dict else item)
    return found


@given(VALUES)
def test_a_copy_is_the_value_read_again(value):
    for copy in (copied(value), snapshot(value)):
        assert repr(copy) == repr(value) == repr(loads(exact(value)))  # types, order, -0.0
        assert not containers(copy).keys() & containers(value).keys(), "nothing is shared"


@given(VALUES)
def test_what_stands_there_twice_is_apart_in_a_copy(value):
    copy = copied([value, value, {"a": value}])
    own = [containers(each) for each in (copy[0], copy[1], copy[2]["a"])]
    assert not (own[0].keys() & own[1].keys()) | (own[1].keys() & own[2].keys())


def test_as_deep_as_a_value_may_be():
    value: object = 1.0
    for _ in range(MAX_DEPTH):
        value = [value]
    for copy in (copied(value), snapshot(value)):
        assert dumps(copy) == dumps(value)


def test_one_that_holds_itself_is_for_the_writer_to_refuse():
    value: list = [{}]
    value[0]["again"] = [value, value]
    with pytest.raises(ValueNotJsonError, match="holds itself"):
        dumps(snapshot(value))


def test_a_snapshot_is_of_one_moment_for_each_part():
    """While others change it: no error, and the bytes are those of the snapshot."""
    value = {f"k{n}": list(range(n)) for n in range(100)}
    stop = threading.Event()

    def change():
        n = 0
        while not stop.is_set():
            n += 1
            value[f"k{n % 150}"] = list(range(n % 90))
            value.pop(f"k{(n * 7) % 150}", None)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            taken = snapshot(value)
            assert loads(dumps(taken)) == taken
    finally:
        stop.set()
        thread.join()
