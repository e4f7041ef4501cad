"""Design, section 5; FORMAT.md, section 7.1. The vectors are frozen: two versions must agree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given

from runstore.dag import Dag, Task, structure
from tests.planning.build import dag, mp, par, t
from tests.planning.generate import dags

VECTORS = json.loads((Path(__file__).parent / "data" / "structure.json").read_bytes())


def independent(graph: dict[str, Any]) -> str:
    """FORMAT.md, read by somebody who has only json, hashlib and a JCS library."""

    def h(tag: str, value: Any) -> str:
        data = f"runstore/structure/1/{tag}\n".encode() + rfc8785.dumps(value)
        return hashlib.sha256(data).hexdigest()

    def of(graph: dict[str, Any]) -> str:
        nodes = {}
        for node in graph["nodes"]:
            own: dict[str, Any] = {}
            for key in ("name", "kind", "type", "over", "as", "on", "default", "until", "handles"):
                if node.get(key):
                    own[key] = node[key]
            if node.get("trigger", "all_success") != "all_success":
                own["trigger"] = node["trigger"]
            for key in ("after", "params", "returns"):
                if node.get(key):
                    own[key] = sorted(node[key])
            if "body" in node:
                own["body"] = of(node["body"])
            if node.get("branches"):
                own["branches"] = {name: of(body) for name, body in node["branches"].items()}
            nodes[node["name"]] = h("node", own)
        return h("dag", nodes)

    return "1:" + of(graph)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    assert structure.digest(Dag.from_json(vector["dag"])) == vector["digest"]
    assert independent(Dag.from_json(vector["dag"]).to_json()) == vector["digest"]


def test_vectors_cover_every_field() -> None:
    text = json.dumps(VECTORS)
    fields = (
        "name kind type after trigger handles params returns over as on default until body "
        "branches config max_iterations"
    )
    assert all(f'"{field}"' in text for field in fields.split())
    assert len(VECTORS) >= 10
    assert len({vector["digest"] for vector in VECTORS}) == len(VECTORS)


@given(dags())
def test_any_dag_has_the_digest_that_the_format_says(graph: Dag) -> None:
    assert structure.digest(graph) == independent(graph.to_json())


BASE = [
    t("a", gives="x"), t("b", "a", "x", "y"), mp("m", "xs", "i", t("c"), after="b"),
    par("p", branches={"l": [t("d")], "r": []}),
]  # fmt: skip


def changed(at: int, **more: Any) -> list[Any]:
    return [{**node, **more} if i == at else node for i, node in enumerate(BASE)]


@pytest.mark.parametrize(("nodes", "lines"), [
    (changed(1, returns=["renamed"]), ['b.returns: ["y"] -> ["renamed"]']),
    (changed(1, after=[], params=[]), ['b.after: ["a"] -> nothing', 'b.params: ["x"] -> nothing']),
    (changed(1, type="shell"), ['b.type: "python" -> "shell"']),
    (changed(1, trigger="all_done"), ['b.trigger: nothing -> "all_done"']),
    (changed(2, over="ys"), ['m.over: "xs" -> "ys"']),
    (changed(2, **{"as": "j"}), ['m.as: "i" -> "j"']),
    (changed(2, body={"nodes": [t("c"), t("n", "c")]}), ["m/n: added"]),
    (changed(2, body={"nodes": []}), ["m/c: removed"]),
    (changed(2, body={"nodes": [t("c", gives="q")]}), ['m/c.returns: nothing -> ["q"]']),
    (changed(3, branches={"l": {"nodes": [t("d")]}}), ['p.branches: ["l","r"] -> ["l"]']),
    (changed(3, name="q"), ["p: removed", "p:l/d: removed", "q: added", "q:l/d: added"]),
    (changed(1, name="B", after=["a"])[:2], [
        "B: added", "b: removed", "m: removed", "m/c: removed", "p: removed", "p:l/d: removed"]),
])  # fmt: skip
def test_a_difference_is_located(nodes: list[Any], lines: list[str]) -> None:
    changes = structure.diff(dag(*BASE), dag(*nodes))
    assert [str(change) for change in changes] == lines
    assert structure.digest(dag(*BASE)) != structure.digest(dag(*nodes))


@pytest.mark.parametrize("nodes", [
    changed(1, config={"image": "x"}), list(reversed(BASE)), changed(1, handles=False),
    changed(1, trigger="all_success"),
])  # fmt: skip
def test_what_is_no_structure(nodes: list[Any]) -> None:
    assert structure.digest(dag(*BASE)) == structure.digest(dag(*nodes))
    assert structure.diff(dag(*BASE), dag(*nodes)) == []


@given(dags(6), dags(6))
def test_no_difference_if_and_only_if_the_digests_are_equal(one: Dag, other: Dag) -> None:
    assert (structure.diff(one, other) == []) == (structure.digest(one) == structure.digest(other))


def test_digests_of_two_versions_are_incomparable() -> None:
    assert structure.comparable("1:aa", "1:bb")
    assert not structure.comparable("1:aa", "2:aa")


def test_thousands_of_nodes() -> None:
    graph = Dag(
        Task(name=f"n{i}", after=(f"n{i - 1}",) if i else (), params=("x",), returns=("x",))
        for i in range(20_000)
    )
    assert structure.digest(graph) == independent(graph.to_json())
