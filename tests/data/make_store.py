"""Writes the frozen store of this version, and an exported file of a run in it:
``python -m tests.data.make_store FOLDER FILE``.

Done once for each release; a store that was written is never written again."""

from __future__ import annotations

import sys
from pathlib import Path

import runstore
from runstore import Attempt, Conditional, Dag, Loop, Map, fork, retry, sequence, start, task
from runstore.records import Consumed
from runstore.transfer import export_run


def regions():
    return ["eu", "EU", "us/east", 1, 1.5]


def score(attempt: Attempt, region, flag):
    print(f"scoring {region}")
    attempt.save_bytes("score.txt", f"{region}\n".encode())
    if region == 1.5 and Path(flag).exists():
        raise RuntimeError("the flag is up")
    return len(str(region))


def judge(scores):
    return "ship" if sum(scores) > 3 else "hold"


def ship(attempt: Attempt, scores, pad):
    return ["x" * 20_000, 10**30, pad]


def grow(i):
    return i, i == 2


DAG = Dag(
    [
        task(regions, returns="regions"),
        Map(
            name="Scan %",
            over="regions",
            as_="region",
            after=("regions",),
            body=sequence(task(score, returns="scores")),
        ),
        task(judge, returns="verdict", after="Scan %"),
        Conditional(
            name="gate",
            on="verdict",
            after=("judge",),
            branches={"ship": sequence(task(ship, returns="big")), "hold": Dag([])},
        ),
        Loop(
            name="refine",
            until="done",
            as_="i",
            after=("gate",),
            body=sequence(task(grow, returns=("size", "done"))),
        ),
    ]
)


def main(root: str) -> None:
    flag = Path(root + ".flag")
    flag.touch()
    given = {"flag": str(flag), "pad": "p"}
    options = {"store": root, "workers": 1}
    start(DAG, given, run_id="Nightly 1", secrets={"token": "hidden"}, **options)
    flag.unlink()
    retry("Nightly 1", DAG, **options)
    fork("Nightly 1", DAG, {"pad": "q" * 20_000}, new_run_id="forked", **options)
    half = runstore.open_store(root).create_run(DAG, given, run_id="half")
    half.begin("regions").succeed({"regions": []})
    half.begin("judge", consumed=Consumed())


if __name__ == "__main__":
    main(sys.argv[1])
    export_run(runstore.open_store(sys.argv[1]).get_run("Nightly 1"), sys.argv[2], artifacts="all")
