"""Design, section 3: what is no DAG is refused when it is built, naming the nodes."""

from __future__ import annotations

import copy
import json
import os
import pickle
from enum import StrEnum
from typing import Any

import pytest
from msgspec.structs import replace

from runstore.canonical import dumps
from runstore.dag import AnyNode, Conditional, Dag, Loop, Map, Parallel, Task, walk
from runstore.errors import DagError
from tests.planning.build import cond, g, loop, mp, par, t

HALF = "\ud800"

WRONG: list[tuple[str, Any, tuple[str, ...]]] = [
    ("cycle of one", g(t("a", "a")), ("cycle", "a")),
    ("cycle of three", g(t("a", "c"), t("b", "a"), t("c", "b")), ("a", "b", "c")),
    ("cycle in a body", g(par("p", branches={"l": [t("a", "b"), t("b", "a")]})), ("a", "b")),
    ("unknown upstream", g(t("a", "zz")), ("a", "zz")),
    ("upstream outside the graph", g(t("a"), mp("m", "x", "i", t("b", "a"))), ("b", "a")),
    ("duplicate", g(t("a"), t("a")), ("a",)),
    ("case twins", g(t("a"), t("A")), ("a", "A")),
    ("NFC and NFD", g(t("\u00e9"), t("e\u0301")), ("\u00e9",)),
    ("NFKC", g(t("\ufb01"), t("fi")), ("fi",)),
    ("sharp s", g(t("stra\u00dfe"), t("STRASSE")), ("STRASSE",)),
    ("branch twins", g(par("p", branches={"l": [], "L": []})), ("l", "L", "p")),
    ("empty name", g(t("")), ("empty",)),
    ("empty branch", g(par("p", branches={"": []})), ("p", "empty")),
    ("empty parameter", g({**t("a"), "params": [""]}), ("a", "empty")),
    ("empty return", g({**t("a"), "returns": [""]}), ("a", "empty")),
    ("empty upstream", g({**t("a"), "after": [""]}), ("a", "empty")),
    ("empty over", g(mp("m", "", "i")), ("m", "over", "empty")),
    ("empty as", g(mp("m", "xs", "")), ("m", "as", "empty")),
    ("empty on", g(cond("c", "", branches={"a": []})), ("c", "on", "empty")),
    ("empty until", g(loop("l", "", t("a"))), ("l", "until", "empty")),
    ("half a surrogate", g(t("a" + HALF)), ("surrogate",)),
    ("half a surrogate in a parameter", g(t("a", "", "x" + HALF)), ("a", "surrogate")),
    ("parameter twice", g(t("a", "", "x x")), ("a", "x")),
    ("return twice", g(t("a", "", "", "x x")), ("a", "x")),
    ("upstream twice", g(t("a"), t("b", "a a")), ("b", "a")),
    ("no branches", g(cond("c", "x", branches={})), ("c",)),
    ("default that names none", g(cond("c", "x", branches={"a": []}, default="b")), ("c", "b")),
    ("handles without one_failed", g(t("a"), t("h", "a", handles=True)), ("h", "one_failed")),
    ("handles all_done", g(t("a"), t("h", "a", handles=True, trigger="all_done")), ("h",)),
    ("one_success of nothing", g(t("a", trigger="one_success")), ("a", "one_success", "after")),
    ("one_failed of nothing", g(t("a"), t("b", trigger="one_failed")), ("b", "one_failed")),
    ("a handler of nothing", g(t("h", trigger="one_failed", handles=True)), ("h", "after")),
    ("one_failed of nothing in a body",
     g(t("a"), mp("m", "xs", "x", t("b", trigger="one_failed"), after="a")), ("b", "one_failed")),
    ("a composite that waits for nothing", g(par("p", branches={}, trigger="one_success")), ("p",)),
    ("the name of the item", g(mp("m", "xs", "x", t("a", gives="x"))), ("m/a", "m", "x", "item")),
    ("the name of the iteration",
     g(loop("l", "d", t("a", gives="d i"), **{"as": "i"})), ("l/a", "l", "i", "iteration")),
    ("the name of the iteration is its until",
     g(loop("l", "d", t("a", gives="d"), **{"as": "d"})), ("l/a", "l", "d")),
    ("the name of the item, deep inside",
     g(mp("m", "xs", "x", par("p", branches={"b": [loop("l", "d", t("a", gives="d x"))]}))),
     ("m/p:b/l/a", "m", "x")),
    ("the name of the item, by two nodes",
     g(mp("m", "xs", "x", t("a", gives="x"), t("b", gives="x"))), ("m/a", "x")),
    ("an as that hides one", g(mp("m", "xs", "x", mp("n", "ys", "x"))), ("m/n", "m", "x", "as")),
    ("an as of a loop that hides one, deep inside",
     g(mp("m", "xs", "x", cond("c", "v", branches={
         "y": [par("p", branches={"b": [loop("l", "d", t("a", gives="d"), **{"as": "x"})]})]}))),
     ("m/c:y/p:b/l", "m", "x")),
    ("until that nothing returns", g(loop("l", "d", t("a"))), ("l", "d")),
    ("two branches return it",
     g(par("p", branches={"l": [t("a", "", "", "x")], "r": [t("b", "", "", "x")]})), ("p", "x")),
    ("ambiguous", g(t("a", gives="x"), t("b", gives="x"), t("c", "a b", "x")), ("a", "b", "c")),
    ("ambiguous in a body", g(mp("m", "xs", "i", t("a", gives="x"), t("b", gives="x")),
                             t("c", "m", "x")), ("m/a", "m/b", "c", "x")),
    ("unknown trigger", g(t("a", trigger="none_failed")), ("a", "trigger")),
    ("unknown kind", g({"name": "a", "kind": "sensor"}), ("a", "sensor", "task")),
    ("no kind", g({"name": "a"}), ("a", "None")),
    ("a kind that is no text", g({"name": "a", "kind": ["task"]}), ("a",)),
    ("misspelt field", g(t("a", retrun=["x"])), ("a", "retrun")),
    ("misspelt field of a body", g({**mp("m", "x", "i"), "body": {"nodes": [], "node": []}}),
     ("m", "node")),
    ("misspelt field of the document", {"nodes": [], "noodles": []}, ("noodles",)),
    ("field of another kind", g(t("a", over="xs")), ("a", "over")),
    ("map without body", g({"name": "m", "kind": "map", "over": "x", "as": "i"}), ("m", "body")),
    ("map without as", g({"name": "m", "kind": "map", "over": "x", "body": g()}), ("m", "as")),
    ("body that is no graph", g({**mp("m", "x", "i"), "body": [1]}), ("m", "nodes")),
    ("branches that are a list", g({**par("p", branches={}), "branches": [1]}), ("p", "branches")),
    ("no limit", g(loop("l", "d", t("a", gives="d"), max_iterations=0)), ("l", "max_iterations")),
    ("a limit that is true", g(loop("l", "d", t("a", gives="d"), max_iterations=True)), ("l",)),
    ("name that is a number", g({**t("a"), "name": 3}), ("3",)),
    ("after that is a text", g({**t("b"), "after": "a"}), ("b", "after")),
    ("a node that is no object", g(), ()),
    ("a document that is a list", [], ("document",)),
    ("nodes that is an object", {"nodes": {}}, ("document",)),
    ("nothing", None, ("document",)),
]  # fmt: skip
WRONG[[w[0] for w in WRONG].index("a node that is no object")] = (
    "a node that is no object", {"nodes": ["a"]}, ("'a'",),
)  # fmt: skip


