"""Runs with a history, for the laws: of whatever can become of a run, something."""

from __future__ import annotations

import random

from runstore.dag import Dag
from runstore.paths import template
from runstore.records import End, Start
from tests.planning.generate import edited, prone
from tests.planning.judged import Judged


def known(sim: Judged) -> list[str]:
    return [step.path for step in sim.plan().steps if step.kind == "task"]


def some(choose: random.Random, among: list[str], most: int) -> list[str]:
    return choose.sample(among, min(len(among), choose.randint(0, most)))


def lived(dag: Dag, seed: int, *, last: bool = True, judging: bool = False) -> Judged:
    """Failures, deaths, cancellations, forces, changed code, edited DAGs, torn records, processes
    that live on, forks with other parameters.

    :param judging: let the oracle judge every plan of it.
    :param last: end with an invocation in which nothing fails, and nobody else is at work.
    """
    choose = random.Random(seed)
    sim = Judged(dag, judging=judging)
    handled = prone(dag)
    for turn in range(choose.randint(1, 4)):
        if turn and choose.random() < 0.15:
            spoil(sim, choose)
        force = [
            path + choose.choice(["", "+"])
            for path in some(choose, list(sim.history.paths()), choose.choice([0, 2]))
        ]
        paths = known(sim)
        weak = [path for path in paths if template(path) in handled]
        idle = [path for path in paths if path in sim.before_idle]
        sim.go(
            fail=[*some(choose, paths, choose.choice([0, 2])), *some(choose, weak, 3)],
            force=force,
            code=choose.choice([0, 0, turn]),
            stop=choose.choice([None, choose.randint(0, 8), *some(choose, idle, 2)]),
            order=choose.choice([None, seed]),
            dag=edited(sim.dag, seed + turn) if turn and choose.random() < 0.1 else None,
            workers=choose.choice([1, 1, 3]),
            death=choose.choice(["dies", "dies", "cancelled", "lost", "lost"]),
            alive=choose.random() < 0.3,
        )
        if choose.random() < 0.15:
            sim = sim.fork({"v0": choose.randint(0, 2), "l0": choose.choice([[1, 2], ["1", 1]])})
    if last:
        sim.go()
    return sim


def spoil(sim: Judged, choose: random.Random) -> None:
    """Tear a record of an attempt that decides."""
    latest = [(path, found[-1]) for path, found in sim.history.attempts.items()]
    latest = [(path, each) for path, each in latest if isinstance(each, End | Start)]
    if latest:
        path, each = choose.choice(latest)
        sim.damage(path, each.attempt, "end" if isinstance(each, End) else "start")
