"""Design, section 10: a node sees the nearest upstream's artifact of a name, then those of the
enclosing scopes. Against a judge that looks at every node that saved the name, one by one."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest

from runstore.dag import Dag
from runstore.plan import Planner
from runstore.plan.ancestry import Ancestry
from tests.planning.build import Run, blob, cond, dag, loop, mp, par, t

NAMES = ("f", "g", "h")


def graph(choose: random.Random, depth: int, count: list[int]) -> list[dict[str, Any]]:
    """Nodes of one graph; what they are named tells the order in which they may follow."""
    nodes: list[dict[str, Any]] = []
    for _ in range(choose.randint(2, 5)):
        count[0] += 1
        name = f"n{count[0]}"
        ups = choose.sample(
            [n["name"] for n in nodes], min(len(nodes), choose.choice([0, 1, 1, 2]))
        )
        kind = choose.choice(["task"] * 4 + ["map", "par", "cond", "loop"] * (depth < 2))
        after = " ".join(ups)
        if kind == "task":
            nodes.append(t(name, after))
            continue
        inside = graph(choose, depth + 1, count)
        if kind == "map":
            nodes.append(mp(name, "xs", f"x{name}", *inside, after=after))
        elif kind == "par":
            other = graph(choose, depth + 1, count)
            nodes.append(par(name, after, branches={"l": inside, "r": other}))
        elif kind == "cond":
            nodes.append(cond(name, "one", after, branches={"1": inside}))
        else:
            inside.append(t(f"{name}end", inside[-1]["name"], f"i{name}", f"d{name}"))
            nodes.append(loop(name, f"d{name}", *inside, after=after, **{"as": f"i{name}"}))
    return nodes


def follows(graph: Dag, name: str) -> set[str]:
    found: set[str] = set()
    stack = [name]
    while stack:
        for up in graph.nodes[graph.wiring.index[stack.pop()]].after:
            if up not in found:
                found.add(up)
                stack.append(up)
    return found


Seen = dict[str, set[str]]
"""Address -> the one that is seen, or several of which none follows the others."""


class Judge:
    """The rules as they are said, by looking at all: nothing is kept, nothing is quick."""

    def __init__(self, dag: Dag, saves: dict[str, list[str]]) -> None:
        self.saves = saves
        self.sees: dict[str, Seen] = {}
        self.graph(dag, "", [])

    def nearest(self, graph: Dag, made: dict[str, Seen], names: set[str]) -> Seen:
        """What is in sight after these nodes: of each address the last, unless two are."""
        seen: Seen = {}
        for address in {address for name in names for address in made[name]}:
            who = [name for name in names if address in made[name]]
            last = [n for n in who if not any(n in follows(graph, o) for o in who)]
            seen[address] = set().union(*(made[name][address] for name in last))
        return seen

    def graph(self, graph: Dag, prefix: str, around: list[Seen]) -> Seen:
        made: dict[str, Seen] = {}
        for i in graph.wiring.order:
            node = graph.nodes[i]
            path = prefix + node.name
            own = self.nearest(graph, made, follows(graph, node.name))
            sight = [own, *around]
            if node.kind == "task":
                merged: Seen = {}
                for level in reversed(sight):
                    merged |= level
                self.sees[path] = merged
                made[node.name] = {name: {path} for name in self.saves.get(path, ())}
            elif node.kind == "map":
                made[node.name] = {}
                for item in (1, 2):
                    body = f"{path}[{item}]/"
                    for address, who in self.graph(node.body, body, sight).items():
                        full = address if address.startswith(body) else body + address
                        made[node.name][full] = who
            elif node.kind == "loop":
                earlier: Seen = {}
                for turn in range(2):
                    made_here = self.graph(node.body, f"{path}@{turn}/", [dict(earlier), *sight])
                    earlier |= made_here
                made[node.name] = earlier
            else:
                both: Seen = {}
                for branch, body_ in node.bodies.items():
                    for address, who in self.graph(body_, f"{path}:{branch}/", sight).items():
                        both[address] = both.get(address, set()) | who
                made[node.name] = both
        return self.nearest(graph, made, set(made))


@pytest.mark.parametrize("seed", range(60))
def test_what_is_in_sight(seed: int) -> None:
    choose = random.Random(seed)
    nodes = graph(choose, 0, [0])
    sim = Run(*nodes, xs=[1, 2], one=1)
    planner = Planner(sim.dag)
    invocation = sim.invoke()
    saves: dict[str, list[str]] = {}
    seen: dict[str, dict[str, str]] = {}
    while ready := planner.plan(sim.history, invocation).ready:
        step = choose.choice(ready)
        assert step.work is not None
        sight = step.work.artifacts()
        listed = dict(sight)
        assert len(sight) == len(listed)
        assert pickle.loads(pickle.dumps(sight)) == listed
        assert all(sight.get(address) == entry for address, entry in listed.items())
        assert sight.get("no/such") is None
        for address, (saved, source) in listed.items():
            assert source == "?" or saved == blob(source + address.rpartition("/")[2])
        seen[step.path] = {address: entry[1] for address, entry in listed.items()}
        saves[step.path] = choose.sample(NAMES, choose.choice([0, 0, 1, 2]))
        sim.save[step.path] = {name: step.path + name for name in saves[step.path]}
        for name in step.work.task.returns:
            sim.give[step.path] = {name: step.path.rpartition("/")[0].endswith("@1")}
        sim.finish(step, sim.begin(step, invocation))
    assert planner.plan(sim.history, invocation).status == "succeeded"
    judge = Judge(sim.dag, saves)
    assert seen.keys() == judge.sees.keys()
    for path, right in judge.sees.items():
        want = {a: next(iter(who)) if len(who) == 1 else "?" for a, who in right.items()}
        assert seen[path] == want, path


@pytest.mark.parametrize("seed", range(20))
def test_who_follows_whom(seed: int) -> None:
    choose = random.Random(seed)
    size = choose.randint(1, 40)
    names = [f"n{i}" for i in range(size)]
    nodes = [
        t(name, " ".join(choose.sample(names[:i], min(i, choose.choice([0, 1, 1, 2, 3])))))
        for i, name in enumerate(names)
    ]
    choose.shuffle(nodes)
    graph = dag(*nodes)
    wiring = graph.wiring
    ancestry = Ancestry(wiring.order, wiring.after, wiring.before)
    for _ in range(2):  # searches are kept: ask twice
        for one in choose.sample(range(size), size):
            right = {wiring.index[name] for name in follows(graph, graph.nodes[one].name)}
            assert {up for up in range(size) if ancestry.follows(one, up)} == right
