"""YAML is read as YAML 1.2's core schema: https://yaml.org/spec/1.2.2/#103-core-schema."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.errors import PipelineError
from runstore.pipeline.yaml12 import parse_yaml


def read(text: str) -> Any:
    return parse_yaml(text, "p.yaml").value


TEXTS = """
yes no on off y n Yes NO On OFF tRue nuLL nil None ~~ 12:30 12:30:45 1:2:3.4 190:20:30 2024-01-01
2001-12-14T21:59:43Z 2024-01-01T00:00:00+01:00 1_000 1,000 0b101 0o8 0o 0x 0xG -0x1F +0o7 1e 1e+
.e1 . + .. 1.2.3 ._1 --1 .Nan .INf -.nan inf nan Infinity = 10s 3.10.1 v1 1st ٣ １
"""


@pytest.mark.parametrize("text", TEXTS.split())
def test_text_stays_text(text: str) -> None:
    assert read(f"a: {text}\n") == {"a": text}
    assert read(f"[{text}]\n") == [text] or text in ("1,000",)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("Null", None), ("NULL", None), ("~", None), ("", None),
        ("true", True), ("True", True), ("TRUE", True),
        ("false", False), ("False", False), ("FALSE", False),
        ("0", 0), ("-0", 0), ("010", 10), ("-010", -10), ("+12", 12), ("08", 8), ("00", 0),
        ("0o10", 8), ("0o777", 511), ("0x1F", 31), ("0xff", 255), ("0o0", 0),
        ("1e3", 1000.0), ("1E3", 1000.0), ("1e+3", 1000.0), ("1.0", 1.0), ("1.", 1.0), (".5", 0.5),
        ("-.5", -0.5), ("+1.5e-3", 0.0015), ("012.5", 12.5), ("3.10", 3.1), ("-0.0", -0.0),
        (str(2**64), 2**64), ("9" * 4300, 10**4300 - 1), ("0" * 5000 + "1", 1),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: object) -> None:
    found = read(f"a: {text}\n")["a"]
    assert (found, type(found)) == (value, type(value))
    if isinstance(value, float):
        assert math.copysign(1, found) == math.copysign(1, value)


@pytest.mark.parametrize("quote", ["'{}'", '"{}"', "|-\n  {}", ">-\n  {}"])
def test_what_is_quoted_is_text(quote: str) -> None:
    for text in ("true", "1", "null", "1e3", "~", "<<"):
        assert read(f"a: {quote.format(text)}\n") == {"a": text}


@pytest.mark.parametrize("key", ["true", "no", "1", "010", "~", "null", "1.0", "2024-01-01", "on"])
def test_a_key_is_what_is_spelt(key: str) -> None:
    assert read(f"{key}: 1\n") == {key: 1}
    assert read(f"{{{key}: 1}}\n") == {key: 1}
    assert read(f"? {key}\n: 1\n") == {key: 1}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=50), inner),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 1]))
def test_json_is_yaml(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is there twice: in line 1"),
        ("a: 1\n'a': 2\n", 2, "'a' is there twice"),
        ("1: a\n'1': b\n", 2, "'1' is there twice"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a:\n\tb: 1\n", 2, "indented by a tab, and YAML takes spaces"),
        ("a: 1\nb: !!python/object/apply:os.system [id]\n", 2, "the tag !!python/object/apply"),
        ("a: !!binary aGk=\n", 1, "the tag !!binary is not taken"),
        ("a: !!str 1\n", 1, "the tag !!str is not taken: a text needs quotes"),
        ("a: !mine {b: 1}\n", 1, "the tag !mine"),
        ("!!str a: 1\n", 1, "the tag !!str"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "write out what it stands for"),
        ("a: 1\n? [1, 2]\n: x\n", 2, "a key is a list or an object"),
        ("a: &x b\n*x : 1\n", 2, "a key is an alias"),
        ("a: .inf\n", 1, "is no JSON"), ("a: [1,\n-.INF]\n", 2, "is no JSON"),
        ("a: .nan\n", 1, "is no JSON"),
        ("a: 1e400\n", 1, "beyond the doubles"),
        ("a: " + "9" * 4301 + "\n", 1, "an integer of 4,301 digits: 4,300 digits are kept at most"),
        ("a: 0x" + "f" * 4000 + "\n", 1, "an integer too large"),
        ("a: &x [*x]\n", 1, r"\*x stands in what it names"),
        ("a: *x\n", 1, "there is no &x before"),
        ("save: *.csv\n", 1, r"a text that begins with \* or & needs quotes"),
        ("a: 1\nb: @x\n", 2, "a text that begins with it needs quotes"),
        ("a: b: c\n", 1, "a text with a colon and a space in it needs quotes"),
        ('a: "\\ud800"\n', 1, "half of a surrogate pair"),
        ("a: 1\nb: \x07\n", 2, r"the character U\+0007"),
        ("a: 1\nb: x\u2028y\n", 2, r"the character U\+2028.*\\u2028"),
        ("a: [1\nb: 2\n", None, "is not YAML"),
        ("%YAML 1.1\n---\na: yes\n", 1, "YAML 1.1 is asked for"),
        ("[" * 501 + "]" * 501, 1, "nests deeper than 500 levels"),
        ("- " * 501 + "x\n", 1, "nests deeper than 500 levels"),
    ],
)  # fmt: skip
def test_what_hides_mistakes_is_refused_with_its_line(
    text: str, line: int | None, told: str
) -> None:
    with pytest.raises(PipelineError, match=told) as caught:
        read(text)
    assert str(caught.value).startswith(f"p.yaml, line {line}" if line else "p.yaml, line ")


def test_pythons_own_limit_of_digits_has_no_say() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        found = read(f"[{'9' * 4300}, -{'0' * 4400}1]")
    finally:
        sys.set_int_max_str_digits(before)
    assert found == [10**4300 - 1, -1]


def test_an_escape_beyond_unicode_is_refused() -> None:
    with pytest.raises(PipelineError, match="beyond Unicode"):
        read('a: "\\U00110000"\n')


def test_an_alias_is_a_copy() -> None:
    found = read("a: &x {b: [1]}\nc: *x\nd: &t text\ne: *t\nf: [*x, *x]\n")
    same = {"b": [1]}
    assert found == {"a": same, "c": same, "d": "text", "e": "text", "f": [same, same]}
    found["c"]["b"].append(2)
    assert found["a"] == same


def test_aliases_of_aliases_make_no_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(
        PipelineError, match=r"line [4-7]: its aliases stand for more than 1,000,000"
    ):
        read("\n".join(lines))
    long = "x" * 100_000
    with pytest.raises(PipelineError, match="line 2: its aliases"):
        read(f"a: &a {long}\nb: [{', '.join(['*a'] * 100)}]\n")


def test_a_document_may_say_where_it_begins_and_ends() -> None:
    assert read("%YAML 1.2\n---\na: yes\n...\n") == {"a": "yes"}
    assert read("") is None
    assert read("# nothing\n") is None
    assert read("a: 1\r\nb: |\r\n  x\r\n  y\r\n") == {"a": 1, "b": "x\ny\n"}


def test_lines_are_known_by_part() -> None:
    document = parse_yaml("a:\n  - b: 1\n    c: 2\n", "p.yaml")
    inner = document.value["a"][0]
    assert [document.line(document.value), document.line(inner)] == [1, 2]
    assert [document.line(inner, "c"), document.line(inner, "none")] == [3, 2]
