"""What a failed step had in hand goes with it, and does not wait for the garbage collector."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import runstore
from runstore import Map, sequence, task

ITEMS = 20
SIZE = 10 << 20

SEEN: list[int] = []


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fails(item: int) -> None:
    body = b"x" * SIZE
    SEEN.append(resident())
    raise ValueError(f"{item} of {len(body)} bytes")


def test_twenty_steps_that_fail_with_large_values_keep_memory_flat(tmp_path: Path) -> None:
    pipeline = sequence(Map(name="m", over="items", as_="item", body=sequence(task(fails))))
    store = runstore.open_store(tmp_path, durable=False)
    SEEN.clear()
    gc.collect()
    gc.disable()
    try:
        items = {"items": list(range(ITEMS))}
        result = runstore.start(pipeline, items, store=store, workers=1)
    finally:
        gc.enable()
    assert result.status == "failed"
    assert len(SEEN) == ITEMS
    assert SEEN[-1] - SEEN[0] < 5 * SIZE, [seen >> 20 for seen in SEEN]
