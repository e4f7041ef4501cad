"""Node paths: one text for each path, one path for each text, and nothing but that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstore import canonical, paths
from runstore.errors import PathError, ValueNotJsonError
from runstore.paths import NodePath, Segment
from tests.exploration import scaled

GRAMMAR = "%/[]:@#+*?"
ODD = GRAMMAR + 'a1"\\{}, \x00\n\x1f\x7f\x80\x9f\xa0éß\u0301\ue000\U0001f602'
NAMES = st.text(st.sampled_from(ODD), min_size=1, max_size=6) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8
)
ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Strings full of what ends an item, were it not in a string.
    | st.text(st.sampled_from('/]["\\#1:@,{}'), max_size=8)
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=4,
)
SEGMENTS = st.one_of(
    st.builds(Segment, NAMES),
    st.builds(Segment.for_item, NAMES, ITEMS, st.integers(1, 12)),
    st.builds(lambda name, branch: Segment(name, branch=branch), NAMES, NAMES),
    st.builds(lambda name, i: Segment(name, iteration=i), NAMES, st.integers(0, 10**6)),
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: NodePath(tuple(parts)))


@settings(max_examples=scaled(5))
@given(PATHS)
def test_a_text_and_its_path(path: NodePath) -> None:
    text = str(path)
    assert NodePath.parse(text) == path
    assert paths.segments(text) == [str(segment) for segment in path.segments]
    expected = "/".join(
        str(Segment(segment.name, branch=segment.branch)) for segment in path.segments
    )
    assert path.template == paths.template(text) == expected
    assert paths.template(expected) == expected
    assert path.name == path.segments[-1].name


@settings(max_examples=scaled(5))
@given(PATHS, PATHS)
def test_two_paths_have_two_texts(one: NodePath, other: NodePath) -> None:
    assert (one == other) == (str(one) == str(other))


@settings(max_examples=scaled(5))
@given(st.text(st.sampled_from('ab/[]:@#%+*?"\\012{}, \x00AF4'), max_size=12))
def test_what_is_parsed_is_what_str_writes(text: str) -> None:
    try:
        path = NodePath.parse(text)
    except PathError as error:
        refused = error
    else:
        assert str(path) == text
        return
    assert 0 <= refused.position <= len(text)
    assert repr(text) in str(refused)


@given(NAMES)
def test_an_escaped_name_holds_nothing_of_the_grammar(name: str) -> None:
    escaped = paths.escape(name)
    assert not set(escaped.replace("%", "")) & set(GRAMMAR)
    assert all(0x20 <= ord(c) < 0x7F or ord(c) > 0x9F for c in escaped)
    assert NodePath.parse(escaped) == NodePath((Segment(name),))


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("score", "score"),
        ("a b", "a b"),
        ("%/[]:@#+*?", "%25%2F%5B%5D%3A%40%23%2B%2A%3F"),
        ("\x00\x1f\x7f\x80\x9f\xa0", "%00%1F%7F%C2%80%C2%9F\xa0"),
        ('say "é"', 'say "é"'),
    ],
)
def test_escapes(name: str, escaped: str) -> None:
    assert paths.escape(name) == escaped


@pytest.mark.parametrize(
    ("text", "segments", "template"),
    [
        ("a", ["a"], "a"),
        ("mp/m1", ["mp", "m1"], "mp/m1"),
        ('scan["eu"]/score', ['scan["eu"]', "score"], "scan/score"),
        ('scan["eu"#2]/score', ['scan["eu"#2]', "score"], "scan/score"),
        ("c:heads/h1", ["c:heads", "h1"], "c:heads/h1"),
        ("refine@12/step", ["refine@12", "step"], "refine/step"),
        ('m["http://x/]"]/n@0/k', ['m["http://x/]"]', "n@0", "k"], "m/n/k"),
        ('m[[[1,"]/"],{"a@/":"\\"/"}]]/c:b/x', None, "m/c:b/x"),
        ('say "a/b"/c', ['say "a', 'b"', "c"], 'say "a/b"/c'),
        ("m[{}]/x", ["m[{}]", "x"], "m/x"),
    ],
)
def test_segments_and_templates(text: str, segments: list[str] | None, template: str) -> None:
    path = NodePath.parse(text)
    assert str(path) == text
    assert paths.segments(text) == (segments or [str(s) for s in path.segments])
    assert paths.template(text) == path.template == template


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("/a", 0),
        ("a/", 2),
        ("a//b", 2),
        (":b", 0),
        ("a:", 2),
        ("a@", 2),
        # What is written otherwise.
        ("a%2f", 3),
        ("b/a%41", 3),
        ("a%", 2),
        ("a%C3%A9", 1),
        ("a%FF", 0),
        ("a*", 1),
        ("x/y\x85", 3),
        ("a]", 1),
        ("a+", 1),
        ("b#2", 1),
        ("a[1.0]", 2),
        ("a[ 1]", 2),
        ('a[{"b":1,"a":2}]', 2),
        ('a["\\u0041"]', 2),
        ("a[1e2]", 2),
        ("a[-0]", 2),
        ("a[1#1]", 4),
        ("a[1#02]", 4),
        ("a[1#]", 4),
        ("a[1#²]", 4),
        ("a@01", 2),
        ("a@-1", 2),
        ("a@+1", 2),
        ("a@１", 2),
        (f"a@{'9' * 5000}", 2),
        # What is no item.
        ("a[]", 2),
        ("a[nan]", 2),
        ("a[1", 3),
        ("a[1]]", 2),
        ('a["x', 2),
        ('b/a["x/', 4),
        ('a["\\"]', 2),
        ("a[#2]", 2),
        ('a[{"a":1,"a":2}]', 2),
        # One qualifier at most.
        ("a[1]x", 5),
        ("a[1]:b", 6),
        ("a[1]@2", 6),
        ("a@1@2", 2),
        ("a:b@1", 3),
        ("a:b:c", 3),
        # Not text that can be encoded.
        ("a/\ud800", 2),
        ('a["\ud800"]', 2),
        (f"a[{'[' * 50_000}{']' * 50_000}]", 2),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_what_is_refused(text: str, position: int) -> None:
    with pytest.raises(PathError) as caught:
        NodePath.parse(text)
    assert caught.value.position == position
    assert caught.value.text == text
    assert f"at position {position}" in str(caught.value)
    str(caught.value).encode("utf-8")
    assert len(str(caught.value)) < 1000


def test_items_are_told_apart_by_canonical_json() -> None:
    values = [1, "1", True, None, "null", [1], {"a": 1}, 2**64, 2**64 + 1]
    assert len({str(Segment.for_item("m", value)) for value in values}) == len(values)
    assert Segment.for_item("m", 1) == Segment.for_item("m", 1.0)
    assert str(Segment.for_item("m", {"b": 1.0, "a": 2**64})) == (
        'm[{"a":18446744073709551616,"b":1}]'
    )
    with pytest.raises(ValueNotJsonError):
        Segment.for_item("m", {1})


@pytest.mark.parametrize(
    "make",
    [
        lambda: NodePath(()),
        lambda: Segment(""),
        lambda: Segment("\udc00"),
        lambda: Segment("a", branch=""),
        lambda: Segment("a", item="1.0"),
        lambda: Segment("a", item="1", branch="b"),
        lambda: Segment("a", item="1", k=0),
        lambda: Segment("a", k=2),
        lambda: Segment("a", iteration=-1),
        lambda: Segment("a", branch="b", iteration=1),
        lambda: paths.segments('a["x'),
    ],
)
def test_values_are_never_wrong(make: Callable[[], object]) -> None:
    with pytest.raises(PathError):
        make()


@pytest.mark.parametrize("unit", ['/\\"', '/"', "[", "]/", '","', "\\\\", "é%"])
def test_the_longest_texts_end(unit: str) -> None:
    # The square of this would take hours.
    item = unit * 200_000
    text = str(NodePath((Segment.for_item("m", item, 2), Segment("x"))))
    assert NodePath.parse(text).segments[0].item == canonical.dumps(item).decode()
    assert paths.template(text) == "m/x"
    assert len(paths.segments(text)) == 2
    for broken in (text[:-4], f'm["{item}', f"m[{item}"):
        paths.template(broken)
        with pytest.raises(PathError):
            NodePath.parse(broken)


@pytest.mark.parametrize("run_id", ["a/b", "..", "A", "a", "é", "e\u0301", " ", "CON", "x" * 1000])
def test_run_ids(run_id: str) -> None:
    assert paths.check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    ("run_id", "message"),
    [
        ("", "empty"),
        ("x" * 1001, "1000 at most"),
        ("a\nb", "U\\+000A at position 1"),
        ("a\x7f", "U\\+007F"),
        ("\x85", "U\\+0085"),
        ("a\ud800", "surrogate at position 1"),
        (7, "pass a str"),
    ],
    ids=ascii,
)
def test_what_cannot_be_a_run_id(run_id: str, message: str) -> None:
    with pytest.raises(PathError, match=message) as caught:
        paths.check_run_id(run_id)
    str(caught.value).encode("utf-8")


def test_names() -> None:
    for name in ("a", "a/b", "\x00", "\U0001f602", "..", " "):
        assert paths.check_name(name) == name
    for wrong in ("", "a\udfff", None):
        with pytest.raises(PathError):
            paths.check_name(wrong)  # type: ignore[arg-type]
