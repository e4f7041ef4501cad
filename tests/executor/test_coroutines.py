"""Tasks that are `async def` run; what only promises a value is no value."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task, start, task
from runstore.errors import DagError
from tests.executor import coroutines
from tests.executor.test_python import Inline

ROOT = Path(__file__).parents[2]
VALUES = {
    "x": 1, "a": 2, "b": [["1", "2"], "gathers", "none"], "c": 3, "d": 4, "e": 5, "f": 6,
}  # fmt: skip


def check(result):
    assert result.values() == VALUES
    assert result.run.logs("plain") == b"from a coroutine\nand after it was awaited\n"
    ends = {path: result.run.read_end(path, 1) for path in ("raises", "leaves")}
    assert ends["raises"].error["message"] == "raised in a coroutine"
    assert "in raises" in ends["raises"].error["traceback"]
    assert ends["leaves"].error["message"] == "the task called sys.exit(3)"


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_coroutine_runs(tmp_path, processes):
    check(start(
        Dag(coroutines.NODES), {"x": 1}, store=tmp_path, processes=processes, workers=2,
        environment={},
    ))  # fmt: skip


@pytest.mark.parametrize("inline", [False, True], ids=["threads", "here"])
def test_a_coroutine_runs_where_a_loop_is_at_work(tmp_path, inline):
    """As in a notebook: also where the executor runs it in the very thread of that loop."""

    async def notebook():
        executor = Inline(shares_memory=True) if inline else None
        return start(
            Dag(coroutines.NODES), {"x": 1}, store=tmp_path, executor=executor, environment={}
        )

    check(asyncio.run(notebook()))


@pytest.mark.parametrize("how", [[], ["--processes"]], ids=["threads", "processes"])
def test_an_interrupt_cancels_a_coroutine(tmp_path, how):
    """It can clean up, and the run ends at once."""
    command = [
        sys.executable, "-m", "runstore.cli", "run", str(ROOT / "tests/executor/coroutines.py"),
        "--store", str(tmp_path / "s"), "--run-id", "r", "-p", f"folder={tmp_path}", *how,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGINT
    assert (tmp_path / "cleaned").exists()
    (file,) = (tmp_path / "s").glob("runs/r/**/attempts/*.end.json")
    assert json.loads(file.read_bytes())["record"]["outcome"] == "cancelled"


# -- refused when the task is made ---------------------------------------------------------------


def generates():
    yield 1


async def streams():
    yield 1


class Generates:
    def __call__(self):
        yield 1

    def method(self):
        yield 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (generates, r"'f' is a generator.*`return list\(f\(\)\)`"),
        (streams, r"'f' is an async generator.*`return \[x async for x in f\(\)\]`"),
        (functools.partial(generates), "'f' is a generator"),
        (Generates(), "'f' is a generator"),
        (Generates().method, "'f' is a generator"),
    ],
    ids=["function", "async", "partial", "object", "method"],
)
def test_a_generator_function_is_no_task(function, said):
    with pytest.raises(DagError, match=said) as caught:
        task(function, name="f")
    assert caught.value.nodes == ("f",)


def test_nor_is_one_that_a_file_names(tmp_path):
    config = {"callable": f"{__name__}:generates"}
    with pytest.raises(DagError, match="'g' is a generator"):
        start(Dag([Task(name="g", config=config)]), store=tmp_path / "s", environment={})
    assert not (tmp_path / "s").exists(), "before anything is written"


def collected(function):
    @functools.wraps(function)
    def inner():
        return list(function())

    return inner


def test_a_decorator_may_use_one(tmp_path):
    result = start(
        Dag([task(collected(generates), returns="x")]), store=tmp_path, environment={}
    )  # fmt: skip
    assert result.values() == {"x": [1]}


# -- refused when it is returned -----------------------------------------------------------------


async def later():
    return 1


class Awaited:
    def __await__(self):
        yield


PROMISES = {
    "coroutine": (later, "`async def`"),
    "generator": (generates, r"return list\(...\)"),
    "async generator": (streams, r"\[x async for x in"),
    "awaitable": (Awaited, "what `await` gives"),
    "map": (lambda: map(str, [1]), r"return list\(...\)"),
    "zip": (lambda: zip([1]), r"return list\(...\)"),
    "iterator": (lambda: iter([1]), r"return list\(...\)"),
}


@pytest.mark.parametrize("where", ["itself", "nobody asked", "in a tuple", "in a dict", "inside"])
@pytest.mark.parametrize("what", PROMISES)
def test_what_promises_a_value_is_none(tmp_path, what, where):
    make, said = PROMISES[what]
    value, returns = {
        "itself": (lambda: make(), ("x",)),  # noqa: PLW0108 - the function itself is refused
        "nobody asked": (lambda: make(), ()),  # noqa: PLW0108
        "in a tuple": (lambda: (1, make()), ("x", "y")),
        "in a dict": (lambda: {"x": 1, "y": make()}, ("x", "y")),
        "inside": (lambda: {"a": [make(), make()]}, ("x",)),
    }[where]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = start(
            Dag([task(value, name="f", returns=returns)]), store=tmp_path, environment={}
        )
        gc.collect()
    assert not [each for each in told if "never awaited" in str(each.message)]
    (file,) = tmp_path.glob("runs/**/attempts/*.end.json")
    end = json.loads(file.read_bytes())["record"]
    assert (result.status, end["outcome"]) == ("failed", "failed")
    assert runstore.open_store(tmp_path).get_run(result.run_id).plan().status == "pending"
    assert re.search(said, end["error"]["message"]), end["error"]
