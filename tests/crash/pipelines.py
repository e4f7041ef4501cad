"""Pipelines to be interrupted: every kind, nested, handlers, order only, artifacts, blobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from runstore import Attempt, Conditional, Dag, Loop, Map, Parallel, sequence, task

LARGE = 17_000  # characters of a value that goes into a blob


class Case(NamedTuple):
    dag: Dag
    parameters: Mapping[str, Any] = {}
    clean: bool = True
    """No step of it fails by itself."""


def numbers(n):
    return list(range(n))


def square(x):
    return x * x


def add_up(squares):
    return sum(squares)


def nothing():
    return None


def text(total):
    return f"{total}." * 5_000


def length(long):
    return len(long)


def longs(n):
    return ["a" * LARGE, 10**30 + n]


def head(item):
    return str(item)[:3]


def parity(total):
    return "even" if total % 2 == 0 else "odd"


def one(total):
    return total + 1


def step(i, total):
    return {"total": total + i, "done": i == 2}


def write(attempt: Attempt, x):
    attempt.save_bytes(f"part-{x}.txt", f"{x}\n".encode() * 3)


def write_one(attempt: Attempt):
    print("writing")
    attempt.save_bytes("data/one.bin", b"1" * 70_000)


def gather(attempt: Attempt):
    return [path.stat().st_size for path in attempt.load("parts[*]/*.txt", "data/*")]


def boom(n):
    raise RuntimeError("as planned")


def repaired():
    return "repaired"


def note(n):
    return f"noted {n}"


flow = Case(
    sequence(
        task(numbers, returns="xs"),
        Map(name="mp", over="xs", as_="x", body=sequence(task(square, returns="squares"))),
        task(add_up, returns="total"),
        task(nothing),
        task(parity, returns="which"),
        Conditional(
            name="gate",
            on="which",
            branches={"even": Dag([]), "odd": sequence(task(one, returns="total"))},
        ),
        Loop(
            name="turn",
            until="done",
            as_="i",
            max_iterations=5,
            body=sequence(task(step, returns=("total", "done")), task(nothing, name="quiet")),
        ),
        task(note, returns="word"),
    ),
    {"n": 3},
)

files = Case(
    Dag(
        [
            task(numbers, returns="xs"),
            Map(
                name="parts",
                over="xs",
                as_="x",
                after=("numbers",),
                body=sequence(task(write), task(square, returns="y")),
            ),
            task(write_one),
            task(gather, returns="sizes", after=("parts", "write_one")),
            task(nothing, name="last", after="gather"),
        ]
    ),
    {"n": 2},
)

blobs = Case(
    sequence(
        task(longs, returns="items"),
        Map(
            name="heads",
            over="items",
            as_="item",
            body=sequence(
                task(head, returns="total"), task(text, returns="long"), task(length, returns="n")
            ),
        ),
        Parallel(
            name="both",
            branches={
                "left": sequence(task(note, returns="word")),
                "right": sequence(
                    Map(
                        name="again",
                        over="long",
                        as_="long",
                        body=sequence(task(length, returns="size")),
                    )
                ),
            },
        ),
    ),
    {"n": 1, "unused": "x" * LARGE},
)

handled = Case(
    Dag(
        [
            task(nothing, name="first"),
            task(boom, returns="never", after="first"),
            task(note, name="needs", returns="word", after="boom"),
            task(repaired, returns="way", after="needs", trigger="one_failed", handles=True),
            task(nothing, name="always", after=("boom", "first"), trigger="all_done"),
            task(note, name="aside", returns="other", after="first"),
            Parallel(
                name="inner",
                after=("repaired",),
                branches={
                    "a": Dag(
                        [
                            task(boom, name="bang"),
                            Parallel(
                                name="rescue",
                                after=("bang",),
                                trigger="one_failed",
                                handles=True,
                                branches={"r": sequence(task(note, returns="saved"))},
                            ),
                        ]
                    )
                },
            ),
        ]
    ),
    {"n": 7},
    clean=False,
)

alarmed = Case(
    Dag(
        [
            task(note, name="fine", returns="word"),
            task(boom, after="fine"),
            task(nothing, name="alert", after="boom", trigger="one_failed"),
            task(note, name="after", returns="late", after="boom"),
            task(nothing, name="uncut", after="fine", cutoff=False),
        ]
    ),
    {"n": 7},
    clean=False,
)

CASES = {
    "flow": flow,
    "files": files,
    "blobs": blobs,
    "handled": handled,
    "alarmed": alarmed,
}
