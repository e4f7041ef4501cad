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
from runstore.paths import escape, template
from tests.exploration import SEEDS

PARAMETERS = {"v0": 0, "l0": [1, "1", 1], "c0": "yes", "d0": False}
"""What a name holds shows in its first letter: any value, a list, a choice, a truth."""

LISTS: list[Any] = [[], [1], [1, 2], ["1", 1, 1], [True, 1.0], [2, 1], {"no": "list"}]
"""What stands for a list: nothing, one twice, unlike ones that Python takes for equal, no list."""

OTHERS = ["one_success", "one_failed", "one_failed", "all_done"]


class _Maker:
    def __init__(self, seed: int, size: int) -> None:
        self.random = random.Random(seed)
        self.left = size
        # Every other DAG is full of handlers.
        self.triggers = ["all_success"] * (2 if seed % 2 else 12) + OTHERS
        self.count = 0

    def limit(self) -> int:
        """Of a loop: so low that one in some comes to it."""
        return self.random.choice((1, 2, 3))

    def fresh(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def graph(
        self, outer: set[str], depth: int, bound: set[str], *, least: int = 0
    ) -> list[dict[str, Any]]:
        """``bound``: names that an item or an iteration binds here, which no task may return."""
        choose = self.random
        nodes: list[dict[str, Any]] = []
        seen: dict[str, set[str]] = {}  # node -> names it sees when done, itself included
        for _ in range(choose.randint(least, 3) if depth else choose.choice([2, 3, 4, 5, 6, 1])):
            if self.left <= 0 and len(nodes) >= least:
                break
            self.left -= 1
            names = [node["name"] for node in nodes]
            ups = choose.sample(names, min(len(names), choose.choice([0, 1, 1, 1, 2, 3])))
            mine = set[str]().union(*(seen[up] for up in ups))
            trigger = choose.choice(self.triggers) if ups else "all_success"
            node: dict[str, Any] = {"name": self.fresh("n"), "after": ups, "trigger": trigger}
            if trigger == "one_failed" and choose.random() < 0.8:
                node["handles"] = True
            given = self.fill(node, outer | mine, mine, depth, bound)
            seen[node["name"]] = mine | given
            nodes.append(node)
        choose.shuffle(nodes)
        return nodes

    def fill(
        self, node: dict[str, Any], inside: set[str], mine: set[str], depth: int, bound: set[str]
    ) -> set[str]:
        choose, sees = self.random, sorted(inside)
        handles = "handles" in node
        kinds = ["task"] * (3 if handles else 5)
        if depth < 3:
            kinds += ["map", "conditional", "parallel", "loop"]
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
            if node["as"] in bound:
                node["as"] = self.fresh("v")
            body = self.graph(inside | {node["as"]}, depth + 1, bound | {node["as"]})
            node["body"] = {"nodes": body}
        elif kind == "loop":
            done, turn = self.fresh("d"), self.fresh("i")
            body = self.graph(inside | {turn}, depth + 1, bound | {turn}, least=1)
            if all(n.get("kind") != "task" for n in body):
                body.append({"name": self.fresh("n"), "kind": "task"})
            last = next(n for n in body if n["kind"] == "task")
            last["params"] = sorted({*last.get("params", ()), turn})
            last["returns"] = sorted({*last.get("returns", ()), done})
            if "v0" not in bound and choose.random() < 0.5:  # carried on from one to the next
                last["params"] = sorted({*last["params"], "v0"})
                last["returns"] = sorted({*last["returns"], "v0"})
            node |= {
                "until": done,
                "as": turn,
                "max_iterations": self.limit(),
                "body": {"nodes": body},
            }
        elif kind == "conditional":
            node["on"] = choose.choice([name for name in sees if name[0] == "c"])
            # A handler has something to do or nothing, as a value says.
            other = [] if handles else self.graph(inside, depth + 1, bound)
            node["branches"] = {
                "yes": {"nodes": self.graph(inside, depth + 1, bound)},
                "no": {"nodes": other},
            }
            if choose.random() < 0.5:
                node["default"] = "yes"
        else:
            node["branches"] = {
                branch: {"nodes": self.graph(inside, depth + 1, bound)}
                for branch in ("left", "r/t")[: choose.randint(1, 2)]
            }
        alone = {"after": [], "trigger": "all_success", "handles": False}
        return set(Dag.from_json({"nodes": [{**node, **alone}]}).wiring.exports)


def make(seed: int, size: int) -> Dag:
    """A valid DAG. Ambiguous attempts are thrown away: the next one follows from the seed."""
    for attempt in range(200):
        try:
            nodes = _Maker(seed + attempt * 10**7, size).graph(set(PARAMETERS), 0, set(), least=1)
            return Dag.from_json({"nodes": nodes}).check(PARAMETERS)
        except (DagError, IndexError):
            continue
    return Dag()


def dags(most: int = 12, least: int = 1) -> st.SearchStrategy[Dag]:
    """Most are as large as they may be: small ones have little to go wrong in them."""
    sizes = [most, most - 1, most, most - 2, most // 2, most // 3, 2, 1, most // 2, most]
    return st.builds(make, SEEDS, st.sampled_from([size for size in sizes if size >= least]))


def troubled(seed: int) -> Dag:
    """A few tasks that may fail, and many handlers behind them: of one another, too; tasks, and
    composites with something to do in them or nothing."""
    choose = random.Random(seed)

    def graph(most: int, letter: str) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = []
        for at in range(choose.randint(2, most)):
            names = [node["name"] for node in nodes]
            ups = choose.sample(names, min(len(names), choose.choice([0, 1, 1, 2, 2, 3])))
            node: dict[str, Any] = {"name": f"{letter}{at}", "kind": "task", "after": ups}
            nodes.append(node)
            trigger = choose.choice(["all_success", "all_success", "one_failed", *OTHERS])
            if ups and trigger != "all_success":
                node["trigger"] = trigger
            if node.get("trigger") == "one_failed" and choose.random() < 0.9:
                node["handles"] = True
            if choose.random() < (0.5 if "handles" in node else 0.25):
                inside = graph(3, f"{letter}{at}x") if len(letter) < 4 else []
                parts = {"nothing": [], "task": inside[:1], "more": inside}
                branch = choose.choice(["nothing", "task", "more", "more"])
                node["kind"] = choose.choice(["parallel", "conditional"])
                node["branches"] = {
                    "yes": {"nodes": parts[branch]},
                    "no": {"nodes": parts["nothing"]},
                }
                if node["kind"] == "conditional":
                    node["on"] = "c0"
            elif choose.random() < 0.3:
                node["returns"] = [f"v{node['name']}"]
        return nodes

    return Dag.from_json({"nodes": graph(7, "t")}).check(PARAMETERS)


def prone(dag: Dag) -> set[str]:
    """Template paths of the tasks whose failure a handler may handle."""
    found: set[str] = set()

    def look(graph: Dag, prefix: str, under: bool) -> None:
        nodes = {node.name: node for node in graph.nodes}
        handled = {up for node in graph.nodes if node.handles for up in node.after}
        while more := {up for name in handled for up in nodes[name].after} - handled:
            handled |= more
        for node in graph.nodes:
            path = prefix + escape(node.name)
            here = under or node.name in handled
            if node.kind == "task" and here:
                found.add(path)
            for branch, body in node.bodies.items():
                look(body, f"{path}:{escape(branch)}/" if branch else f"{path}/", here)

    look(dag, "", False)
    return found


def edited(dag: Dag, seed: int) -> Dag:
    """The same DAG, some of whose tasks are of another structure; the same if none can be."""
    choose = random.Random(seed)
    document = dag.to_json()
    tasks: list[dict[str, Any]] = []
    graphs = [document]
    while graphs:
        for node in graphs.pop()["nodes"]:
            if node["kind"] == "task":
                tasks.append(node)
            graphs += [node["body"]] if "body" in node else node.get("branches", {}).values()
    for node in choose.sample(tasks, min(len(tasks), 2)):
        if node.get("params") and choose.random() < 0.4:
            node["params"] = node["params"][1:]
        elif choose.random() < 0.5:
            node["returns"] = [*node.get("returns", ()), f"v{node['name']}"]
        else:
            node["type"] = "shell"
    try:
        return Dag.from_json(document).check(PARAMETERS)
    except DagError:
        return dag


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
                lists: list[Any] = [
                    [],
                    [1],
                    [1, 2],
                    ["1", 1, 1],
                    [True, 1.0],
                    [2, 1],
                    {"no": "list"},
                ]
                out[name] = lists[number(name, 7)]
            case "c":
                out[name] = ["yes", "no", "yes", "no", "neither"][number(name, 5)]
            case "d":
                # Mostly true by the second iteration; one loop of some reaches its limit.
                turn = max((v for key, v in params.items() if key[0] == "i"), default=1)
                out[name] = turn >= number(name, 4) or (turn == 1 and number(name, 9) > 0)
            case _:
                out[name] = number(name, 3)
    return out
