"""An id under which something lies: a new run never takes it for its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

import runstore
from runstore import Dag, Task
from runstore.errors import RunExistsError, StorageError
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from runstore.upkeep import Sweep
from tests.verified import verified

DAG = Dag([Task(name="a", returns=("x",)), Task(name="b", after=("a",))])


def made(storage):
    run = Store(storage).create_run(DAG, run_id="r")
    run.writer.pack.begin()
    run.begin("a").succeed({"x": 1})
    run.begin("b").succeed({})
    run.writer.pack.write()
    return run


@pytest.mark.parametrize("how", ["create", "fork"])
def test_what_was_left_of_a_run_is_not_taken_over(tmp_path, how):
    """Below a nonce of its own nobody finds it: the id is free."""
    store = runstore.open_store(tmp_path / "s", durable=False)
    left = made(store.storage)
    origin = store.create_run(DAG, run_id="origin")
    (tmp_path / "s/runs/r/run.json").unlink()
    before = set(store.storage.list(left.prefix))
    assert len(before) == 6
    run = (
        store.create_run(DAG, run_id="r") if how == "create" else store.fork_run(origin, run_id="r")
    )
    assert run.record.nonce != left.record.nonce
    assert [step.action for step in run.plan().ready] == ["RUN"]
    assert not run.history().attempts
    assert set(store.storage.list(left.prefix)) == before


def test_of_two_that_create_one_run_one_is_told_that_it_exists(tmp_path):
    store = runstore.open_store(tmp_path / "s", durable=False)
    first = store.create_run(DAG, {"p": "x" * 20_000}, run_id="r")
    with pytest.raises(RunExistsError, match="runstore retry"):
        store.create_run(DAG, {"p": "x" * 20_000}, run_id="r")
    assert store.get_run("r").parameters() == first.parameters()
    swept = list(Sweep(store.storage, timedelta(0)).run(dry_run=False))
    assert [litter.what for litter in swept] == ["of a run that is not there"]
    assert all(problem is None for _, problem in verified(store.get_run("r")))


class Dying(MemoryStorage):
    """Dies before it makes the key that ends with this."""

    dies_at = ""

    def create(self, key, data, *, repair=False):
        if self.dies_at and key.endswith(self.dies_at):
            raise StorageError("the power is gone")
        super().create(key, data, repair=repair)


def test_a_fork_that_died_before_it_was_made_is_made_again():
    storage = Dying("dying")
    origin, store = made(storage), Store(storage)
    storage.dies_at = "f/run.json"
    with pytest.raises(StorageError, match="power"):
        store.fork_run(origin, run_id="f")
    storage.dies_at = ""
    forked = store.fork_run(store.get_run("r"), run_id="f")
    assert not forked.history().damaged
    assert forked.plan().status == "succeeded"
    with pytest.raises(RunExistsError):
        store.fork_run(origin, run_id="f")
    assert {litter.what for litter in Sweep(storage, timedelta(0)).run(dry_run=False)} == {
        "of a run that is not there"
    }
    assert forked.plan().status == "succeeded"
