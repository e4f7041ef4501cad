"""The figures, by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from benchmarks.fixtures import RUN_ID, finished_map, map_dag
from benchmarks.measure import Figure, in_turn, median_in_turn, raw_write, timed
from benchmarks.remote import (
    remote_attempt,
    remote_exec,
    remote_history,
    remote_pack,
    transfer,
)
from benchmarks.shapes import LINEAR, SHAPES, growth, map_that_loads
from runstore.dag import Dag, Map, Parallel, Task, structure, walk
from runstore.executor import start
from runstore.pipeline import sequence, task
from runstore.store import Attempt, Store, open_store

__all__ = ["FIGURES", "Measure"]

Measure = Callable[[str], Iterator[Figure]]
"""Given an empty folder of its own. (New ones each time: ext4 is slow for a while where much was
removed.)"""


# -- writing -------------------------------------------------------------------------------------


def claimed_and_ended(store: Store, count: int) -> Callable[[int], Attempt]:
    """A run with ``count`` ready steps, and a function that does the one of a number."""
    run = store.create_run(map_dag(), {})
    run.begin_invocation("start")
    for step in run.plan().ready:
        run.begin(step).succeed({"items": list(range(count))})
    steps = run.plan().ready
    assert len(steps) == count

    def attempt(i: int) -> Attempt:
        claimed = run.begin(steps[i])
        claimed.succeed({"score": i / 3})
        return claimed

    return attempt


def _attempts(folder: str, count: int, *, durable: bool) -> tuple[float, float]:
    """Seconds of an attempt, and of two raw writes of the sizes of its records."""
    store = open_store(os.path.join(folder, "store"), durable=durable)
    attempt = claimed_and_ended(store, count + 1)
    first = attempt(count)
    sizes = [len(store.storage.read(first.key.replace("start", kind))) for kind in ("start", "end")]
    raw = os.path.join(folder, "raw")
    os.mkdir(raw)

    def floor(i: int) -> None:
        for kind, size in enumerate(sizes):
            data = os.urandom(16).ljust(size, b"x")
            raw_write(raw, f"each_i{i}_j.work.000001.{kind}.json", data, durable=durable)

    return median_in_turn(attempt, floor, count)


def durable_attempt(folder: str, count: int = 1_000) -> Iterator[Figure]:
    value, floor = _attempts(folder, count, durable=True)
    yield Figure.within(
        "attempt", value * 1e3, "ms", "start and end of an attempt, both durable, one thread",
        floor=floor * 1e3, times=1.25,
    )  # fmt: skip


def fast_attempt(folder: str, count: int = 3_000) -> Iterator[Figure]:
    value, floor = _attempts(folder, count, durable=False)
    yield Figure.below(
        "attempt-fast", value * 1e3, "ms", "start and end of an attempt, durable=False",
        goal=0.2, floor=floor * 1e3,
    )  # fmt: skip


# -- reading -------------------------------------------------------------------------------------


def history_and_plan(store: str) -> Any:
    """What ``runstore plan`` does: open the store, read the run, plan it."""
    return open_store(store).get_run(RUN_ID).plan()


def read_records(store: str) -> int:
    """The floor of reading loose records: scandir; open, read and close of each end."""
    read = 0
    for path in _loose(store):
        with open(path, "rb") as file:
            read += len(file.read())
    return read


def read_records_bare(store: str) -> int:
    """The same by bare system calls, which is the least there is."""
    read = 0
    for path in _loose(store):
        fd = os.open(path, os.O_RDONLY)
        read += len(os.read(fd, 65536))
        os.close(fd)
    return read


def _loose(store: str) -> list[str]:
    folder = f"{_home(store)}/attempts"
    with os.scandir(folder) as entries:
        return [f"{folder}/{e.name}" for e in entries]


def _home(store: str) -> str:
    """Where everything of the run is, but for its own record."""
    folder = f"{store}/runs/{RUN_ID}"
    (nonce,) = (name for name in os.listdir(folder) if name != "run.json")
    return f"{folder}/{nonce}"


def read_packs(store: str) -> int:
    """The floor of reading packs: read the file; sha256 and ``orjson.loads`` of each record."""
    folder = f"{_home(store)}/packs"
    kept = []
    for name in os.listdir(folder):
        with open(f"{folder}/{name}", "rb") as file:
            data = file.read()
        mark = data.index(b',"records":[')
        at = mark + len(b',"records":[')
        for length in orjson.loads(data[86:mark] + b"}")["lengths"]:
            body = data[at + 86 : at + length - 1]
            assert hashlib.sha256(body).hexdigest().encode() == data[at + 11 : at + 75]
            kept.append(orjson.loads(body))
            at += length + 1
    return len(kept)


def history(folder: str, count: int = 10_000, rounds: int = 9) -> Iterator[Figure]:
    stores = finished_map(folder, count)
    micro = 1e6 / count
    value, floor = in_turn(
        lambda: history_and_plan(stores["loose"]), lambda: read_records(stores["loose"]), rounds
    )
    yield Figure.within(
        "history", value * micro, "us/item", f"history and plan of {count:,} items, loose records",
        floor=floor * micro, times=2.0,
    )  # fmt: skip
    bare = min(timed(lambda: read_records_bare(stores["loose"])) for _ in range(rounds))
    yield Figure(
        "history-bare", value * micro, "us/item", "the same, its floor by bare system calls",
        bare * micro,
    )  # fmt: skip
    value, floor = in_turn(
        lambda: history_and_plan(stores["pack"]), lambda: read_packs(stores["pack"]), rounds
    )
    yield Figure.within(
        "history-pack", value * micro, "us/item", "the same from a pack alone",
        floor=floor * micro, times=3.0,
    )  # fmt: skip
    value, floor = in_turn(
        lambda: history_and_plan(stores["both"]),
        lambda: read_records(stores["both"]) + read_packs(stores["both"]),
        rounds,
    )
    yield Figure.within(
        "history-both", value * micro, "us/item", "the same, of both, which are compared",
        floor=floor * micro, times=2.0,
    )  # fmt: skip


def linear(folder: str, count: int = 10_000) -> Iterator[Figure]:
    kinds = ("loose", "pack")
    small = finished_map(os.path.join(folder, "small"), count, kinds)
    large = finished_map(os.path.join(folder, "large"), 10 * count, kinds)
    for kind in kinds:
        short, _ = _least_in_child(small[kind])
        took, peak = _least_in_child(large[kind])
        suffix = "" if kind == "loose" else "-pack"
        yield Figure.within(
            f"linear{suffix}", took / (10 * count) * 1e6, "us/item",
            f"{10 * count:,} items against {count:,}, {kind}", floor=short / count * 1e6, times=1.5,
        )  # fmt: skip
        yield Figure.below(
            f"memory{suffix}", peak, "MiB",
            f"peak of planning {10 * count:,} items, {kind}; the floor is the records' bytes",
            goal=1024, floor=_bytes_read(large[kind]) / 2**20,
        )  # fmt: skip


def _bytes_read(store: str) -> int:
    """Of the records on their own, or of the packs."""
    packs = f"{_home(store)}/packs"
    names = [f"{packs}/{name}" for name in os.listdir(packs)] if os.path.isdir(packs) else []
    return sum(os.stat(path).st_size for path in names or _loose(store))


def _least_in_child(store: str, rounds: int = 3) -> tuple[float, float]:
    """Seconds and MiB of :func:`history_and_plan` in a fresh process."""
    taken = []
    for _ in range(rounds):
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.child", store], capture_output=True, check=True
        ).stdout
        taken.append(json.loads(output))
    return min(each["seconds"] for each in taken), max(each["peak"] for each in taken)


# -- planning ----------------------------------------------------------------------------------


def planner_growth(_: str, count: int = 100) -> Iterator[Figure]:
    """Operations, not time: at a size, twice and four times that."""
    for name, make in SHAPES.items():
        made, grown = growth(make, count)
        yield Figure.below(
            "growth", grown, "x", f"{name}: {made[2]:,} operations at {4 * count}, against a line",
            goal=LINEAR,
        )  # fmt: skip


def artifacts(_: str, count: int = 100_000, rounds: int = 3) -> Iterator[Figure]:
    with_them, without = map_that_loads(count), map_that_loads(count, loads=False)
    value, floor = in_turn(with_them, without, rounds)
    yield Figure.within(
        "artifacts", value / count * 1e6, "us/item",
        f"plan of {count:,} items that each load two artifacts; the floor is without",
        floor=floor / count * 1e6, times=3.0,
    )  # fmt: skip


# -- structure -----------------------------------------------------------------------------------


def wide_dag(count: int) -> Dag:
    """Layers of a hundred tasks, each of which follows two of the layer before."""
    nodes = []
    for i in range(count):
        at, layer = i % 100, i - i % 100 - 100
        after = () if layer < 0 else (f"n{layer + at}", f"n{layer + (at + 1) % 100}")
        nodes.append(Task(name=f"n{i}", after=after, params=("a",), returns=(f"v{i}",)))
    return Dag(nodes)


def deep_dag(depth: int) -> Dag:
    """A task in a parallel in a parallel ..."""
    dag = Dag([Task(name="innermost", params=("a",))])
    for _ in range(depth):
        dag = Dag([Parallel(name="p", branches={"b": dag})])
    return dag


def structure_digest(folder: str, count: int = 100_000, depth: int = 1_000) -> Iterator[Figure]:
    for name, dag, what in (
        ("structure", wide_dag(count), f"structure digest of {count:,} nodes"),
        ("structure-deep", deep_dag(depth), f"the same of a DAG nested {depth:,} deep"),
    ):
        nodes = [_shallow(node) for _, node in walk(dag)]
        value, floor = in_turn(lambda: structure.digest(dag), lambda: digest_each(nodes), 3)  # noqa: B023 - called at once
        yield Figure.below(name, value, "s", what, goal=2, floor=floor)


def _shallow(node: Any) -> dict[str, Any]:
    inside = ("body", "branches", "_function")
    return {name: getattr(node, name) for name in node.__struct_fields__ if name not in inside}


def digest_each(nodes: list[dict[str, Any]]) -> list[str]:
    """The floor of a structure digest: JSON and SHA-256 of each node by itself."""
    return [
        hashlib.sha256(orjson.dumps(node, option=orjson.OPT_SORT_KEYS)).hexdigest()
        for node in nodes
    ]


# -- starting ------------------------------------------------------------------------------------


def _process(*arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def imports(_: str, rounds: int = 21) -> Iterator[Figure]:
    def fresh(code: str) -> Callable[[], float]:
        return lambda: _process(sys.executable, "-c", code)

    with_it, without = _alternating(
        fresh("import msgspec, orjson, runstore"), fresh("import msgspec, orjson"), rounds
    )
    yield Figure.below(
        "import", (with_it - without) * 1e3, "ms",
        "import runstore, above msgspec and orjson; the floor is a process that imports those",
        goal=15, floor=without * 1e3,
    )  # fmt: skip
    lazily = "import msgspec, orjson, runstore; runstore.start, runstore.open_store"
    everything, without = _alternating(fresh(lazily), fresh("import msgspec, orjson"), rounds)
    yield Figure(
        "import-all", (everything - without) * 1e3, "ms", "the same with all it loads when used",
        without * 1e3,
    )  # fmt: skip


def _alternating(
    one: Callable[[], float], other: Callable[[], float], rounds: int
) -> tuple[float, float]:
    pairs = [(one(), other()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def command_line(_: str, rounds: int = 11) -> Iterator[Figure]:
    command = shutil.which("runstore", path=os.path.dirname(sys.executable)) or ""
    try:
        took, floor = _alternating(
            lambda: _process(command, "--help"),
            lambda: _process(sys.executable, "-c", "pass"),
            rounds,
        )
    except (OSError, subprocess.CalledProcessError):
        return  # not installed with its console script
    yield Figure.below(
        "help", took * 1e3, "ms", "runstore --help; the floor is a process that does nothing",
        goal=250, floor=floor * 1e3,
    )  # fmt: skip


# -- running -------------------------------------------------------------------------------------


def _items(count: int) -> Callable[[], list[int]]:
    return lambda: list(range(count))


def _step(item: int) -> int:
    return item + 1


def _tick() -> None:
    return None


def mapped(count: int, length: int = 1) -> Dag:
    """A map of ``count`` items over a chain of ``length`` functions."""
    body = sequence(*(task(_step, name=f"s{i}", returns="made") for i in range(length)))
    each = Map(name="each", over="items", as_="item", body=body, after=("list",))
    return Dag([task(_items(count), name="list", returns="items"), each])


def chain(count: int) -> Dag:
    """``count`` functions, one after the other."""
    return sequence(*(task(_tick, name=f"n{i}") for i in range(count)))


def executor(folder: str, count: int = 1_000) -> Iterator[Figure]:
    shapes = (
        ("executor", f"a step of a map of {count:,}, threads, durable=False", mapped(count), count),
        ("executor-chains", f"a step of a map of {count:,} x 5", mapped(count, 5), 5 * count),
        ("executor-chain", f"a step of a chain of {count:,}", chain(count), count),
    )
    for name, what, dag, steps in shapes:
        store = open_store(os.path.join(folder, name), durable=False)
        begin = time.perf_counter()
        result = start(dag, store=store)
        value = (time.perf_counter() - begin) / steps
        assert result.status == "succeeded", result.status
        floor = _raw_pairs(os.path.join(folder, f"{name}-raw"), steps)
        yield Figure(name, value * 1e6, "us", what, floor * 1e6)


def _raw_pairs(folder: str, count: int) -> float:
    os.mkdir(folder)
    begin = time.perf_counter()
    for i in range(count):
        for kind in ("start", "end"):
            raw_write(folder, f"n{i}.000001.{kind}.json", b"x" * 700, durable=False)
    return (time.perf_counter() - begin) / count


FIGURES: dict[str, Measure] = {
    "attempt": durable_attempt,
    "attempt-fast": fast_attempt,
    "history": history,
    "linear": linear,
    "growth": planner_growth,
    "artifacts": artifacts,
    "structure": structure_digest,
    "import": imports,
    "help": command_line,
    "executor": executor,
    "remote-history": remote_history,
    "remote-pack": remote_pack,
    "remote-attempt": remote_attempt,
    "remote-exec": remote_exec,
    "transfer": transfer,
}
