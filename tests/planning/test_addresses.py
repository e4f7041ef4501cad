"""An address that a scheduler passes names exactly the path that it was made of."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.canonical import dumps
from runstore.dag import Conditional, Dag, Loop, Map, Task
from runstore.errors import InputError
from runstore.paths import NodePath, Segment, percent_decode, percent_encode
from runstore.plan.address import LONGEST_ITEM, Address, to_address, to_ranges

SAFE = re.compile(r"[A-Za-z0-9._~/@:\[\]#%-]*")

AWKWARD = [
    "a", "", " ", '"', "'", "{{workflow.name}}", "{{=1+1}}", "{{", "%", "%2F", "%252F", "a/b", "~x",
    "#2", "[0]", "$HOME", "`id`", "\\", "\0", "\x07", "\x7f", "é", "e\u0301", "🇩🇪", "\u202e",
    "x" * 300,
    1, 1.5, True, None, "1", "true", "null", 2**60, [1, ["2"]], {"b": 1, "a": [None]}, {},
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
names = st.text(min_size=1, max_size=12)


def nested(outer: str, inner: str, task: str) -> Dag:
    body = Dag([Map(name=inner, over="y", as_="b", body=Dag([Task(name=task, params=("b",))]))])
    first = Task(name=f"{outer}-", returns=("x", "y"))
    return Dag([first, Map(name=outer, over="x", as_="a", after=(f"{outer}-",), body=body)])


def path_of(dag_names: tuple[str, str, str], first: object, second: object, k: int = 1) -> str:
    outer, inner, task = dag_names
    parts = (Segment.for_item(outer, first), Segment.for_item(inner, second, k), Segment(task))
    return str(NodePath(parts))


def resolved(address: str, dag: Dag, lists: dict[str, list], indices: tuple[int, ...] = ()) -> str:
    (path,) = Address.parse(address, dag, indices).resolve(lists.__getitem__)
    return path


@pytest.mark.parametrize("item", AWKWARD, ids=ascii)
def test_awkward_items_come_back(item):
    dag, own = nested("scan", "each", "do"), ("scan", "each", "do")
    path = path_of(own, item, item)
    lists = {
        "scan": AWKWARD,
        str(NodePath((*NodePath.parse(path).segments[:1], Segment("each")))): AWKWARD,
    }
    address = to_address(path)
    assert SAFE.fullmatch(address)
    assert len(address) < 2 * LONGEST_ITEM + 100
    assert resolved(address, dag, lists) == path
    if "~" not in address:
        assert percent_decode(address) == path
    # By position, too; and the plain text as it stands.
    at = next(i for i, each in enumerate(AWKWARD) if dumps(each) == dumps(item))
    assert resolved("scan/each/do", dag, lists, (at, at)) == path
    assert resolved(path, dag, {}) == path


@given(names, names, json_values, json_values, st.integers(1, 3))
def test_an_address_gives_its_path_back(outer, task, first, second, k):
    own = (outer, "each", task)
    try:
        dag = nested(*own)
    except InputError:
        return
    path = path_of(own, first, second, k)
    holder = str(NodePath((*NodePath.parse(path).segments[:1], Segment("each"))))
    lists = {str(NodePath((Segment(outer),))): [first], holder: [second] * k}
    address = to_address(path)
    assert SAFE.fullmatch(address)
    assert resolved(address, dag, lists) == path


@given(st.text())
def test_percent_encoding_is_exact_and_one_to_one(text):
    encoded = percent_encode(text)
    assert SAFE.fullmatch(encoded)
    assert percent_decode(encoded) == text
    assert percent_encode(text + "b") == encoded + "b"


@pytest.mark.parametrize("text", ["%41", "%2f", "a b", "%", "%zz", "%C3", "%2F", '"', "é"])
def test_what_no_encoder_writes_is_not_decoded(text):
    assert percent_decode(text) is None


def test_equal_items_are_told_apart_by_position():
    dag = nested("scan", "each", "do")
    lists = {"scan": ["a", "b", "a", "a"], 'scan["a"#3]/each': [0, False, 0]}
    assert resolved("scan", dag, lists, (3,)) == 'scan["a"#3]'
    assert resolved("scan/each/do", dag, lists, (3, 2)) == 'scan["a"#3]/each[0#2]/do'
    assert resolved('scan["a"#3]/each/do', dag, lists, (1,)) == 'scan["a"#3]/each[false]/do'


def test_a_map_that_ends_the_address_is_the_whole_map_or_the_item_at_a_position():
    dag = nested("scan", "each", "do")
    assert resolved("scan", dag, {}) == "scan"
    assert resolved("scan", dag, {"scan": [7]}, (0,)) == "scan[7]"


def test_two_readings_are_refused():
    dag = Dag([Task(name="a%2Fb"), Task(name="a/b")])
    assert resolved("a%2Fb", Dag([Task(name="a/b")]), {}) == "a%2Fb"
    assert resolved("a%252Fb", Dag([Task(name="a/b")]), {}) == "a%2Fb"
    with pytest.raises(InputError, match="two paths"):
        Address.parse("a%252Fb", dag)
    assert resolved(percent_encode("a%252Fb"), dag, {}) == "a%252Fb"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nope",
        "scan/",
        "/scan",
        "scan/nope",
        "scan@0",
        "scan:left",
        "do",
        "c:no/x",
        "l/x",
        "c/x",
        "scan[1",
        "one/x",
    ],
)
def test_what_names_nothing_is_refused(address):
    dag = Dag(
        [
            *nested("scan", "each", "do").nodes,
            Task(name="one", returns=("on", "done")),
            Conditional(name="c", on="on", after=("one",), branches={"yes": Dag([Task(name="x")])}),
            Loop(name="l", until="d", body=Dag([Task(name="x", returns=("d",))])),
        ]
    )  # fmt: skip
    with pytest.raises(InputError):
        Address.parse(address, dag)
    assert resolved("c:yes/x", dag, {}) == "c:yes/x"
    assert Address.parse("l@3/x", dag).template == "l/x"


@pytest.mark.parametrize("indices", [(), (1,), (0, 0, 0)])
def test_every_map_on_the_way_needs_its_position(indices):
    with pytest.raises(InputError, match="--item-index"):
        Address.parse("scan/each/do", nested("scan", "each", "do"), indices)


def test_an_item_that_is_not_in_the_list_is_refused():
    dag = nested("scan", "each", "do")
    with pytest.raises(InputError, match="position 2"):
        resolved("scan/each/do", dag, {"scan": [1, 2]}, (2, 0))
    digest = hashlib.sha256(b'"gone"').hexdigest()
    with pytest.raises(InputError, match="digest"):
        resolved(f"scan[~{digest}]", dag, {"scan": [1, 2]})


@given(st.sets(st.integers(0, 12), min_size=1))
def test_several_items_are_named_by_their_positions(positions):
    items = ["a", "b", "a", 1, "1", None, "a", [1], 1.5, "b", 2, "#2", "c"]
    dag = nested("scan", "each", "do")
    address = f"scan[@{to_ranges(sorted(positions))}]"
    assert SAFE.fullmatch(address.replace(",", ""))
    lists = {"scan": items}
    found = Address.parse(address, dag).resolve(lists.__getitem__)
    assert found == [resolved("scan", dag, lists, (at,)) for at in sorted(positions)]
    with pytest.raises(InputError, match="position 13"):
        Address.parse("scan[@13]", dag).resolve(lists.__getitem__)
