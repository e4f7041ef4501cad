"""A pipeline with all five kinds, nested, a handler and an ``all_done`` step. It notes each step
that begins, and fails at those that it is told to."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from runstore import Conditional, Dag, Loop, Map, Parallel, task

HERE = Path(os.environ.get("SCENARIO", "."))


def at(step):
    with open(HERE / "log", "a") as log:
        log.write(step + "\n")
    told = HERE / "told"
    what = json.loads(told.read_text()).get(step) if told.exists() else None
    if what == "fail":
        raise ValueError(f"{step} is broken")
    if what == "hang":
        (HERE / "hanging").touch()
        time.sleep(600)
    if what == "die":
        told.unlink()
        os.kill(os.getpid(), 9)


def first(n):
    at("first")
    return ["eu", 'us "q"', "eu"] if n == 3 else [n], "yes"


def parse(item):
    at("parse " + json.dumps(item))
    return len(json.dumps(item))


def subs(size):
    at(f"subs {size}")
    return [1, 2] if size > 6 else []  # a map in a map, and an empty one


def leaf(sub, size):
    at(f"leaf {sub} {size}")
    return sub * size


def ship(size):
    at("ship")
    return sum(size)


def left():
    at("left")
    return 1


def right(shipped):
    at("right")
    return shipped


def step(i):
    at(f"step {i}")
    return i >= 1, i


def risky():
    at("risky")
    return 5


def mend():
    at("mend")


def total(size, left_is, right_is, turns):
    at("total")
    return [sum(size), left_is, right_is, turns]


def report():
    at("report")
    return "reported"


parameters = {"n": 3}

pipeline = Dag(
    [
        task(first, returns=("items", "kind")),
        Map(
            name="each", over="items", as_="item", after=("first",),
            body=Dag([
                task(parse, returns="size"),
                task(subs, after="parse", returns="subs"),
                Map(name="deep", over="subs", as_="sub", after=("subs",),
                    body=Dag([task(leaf, returns="leaves")])),
            ]),
        ),
        Conditional(
            name="gate", on="kind", after=("each",),
            branches={"yes": Dag([task(ship, returns="shipped")]), "no": Dag([])},
        ),
        Parallel(
            name="both", after=("gate",),
            branches={
                "left": Dag([task(left, returns="left_is")]),
                "right": Dag([task(right, returns="right_is")]),
            },
        ),
        Loop(
            name="refine", until="done", as_="i", max_iterations=4, after=("first",),
            body=Dag([task(step, returns=("done", "turns"))]),
        ),
        task(risky, after="first", returns="risk"),
        task(mend, after="risky", trigger="one_failed", handles=True),
        task(total, after=("each", "both", "refine"), returns="total"),
        task(report, after=("total", "risky", "mend"), trigger="all_done", returns="reported"),
    ]
)  # fmt: skip
