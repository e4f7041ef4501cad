"""Writers that race for keys, in processes and threads, and report what each was told."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runstore.errors import KeyExistsError, OutcomeUnknownError
from runstore.storage import open_storage

__all__ = ["check", "race"]

WON, LOST, UNKNOWN = "won", "lost", "unknown"


def race(
    url: str,
    engine: str,
    keys: Sequence[str],
    processes: int,
    threads: int,
    *,
    together: bool = True,
) -> dict[str, dict[str, str]]:
    """Key -> writer -> what it was told. Every writer goes for every key, in the same order;
    ``together``: the threads of a process wait for each other at each key."""
    context = multiprocessing.get_context("forkserver")
    # Imported once, and not by each process; a client is never made there.
    context.set_forkserver_preload([__name__, "s3fs", "obstore.store"])
    barrier = context.Barrier(processes)
    queue = context.SimpleQueue()
    children = [
        context.Process(
            target=_process, args=(url, engine, keys, n, threads, together, barrier, queue)
        )
        for n in range(processes)
    ]
    for child in children:
        child.start()
    told: dict[str, dict[str, str]] = {key: {} for key in keys}
    for _ in children:
        for key, writer, outcome in queue.get():
            told[key][writer] = outcome
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    return told


def _process(
    url: str, engine: str, keys: Sequence[str], number: int, threads: int, together: bool,
    barrier: Any, queue: Any,
) -> None:  # fmt: skip
    results: list[tuple[str, str, str]] = []
    try:
        storage = open_storage(url, engine=engine)
        list(storage.list("nothing/"))  # connected, and imports done

        def write(key: str, writer: str) -> None:
            results.append((key, writer, _one(storage, key, writer)))

        with ThreadPoolExecutor(threads) as pool:
            names = [f"{number}-{thread}" for thread in range(threads)]
            list(pool.map(lambda _: None, names))
            barrier.wait(60)
            groups = [[key] for key in keys] if together else [keys]
            for group in groups:
                list(pool.map(lambda name, group=group: [write(key, name) for key in group], names))
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        raise
    finally:
        queue.put(results)


def _one(storage: Any, key: str, writer: str) -> str:
    try:
        storage.create(key, body(writer))
    except KeyExistsError:
        return LOST
    except OutcomeUnknownError:
        return UNKNOWN
    return WON


def body(writer: str) -> bytes:
    return json.dumps({"writer": writer, "padding": "x" * 500}).encode()


def check(told: dict[str, dict[str, str]], objects: dict[str, bytes], writers: int) -> Counter[str]:
    """Every key has one winner, which knows it; nobody else believes it."""
    outcomes: Counter[str] = Counter()
    for key, each in told.items():
        assert len(each) == writers, key
        winner = json.loads(objects[key])["writer"]
        assert objects[key] == body(winner), key
        assert each[winner] == WON, (key, each[winner])
        assert [name for name, outcome in each.items() if outcome == WON] == [winner], key
        outcomes.update(each.values())
    return outcomes