@pytest.mark.parametrize(("document", "names"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_refused(document: Any, names: tuple[str, ...]) -> None:
    with pytest.raises(DagError) as caught:
        Dag.from_json(document)
    for name in names:
        assert name in str(caught.value)


def test_a_parameter_nobody_provides_when_those_of_the_run_are_known() -> None:
    dag = Dag.from_json(g(par("p", branches={"l": [t("a", reads="x")]}), t("b", reads="y")))
    dag.check(["x", "y"])
    with pytest.raises(DagError, match="'b' reads 'y'") as caught:
        dag.check(["x"])
    assert caught.value.nodes == ("b",)
    with pytest.raises(DagError, match="p:l/a"):
        dag.check(["y"])


def test_deciding_values_are_parameters_too() -> None:
    for node in (mp("m", "x", "i"), cond("c", "x", branches={"a": []})):
        with pytest.raises(DagError, match="'x'"):
            Dag.from_json(g(node)).check([])


def test_built_in_python_the_errors_are_the_same() -> None:
    with pytest.raises(DagError, match="two nodes"):
        Dag([Task(name="a"), Task(name="a")])
    with pytest.raises(DagError, match="handles"):
        Task(name="a", handles=True) and Dag([Task(name="a", handles=True)])
    with pytest.raises(DagError, match="retruns"):
        Task(name="a", retruns=("x",))  # type: ignore[call-arg]
    with pytest.raises(DagError, match="cycle"):
        Map(name="m", over="x", as_="i", body=Dag([Task(name="a", after=("a",))]))
    with pytest.raises(DagError):
        Map(name="m", over="x", as_="i", body={"nodes": [t("a", "zz")]})


def test_the_same_as_beside_one_another_hides_nothing() -> None:
    each = mp("m", "xs", "x", t("a", reads="x"))
    Dag.from_json(g(each, {**each, "name": "n", "after": ["m"]}, t("b", "n", gives="x")))


def test_a_single_name_is_a_name_for_every_kind() -> None:
    one, first = Dag([Task(name="t", returns="done")]), Task(name="first")
    nodes: list[AnyNode] = [
        Task(name="a", after="first", params="pa", returns="ra"),
        Map(name="b", after="first", over="xs", as_="x", body=one),
        Conditional(name="c", after="first", on="v", branches={"y": one}),
        Parallel(name="d", after="first", branches={"y": one}),
        Loop(name="e", after="first", until="done", body=one),
    ]
    assert [node.after for node in nodes] == [("first",)] * 5
    assert isinstance(task := nodes[0], Task)
    assert (task.params, task.returns) == (("pa",), ("ra",))
    assert Dag([first, *nodes]).to_json()["nodes"][1]["after"] == ["first"]


@pytest.mark.parametrize("field", ["after", "params", "returns"])
@pytest.mark.parametrize("unknown", ["refuse", "ignore"])
def test_a_document_has_lists_of_names(field: str, unknown: Any) -> None:
    wrong = g(t("a"), par("p", branches={"l": [{**t("b"), field: "a"}]}))
    with pytest.raises(DagError, match=f"p/b.*{field}.*a list of names"):
        Dag.from_json(wrong, unknown=unknown)


def test_a_dag_is_a_value() -> None:
    one = Dag([Task(name="a"), Task(name="b", after=("a",))])
    assert one == Dag.from_json(one.to_json())
    with pytest.raises(AttributeError, match="immutable"):
        one.nodes = ()  # type: ignore[misc]


def test_records_of_a_later_version_may_hold_fields_we_do_not_know() -> None:
    document = {**g({**mp("m", "x", "i", t("a", novel=1)), "novel": 1}), "novel": 1}
    document["nodes"][0]["body"]["novel"] = 1
    with pytest.raises(DagError, match="novel"):
        Dag.from_json(document)
    assert Dag.from_json(document, unknown="ignore") == Dag.from_json(g(mp("m", "x", "i", t("a"))))


def test_every_kind_goes_through_json_and_back() -> None:
    inner = Dag([Task(name="a", returns=("d",), config={"image": "x"})])
    dag = Dag([
        Map(name="m", over="xs", as_="x", body=inner),
        Conditional(name="c", on="v", branches={"yes": inner}, default="yes"),
        Parallel(name="p", branches={"l": inner}),
        Loop(name="l", until="d", as_="i", body=inner, max_iterations=7),
        Task(name="h", after=("m",), trigger="one_failed", handles=True, type="shell"),
    ])  # fmt: skip
    assert Dag.from_json(dag.to_json()) == dag


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"handles": "yes"}, "handles"),
        ({"after": 3}, "after"),
        ({"after": [3]}, "after"),
        ({"config": []}, "config"),
        ({"trigger": "none_failed"}, "all_success, one_success, one_failed, all_done"),
        ({"type": None}, "type"),
        ({"returns": {"a": 1}}, "returns"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_in_python_and_in_a_document(given: Any, said: str):
    wrong = {"name": "odd", "kind": "task", **given}
    for build in (lambda: Task(**wrong), lambda: Dag.from_json({"nodes": [wrong]})):
        with pytest.raises(DagError, match=r"node 'odd' \(task\): ") as caught:
            build()
        assert said in str(caught.value)
        assert caught.value.nodes == ("odd",)


def test_no_document_gives_a_task_its_function() -> None:
    wrong = g({**t("a"), "_function": "os.system"})
    for body in (wrong, g(mp("m", "x", "i", wrong["nodes"][0]))):
        with pytest.raises(DagError, match="'_function' is no field"):
            Dag.from_json(body)
        with pytest.raises(DagError, match="'_function' is no field"):
            Map(name="m", over="x", as_="i", body=body)  # type: ignore[arg-type]
        dag = Dag.from_json(body, unknown="ignore")
        assert all(getattr(node, "_function", None) is None for _, node in walk(dag))


def test_what_is_no_node_is_refused() -> None:
    with pytest.raises(DagError, match=r"3, which is no Task.*Dag\.from_json"):
        Dag([3])


def test_a_dag_is_pickled_and_copied_with_its_functions() -> None:
    work = replace(Task(name="a", params="x"), _function=os.getcwd)
    inner = Dag([Task(name="b", params=["item"])])
    dag = Dag([work, Map(name="m", after="a", over="xs", as_="item", body=inner)])
    for same in (pickle.loads(pickle.dumps(dag)), copy.copy(dag), copy.deepcopy(dag)):
        assert same == dag
        assert same.wiring == dag.wiring
        assert same.nodes[0]._function is os.getcwd


class Word(StrEnum):
    NAME = "a"
    READS = "x"
    BRANCH = "b"
    TRIGGER = "all_done"


def test_members_of_an_enum_are_the_texts_they_are() -> None:
    dag = Dag([
        Task(name=Word.NAME, params=[Word.READS], returns=Word.BRANCH, trigger=Word.TRIGGER),
        Conditional(name="c", on=Word.READS, branches={Word.BRANCH: Dag()}, default=Word.BRANCH),
    ])  # fmt: skip
    assert dag == Dag.from_json(json.loads(dumps(dag.to_json())))
