"""What cannot be read is raised, and the error holds nothing: no frame that it went through is
bound to it, so it goes when its last user does, and not when the garbage collector comes by."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from runstore import Dag, Task
from runstore.errors import KeyMissingError, StorageError
from runstore.records import Consumed
from runstore.storage import read_all
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store
from runstore.store.fork import read_raw
from runstore.transfer import export_run, transfer_run
from runstore.upkeep import pack_run

DAG = Dag([Task(name=name, returns=("x",)) for name in "abc"])


class Unreadable(MemoryStorage):
    """Gives no object whose key has ``refused`` in it."""

    refused = "\0"

    def read_many(self, keys):
        for key, data in super().read_many(keys):
            yield key, StorageError(f"out of reach: {key}") if self.refused in key else data


@pytest.fixture
def run() -> Run:
    run = Store(Unreadable("unreadable")).create_run(DAG, run_id="r")
    run.begin_invocation("start")
    run.writer.pack.begin()
    for name in "ab":
        run.begin(name).succeed({"x": 1})
    run.writer.pack.write()
    run.begin("c").succeed({"x": 1})
    return run


def again(run: Run) -> Callable[[], object]:
    """Compares what both sides have."""
    there = Store(MemoryStorage("there"))
    transfer_run(Store(run.storage), "r", there)
    run.begin("c", number=2, consumed=Consumed()).succeed({"x": 1})
    return lambda: transfer_run(Store(run.storage), "r", there)


def raw(run: Run) -> Callable[[], object]:
    ends = run.history().ends("c")
    return lambda: list(read_raw(run, ends))


CASES = {
    "history, packs": (lambda run: run.history, "packs/"),
    "history, ends": (lambda run: run.history, ".end.json"),
    "history, starts": (lambda run: run.history, ".start.json"),
    "history, invocations": (lambda run: run.history, "invocations/"),
    "invocations": (lambda run: run.invocations, "invocations/"),
    "an invocation": (
        lambda run: partial(Store(run.storage).get_run("r").begin_invocation, "retry"),
        "invocations/",
    ),
    "fork": (raw, "c.000001.end"),
    "pack, packs": (lambda run: partial(pack_run, run), "packs/"),
    "pack, loose": (lambda run: partial(pack_run, run), "c.000001.start"),
    "export": (lambda run: partial(export_run, run, "r.json"), ".end.json"),
    "push": (
        lambda run: partial(transfer_run, Store(run.storage), "r", Store(MemoryStorage("new"))),
        ".end.json",
    ),
    "push again": (again, "c.000001.end"),
    "all": (lambda run: lambda: dict(read_all(run.storage, run.storage.list(""))), "run.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_error_is_raised_and_holds_nothing(run, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare, refused = CASES[case]
    reads = prepare(run)
    run.storage.refused = refused
    held = []
    gc.collect()
    gc.disable()
    try:
        try:
            reads()
        except StorageError as error:
            held.append((str(error)[:12], weakref.ref(error)))
        assert [(text, each()) for text, each in held] == [("out of reach", None)]
    finally:
        gc.enable()


def test_what_is_missing_is_left_out_if_asked_for():
    storage = MemoryStorage("holes")
    storage.create("a", b"1")
    assert list(read_all(storage, ["b", "a"], skip_missing=True)) == [("a", b"1")]
    with pytest.raises(KeyMissingError, match="no b in"):
        list(read_all(storage, ["a", "b"]))
