"""Canonical JSON: against the published vectors, and against rfc8785 on whatever comes."""

from __future__ import annotations

import enum
import hashlib
import math
import re
import struct
import sys
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from runstore import canonical, jcs
from runstore.errors import ValueNotJsonError
from tests.exploration import scaled

JCS = Path(__file__).parent / "data" / "jcs"

# RFC 8785, appendix B: the bits of a double, and its text.
APPENDIX_B = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


def double(bits: int) -> float:
    return struct.unpack(">d", bits.to_bytes(8, "big"))[0]


# Characters around every border that matters: escapes, UTF-16 order, UTF-8 lengths.
EDGES = 'aA0"\\/\b\n\x1f\x7f\x80é\u2028\ud7ff\ue000\uf8ff\ufb33\uffff\U00010000\U0001f602\U0010ffff'
TEXTS = st.text(st.sampled_from(EDGES), max_size=6) | st.text(max_size=8)
FLOATS = st.integers(0, 2**64 - 1).map(double).filter(math.isfinite) | st.floats(
    allow_nan=False, allow_infinity=False
)
NEAR = st.sampled_from([1e-7, 1e-6, 1e-5, 1.0, 2.0**53, 1e16, 1e20, 1e21]).flatmap(
    lambda edge: st.floats(edge * 0.99, edge * 1.01) | st.integers(-9, 9).map(lambda i: edge * i)
)
SAFE_INTS = st.integers(-(2**53) + 1, 2**53 - 1)
BIG_INTS = st.integers(2**53, 2**70).flatmap(lambda n: st.sampled_from([n, -n]))
PLAIN = st.none() | st.booleans() | SAFE_INTS | TEXTS


def documents(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
        max_leaves=12,
    )


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_published_vectors(name: str) -> None:
    value = canonical.loads((JCS / "input" / f"{name}.json").read_bytes())
    expected = (JCS / "output" / f"{name}.json").read_bytes()
    assert canonical.dumps(value) == expected
    assert canonical.dumps(canonical.loads(expected)) == expected


