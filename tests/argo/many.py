"""A pipeline with a map over the items of a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from runstore import Dag, Map, task

ITEMS = Path(os.environ.get("SCENARIO", "."), "items.json")


def listed():
    return json.loads(ITEMS.read_text(encoding="utf-8"))


def work(item):
    return [item, "!"]


pipeline = Dag([
    task(listed, returns="items"),
    Map(name="each", over="items", as_="item", after=("listed",),
        body=Dag([task(work, returns="made")])),
])  # fmt: skip
