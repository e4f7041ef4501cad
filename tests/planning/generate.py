"""Random DAGs of all kinds, valid by construction, and tasks whose returns are functions of what
they read."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from runstore.canonical import dumps
from runstore.dag import Dag
from runstore.errors import DagError
from runstore.paths import template

PARAMETERS = {"v0": 0, "l0": [1, "1", 1], "c0": "yes", "d0": False}
"""What a name holds shows in its first letter: any value, a list, a choice, a truth."""

OTHERS = ["one_success", "one_failed", "one_failed", "all_done"]


class _Maker:
    def __init__(self, seed: int, size: int) -> None:
        self.random = random.Random(seed)
        self.left = size
        # Every other DAG is full of handlers.
        self.triggers = ["all_success"] * (3 if seed % 2 else 12) + OTHERS
        self.count = 0

    def fresh(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def graph(self, outer: set[str], depth: int, *, least: int = 0) -> list[dict[str, Any]]:
        choose = self.random
        nodes: list[dict[str, Any]] = []
        seen: dict[str, set[str]] = {}  # node -> names it sees when done, itself included
        for _ in range(choose.randint(least, 5 if depth == 0 else 3)):
            if self.left <= 0 and len(nodes) >= least:
                break
            self.left -= 1
            names = [node["name"] for node in nodes]
            ups = choose.sample(names, min(len(names), choose.choice([0, 1, 1, 1, 2, 3])))
            mine = set[str]().union(*(seen[up] for up in ups))
            trigger = choose.choice(self.triggers) if ups else "all_success"
            node: dict[str, Any] = {"name": self.fresh("n"), "after": ups, "trigger": trigger}
            if trigger == "one_failed" and choose.random() < 0.7:
                node["handles"] = True
            given = self.fill(node, sorted(outer | mine), mine, outer | mine, depth)
            seen[node["name"]] = mine | given
            nodes.append(node)
        choose.shuffle(nodes)
        return nodes

    def fill(
        self, node: dict[str, Any], sees: list[str], mine: set[str], inside: set[str], depth: int
    ) -> set[str]:
        choose = self.random
        kinds = ["task"] * 5 + (["map", "conditional", "parallel", "loop"] if depth < 3 else [])
        kind = node["kind"] = choose.choice(kinds)
        if kind == "task":
            reads = [name for name in sees if choose.random() < 0.35]
            returns = [self.fresh(letter) for letter in "vlc" if choose.random() < 0.35]
            if mine and choose.random() < 0.3:
                returns.append(choose.choice(sorted(mine)))  # rebound
            node |= {"params": reads, "returns": sorted(set(returns))}
            if choose.random() < 0.1:
                node["config"] = {"cutoff": False}
            return set(returns)
        if kind == "map":
            node["over"] = choose.choice([name for name in sees if name[0] == "l"])
            node["as"] = choose.choice([self.fresh("v"), "v0"])
            body = self.graph(inside | {node["as"]}, depth + 1)
            node["body"] = {"nodes": body}
        elif kind == "loop":
            done, turn = self.fresh("d"), self.fresh("i")
            body = self.graph(inside | {turn}, depth + 1, least=1)
            if all(n.get("kind") != "task" for n in body):
                body.append({"name": self.fresh("n"), "kind": "task"})
            last = next(n for n in body if n["kind"] == "task")
            last["params"] = sorted({*last.get("params", ()), turn})
            last["returns"] = sorted({*last.get("returns", ()), done})
            if choose.random() < 0.5:  # carried from one iteration to the next
                last["params"] = sorted({*last["params"], "v0"})
                last["returns"] = sorted({*last["returns"], "v0"})
            node |= {"until": done, "as": turn, "max_iterations": 3, "body": {"nodes": body}}
        elif kind == "conditional":
            node["on"] = choose.choice([name for name in sees if name[0] == "c"])
            node["branches"] = {
                branch: {"nodes": self.graph(inside, depth + 1)} for branch in ("yes", "no")
            }
            if choose.random() < 0.5:
                node["default"] = "yes"
        else:
            node["branches"] = {
                branch: {"nodes": self.graph(inside, depth + 1)}
                for branch in ("left", "r/t")[: choose.randint(1, 2)]
            }
        return set(Dag.from_json({"nodes": [{**node, "after": []}]}).wiring.exports)


def make(seed: int, size: int) -> Dag:
    """A valid DAG. Ambiguous attempts are thrown away: the next one follows from the seed."""
    for attempt in range(200):
        try:
            nodes = _Maker(seed + attempt * 10**7, size).graph(set(PARAMETERS), 0, least=1)
            return Dag.from_json({"nodes": nodes}).check(PARAMETERS)
        except (DagError, IndexError):
            continue
    return Dag.EMPTY


def dags(most: int = 12) -> st.SearchStrategy[Dag]:
    return st.builds(make, st.integers(0, 10**6), st.integers(1, most))


def shuffled(dag: Dag, seed: int) -> Dag:
    """The same DAG, with everything declared in another order."""
    choose = random.Random(seed)

    def mix(graph: Any) -> Any:
        nodes = [dict(node) for node in graph["nodes"]]
        choose.shuffle(nodes)
        for node in nodes:
            for key in ("after", "params", "returns"):
                if key in node:
                    node[key] = choose.sample(node[key], len(node[key]))
            if "body" in node:
                node["body"] = mix(node["body"])
            if "branches" in node:
                branches = list(node["branches"].items())
                choose.shuffle(branches)
                node["branches"] = {name: mix(body) for name, body in branches}
        return {"nodes": nodes}

    return Dag.from_json(mix(dag.to_json()))


def returns(
    path: str, names: tuple[str, ...], params: Mapping[str, Any], code: int
) -> dict[str, Any]:
    """What a task gives: a function of where it stands, what it reads, and a version of its code.
    Few values are possible, so that equal ones come about."""

    def number(name: str, below: int) -> int:
        seen = dumps([template(path), name, dict(params), code])
        return int.from_bytes(hashlib.sha256(seen).digest()[:4]) % below

    out: dict[str, Any] = {}
    for name in names:
        match name[0]:
            case "l":
                out[name] = [[], [1], [1, 2], ["1", 1, 1]][number(name, 4)]
            case "c":
                out[name] = ["yes", "no", "yes", "no", "neither"][number(name, 5)]
            case "d":
                turn = max((v for key, v in params.items() if key[0] == "i"), default=1)
                out[name] = turn >= number(name, 4) or turn == 1
            case _:
                out[name] = number(name, 3)
    return out
