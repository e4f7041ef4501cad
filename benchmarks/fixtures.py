"""Runs to measure: DAGs, and stores full of records as the executor writes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from runstore.dag import Dag, Map, Task
from runstore.errors import StorageError
from runstore.plan import Planner
from runstore.plan.history import History
from runstore.records import Blob
from runstore.storage.local import LocalStorage
from runstore.store import Store

__all__ = ["RUN_ID", "finished_map", "map_dag"]

RUN_ID = "measured"


def map_dag() -> Dag:
    """``list`` gives items, ``work`` is done for each, ``collect`` reads what came of it."""
    body = Dag([Task(name="work", params=("item",), returns=("score",))])
    return Dag(
        [
            Task(name="list", returns=("items",)),
            Map(name="each", over="items", as_="item", body=body, after=("list",)),
            Task(name="collect", params=("score",), returns=("best",), after=("each",)),
        ]
    )


class _Copies:
    """A storage that writes to several folders at once, quickly: no temp file, no link, no fsync.

    What goes where is told by what a folder leaves out (``packs/``, ``attempts/``).
    """

    durable = False

    def __init__(self, folders: dict[str, str]) -> None:
        self.folders = folders
        self._made: set[str] = set()
        self._source = LocalStorage(next(iter(folders)))
        self.url = self._source.url

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        content = data if isinstance(data, bytes) else data.read()
        for folder, without in self.folders.items():
            if without and without in key:
                continue
            path = f"{folder}/{key}"
            parent = os.path.dirname(path)
            if parent not in self._made:
                os.makedirs(parent, exist_ok=True)
                self._made.add(parent)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            os.write(fd, content)
            os.close(fd)

    def read(self, key: str) -> bytes:
        return self._source.read(key)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        return self._source.read_many(keys)

    def stream(self, key: str) -> BinaryIO:
        return self._source.stream(key)

    def list(self, prefix: str, *, shallow: bool = False) -> Iterator[str]:
        return self._source.list(prefix, shallow=shallow)


def finished_map(
    folder: str, count: int, kinds: Sequence[str] = ("loose", "pack", "both")
) -> dict[str, str]:
    """A run of :func:`map_dag` over ``count`` items, one of which failed, at the end of its first
    invocation. The same records, by the writer the executor uses, in three stores:

    ``loose``: each on its own; ``pack``: in packs only, to see what those cost; ``both``: as the
    executor leaves them. Name -> folder.
    """
    stores = {name: os.path.join(folder, name) for name in kinds}
    left_out = {"loose": "/packs/", "pack": "/attempts/", "both": ""}
    storage = _Copies({stores[name]: left_out[name] for name in stores})
    dag = map_dag()
    run = Store(storage).create_run(dag, {}, run_id=RUN_ID)
    code = {"pipeline": "/pipelines/measured.py", "sha256": "0" * 64}
    run.begin_invocation("start", command=["runstore", "run", "measured.py"], code=code)
    run.writer.pack.begin()
    planner = Planner(dag)
    history = History(run.record)
    # What the planner reads from a blob, a reader of the store would fetch for it.
    items = list(range(count))
    for _ in range(2):
        for step in planner.plan(history, run.invocation).ready:
            attempt = run.begin(step, code=code)
            if step.path == "list":
                end = attempt.succeed({"items": items})
                value = end.outputs["items"]
                if type(value) is Blob:
                    history.values[value.sha256] = items
            elif step.path == f"each[{count // 2}]/work":
                end = attempt.fail(ValueError("this one is the one that fails"))
            else:
                end = attempt.succeed({"score": attempt.number / 3})
            history.add(end)
    run.writer.pack.write()
    return stores
