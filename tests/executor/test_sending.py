"""How much is sent with a step to another process: no more than the step can make use of."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest

import runstore
from runstore import Attempt, Dag, Task, start, task


class Counting(Executor):
    """Runs what it is sent at once, from its bytes, and counts them."""

    def __init__(self):
        self.sizes = []

    def submit(self, fn, /, *args, **kwargs):
        data = pickle.dumps((fn, args, kwargs))
        self.sizes.append(len(data))
        future = Future()
        fn, args, kwargs = pickle.loads(data)
        future.set_result(fn(*args, **kwargs))
        return future


def saves(attempt: Attempt):
    for n in range(2_000):
        attempt.save_bytes(f"{n}.txt", b"%d" % n)


def plain():
    return 1


def loads(attempt: Attempt):
    return attempt.load("7.txt")[0].read_text()


def sh(name, command, **config):
    config = {"command": command, **config}
    return Task(name=name, type="shell", after=("saves",), returns=("x",), config=config)


SAYS = 'printf \'{"x":"%s"}\' "$(ls | wc -l | tr -d " ")" > "$RUNSTORE_RETURNS"'


@pytest.mark.parametrize(
    ("node", "value", "little"),
    [
        (task(plain, returns="x", after="saves"), 1, True),
        (task(loads, returns="x", after="saves"), "7", False),
        (sh("none", SAYS), "0", True),
        (sh("named", SAYS, load=["7.txt", "8.txt", "7.txt"]), "2", True),
        (sh("one", SAYS, load="7.txt"), "1", True),
        (sh("pattern", SAYS, load=["7.txt", "11*.txt"]), "112", False),
    ],
    ids=["plain", "loads", "none", "named", "one", "pattern"],
)
def test_the_artifacts_that_a_step_cannot_load_stay_here(tmp_path: Path, node, value, little):
    executor = Counting()
    made = Dag([task(saves), node])
    result = start(made, store=tmp_path, executor=executor, environment={})
    assert result.status == "succeeded", result.run.read_end(node.name, 1).error
    assert result.values() == {"x": value}
    assert (executor.sizes[1] < 8_000) == little, executor.sizes


def test_what_is_missing_is_named_all_the_same(tmp_path: Path):
    made = Dag([task(saves), sh("c", SAYS, load=["7.txt", "no.txt"])])
    result = start(made, store=tmp_path, executor=Counting(), environment={}, run_id="r")
    said = runstore.open_store(tmp_path).get_run("r").read_end("c", 1).error["message"]
    assert result.status == "failed"
    assert said.startswith("c loads 'no.txt', and no step before it saved that; in sight: 0.txt, ")
