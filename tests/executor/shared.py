"""Tasks that change what they were given and what they returned, as careless ones do."""

from __future__ import annotations

import sys
import threading
import time

from runstore import Attempt, Dag, Loop, Map, sequence, task

KEPT: dict = {}
LARGE = list(range(20_000))


def takes_out(conf):
    conf.pop("debug", None)
    conf["rows"].sort()
    conf["rows"].append("changed")
    return conf["rows"][0]


def reads(conf, first):
    return [conf, first]


def makes():
    KEPT["a"] = [1]
    return KEPT


def goes_on(made):
    KEPT["b"] = 2
    KEPT["a"].append(2)
    made["a"].append("changed")
    return 2


def sees(made, n):
    return [made, n]


def adds(item):
    item["n"] += 100
    item["rows"][0].append("changed")
    return item["n"]


def looks(item):
    return item


def collects(items, got, looked):
    for each in looked:
        each["n"] = "changed"
    return [items, got, len(looked)]


def again(looked):
    return looked


def twice():
    """One row, three times: a reader that changes one of them changes one of them."""
    row = [0]
    return [row, row, row]


def changes_a_row(rows):
    rows[0].append(1)
    return rows


def large():
    return LARGE


def large_changed(big):
    big[0] = "changed"
    LARGE[1] = "changed"  # type: ignore[call-overload]
    return len(big)


def large_seen(big, size):
    return [big[0], big[1], size, sum(big)]


def types():
    return {
        "f": 1.0,
        "minus": -0.0,
        "i": 1,
        "big": 10**40,
        "t": True,
        "b": 1e22,
        "a": {"z": 1, "b": 2},
    }


def types_seen(kinds):
    return repr(kinds)


def turn(i, carry):
    carry.append(i)
    return carry, i >= 2


def carried(carry):
    return carry


def measures(attempt: Attempt):
    attempt.metrics["m"] = KEPT.setdefault("m", [1])
    attempt.outputs["o"] = KEPT["m"]


def measures_more(o):
    KEPT.setdefault("m", []).append(2)
    o.append("changed")
    return len(o)


def reaches(attempt: Attempt, conf):
    """What else a task has in its hands."""
    attempt.run.record.parameters["conf"]["rows"].append("changed")
    attempt.run.parameters()["conf"]["rows"].append("changed")
    attempt.work.params["conf"]["rows"].append("changed")
    return 1


def unsteady():
    """A list that a thread goes on changing while it is recorded."""
    value: list = [[n, [n]] for n in range(300)]

    def change():
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for n in range(300):
                value[n][1] = [n] * (n % 7)
                value[n].append(0)
                del value[n][2:]

    threading.Thread(target=change, daemon=True).start()
    sys.setswitchinterval(1e-5)
    return value


def counts(wild):
    sys.setswitchinterval(0.005)
    return len(wild)


def items_pipeline():
    each = sequence(task(adds, returns="got"), task(looks, returns="looked"))
    return sequence(
        Map(name="m", over="items", as_="item", body=each),
        task(collects, returns="all"),
        task(again, returns="again"),
    )


def loop_pipeline():
    body = sequence(task(turn, returns=("carry", "done")))
    return sequence(
        Loop(name="l", body=body, until="done", as_="i", max_iterations=5),
        task(carried, returns="end"),
    )


PARAMETERS = {
    "conf": {"debug": True, "rows": [3, 1, 2]},
    "items": [{"n": 1, "rows": [[]]}, {"n": 2, "rows": [[]]}],
    "carry": [],
}

PIPELINES = {
    "input": sequence(
        task(takes_out, returns="first"), task(reaches, returns="one"), task(reads, returns="seen")
    ),
    "kept": sequence(
        task(makes, returns="made"), task(goes_on, returns="n"), task(sees, returns="seen")
    ),
    "items": items_pipeline(),
    "rows": sequence(task(twice, returns="rows"), task(changes_a_row, returns="changed")),
    "large": sequence(
        task(large, returns="big"), task(large_changed, returns="size"),
        task(large_seen, returns="seen"),
    ),
    "types": sequence(task(types, returns="kinds"), task(types_seen, returns="seen")),
    "loop": loop_pipeline(),
    "metrics": sequence(task(measures, returns="o"), task(measures_more, returns="n")),
    "unsteady": sequence(task(unsteady, returns="wild"), task(counts, returns="n")),
}  # fmt: skip

pipeline = Dag()