def test_the_example_of_rfc_8785_section_3_2_2() -> None:
    value = canonical.loads(
        rb"""{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"""
    )
    assert (
        canonical.dumps(value)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


def test_the_example_of_rfc_8785_section_3_2_3() -> None:
    names = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(canonical.loads(canonical.dumps(names)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(("bits", "expected"), APPENDIX_B)
def test_numbers_of_rfc_8785_appendix_b(bits: str, expected: str) -> None:
    value = double(int(bits, 16))
    assert canonical.dumps(value) == expected.encode()
    assert canonical.dumps([value]) == f"[{expected}]".encode()
    assert canonical.dumps({"a": {"b": value}}) == f'{{"a":{{"b":{expected}}}}}'.encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_doubles_that_are_no_numbers(bits: str) -> None:
    for value in (double(int(bits, 16)), [0.5, double(int(bits, 16))]):
        with pytest.raises(ValueNotJsonError):
            canonical.dumps(value)


@settings(max_examples=scaled(6))
@given(documents(PLAIN | FLOATS | NEAR))
def test_equals_rfc8785(value: object) -> None:
    written = canonical.dumps(value)
    assert written == rfc8785.dumps(value)  # type: ignore[arg-type]
    # Both ways to the bytes, whichever `dumps` took.
    assert written == jcs.write(value)
    assert canonical.digest(value) == hashlib.sha256(written).hexdigest()


@settings(max_examples=scaled(3))
@given(st.dictionaries(st.text(st.sampled_from(EDGES), max_size=3), st.just(0), max_size=12))
def test_key_order_equals_rfc8785(value: dict[str, int]) -> None:
    assert canonical.dumps(value) == rfc8785.dumps(value)


@settings(max_examples=scaled(3))
@given(st.lists(FLOATS | NEAR, min_size=1))
def test_floats_equal_rfc8785(values: list[float]) -> None:
    assert canonical.dumps(values) == rfc8785.dumps(values)
    for value in values:
        assert canonical.dumps(value) == rfc8785.dumps(value)
        assert canonical.loads(canonical.dumps(value)) == value or abs(value) > 2**53


@settings(max_examples=scaled(3))
@given(documents(PLAIN | BIG_INTS))
def test_big_integers_are_written_in_full(value: object) -> None:
    """rfc8785 refuses them; it is asked for a mark in their place."""

    def marked(value: object) -> object:
        if isinstance(value, dict):
            return {key: marked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [marked(item) for item in value]
        if type(value) is int and abs(value) >= 2**53:
            return f"<integer {value}>"
        return value

    expected = re.sub(rb'"<integer (-?[0-9]+)>"', rb"\1", rfc8785.dumps(marked(value)))
    assert canonical.dumps(value) == expected
    assert canonical.loads(expected) == value


@pytest.mark.parametrize("n", [2**53 - 1, 2**53, 2**64, 10**21, 10**4299], ids=int.bit_length)
def test_no_two_integers_share_bytes(n: int) -> None:
    for value in (n, -n, [n], {"a": [1.0, n]}):
        assert canonical.loads(canonical.dumps(value)) == value
    assert canonical.dumps(n) != canonical.dumps(n + 1)
    assert canonical.dumps(n) != canonical.dumps(n - 1)


@settings(max_examples=scaled(2))
@given(documents(PLAIN | FLOATS | NEAR | BIG_INTS))
def test_reading_and_writing_again_changes_nothing(value: object) -> None:
    written = canonical.dumps(value)
    assert canonical.dumps(canonical.loads(written)) == written


def test_one_and_one_point_oh_are_one_and_the_others_are_not() -> None:
    assert canonical.dumps(1) == canonical.dumps(1.0)
    assert len({canonical.dumps(v) for v in (1, "1", True, [1], None, "true", "null")}) == 7
    assert canonical.dumps(-0.0) == b"0"


class Colour(enum.Enum):
    RED = "red"


class Name(str):
    __slots__ = ()


class Level(enum.IntEnum):
    HIGH = 1


HOLDS_ITSELF: list[object] = [0]
HOLDS_ITSELF.extend([HOLDS_ITSELF, HOLDS_ITSELF])


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        ({"a": [0, 0, 0, {1}]}, "$.a[3]", "set"),
        ([1, (2,)], "$[1]", "tuple"),
        (Colour.RED, "$", "Colour"),
        ([Name("a")], "$[0]", "Name"),
        ({"a b": {"c": Level.HIGH}}, '$["a b"].c', "Level"),
        ({"a": {Name("k"): 1}}, "$.a", "Name"),
        ({1: 2}, "$", "int"),
        ([{None: 2}], "$[0]", "NoneType"),
        ({"a": b"x"}, "$.a", "bytes"),
        ([object()], "$[0]", "object"),
        ([1.5, math.nan], "$[1]", "nan"),
        ({"a": -math.inf}, "$.a", "-inf"),
        (["\ud800"], "$[0]", "surrogate"),
        ({"\udfff": 0}, '$["\\udfff"]', "surrogate"),
        (HOLDS_ITSELF, "$[1]", "holds itself"),
    ],
    ids=lambda value: ascii(value).partition(" at 0x")[0],  # the same in every process
)
def test_what_json_cannot_hold_is_refused_with_its_place(
    value: object, where: str, what: str
) -> None:
    with pytest.raises(ValueNotJsonError) as caught:
        canonical.dumps(value)
    assert caught.value.where == where
    assert str(caught.value).startswith(f"{where}: ")
    assert what in str(caught.value)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("kind", [list, dict])
def test_deep_values(kind: type) -> None:
    def nested(levels: int) -> object:
        value: object = 0
        for _ in range(levels):
            value = [value] if kind is list else {"a": value}
        return value

    for levels in (253, 254, 255, 256, canonical.MAX_DEPTH):
        value = nested(levels)
        assert canonical.loads(canonical.dumps(value)) == value
    for levels in (canonical.MAX_DEPTH + 1, sys.getrecursionlimit() * 20):
        with pytest.raises(ValueNotJsonError, match="deeper than 500"):
            canonical.dumps(nested(levels))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1,]",
        b"NaN",
        b"[-Infinity]",
        b"1e400",
        b"-1e400",
        b'{"a":1,"b":{"a":1,"a":1}}',
        b'{"a":1,"\\u0061":1}',
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b'["\\ude02\\ud83d"]',
        b'"\t"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        b"01",
        b"[" * 100_000,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_not_json_or_is_read_in_two_ways_is_refused(text: bytes) -> None:
    with pytest.raises(ValueNotJsonError):
        canonical.loads(text)


def test_pairs_of_surrogate_escapes_are_read() -> None:
    assert canonical.loads(b'"\\ud83d\\ude02"') == "\U0001f602"
