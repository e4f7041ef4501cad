"""An id under which something lies: a new run never takes it for its own."""

from __future__ import annotations

import pytest

import runstore
from runstore import Dag, Task
from runstore.errors import RefusedError, RunExistsError, StorageError
from runstore.storage.memory import MemoryStorage
from runstore.store import Store

DAG = Dag([Task(name="a", returns=("x",)), Task(name="b", after=("a",))])


def made(storage):
    run = Store(storage).create_run(DAG, run_id="r")
    run.keep_for_pack()
    run.begin("a").succeed({"x": 1})
    run.begin("b").succeed({})
    run.write_pack()
    return run


@pytest.mark.parametrize("folder", ["attempts/", "packs/", "invocations/"])
@pytest.mark.parametrize("how", ["create", "fork"])
def test_what_was_left_of_a_run_is_not_taken_over(tmp_path, folder, how):
    store = runstore.open(tmp_path / "s", durable=False)
    made(store.storage)
    origin = store.create_run(DAG, run_id="origin")
    gone = [
        key
        for key in store.storage.list("runs/r/")
        if not key.startswith(f"runs/r/{folder}") or key == "runs/r/run.json"
    ]
    for key in gone:
        (tmp_path / "s" / key).unlink()
    assert list(store.storage.list("runs/r/"))
    with pytest.raises(RefusedError, match=r"another id") as caught:
        store.create_run(DAG, run_id="r") if how == "create" else store.fork_run(origin, run_id="r")
    assert "runstore gc" in str(caught.value)
    assert folder in caught.value.facts["key"]
    assert not (tmp_path / "s/runs/r/run.json").exists()


def test_folders_and_blobs_that_were_left_are_no_remains(tmp_path):
    store = runstore.open(tmp_path / "s", durable=False)
    run = store.create_run(DAG, {"p": "x" * 20_000}, run_id="r")
    run.begin("a")
    for key in store.storage.list("runs/r/"):
        if "/blobs/" not in key:
            (tmp_path / "s" / key).unlink()
    assert (tmp_path / "s/runs/r/attempts").is_dir()
    again = store.create_run(DAG, {"p": "x" * 20_000}, run_id="r")
    assert again.step("a").action == "RUN"


class Dying(MemoryStorage):
    """Dies before it makes the key that ends with this."""

    dies_at = ""

    def create(self, key, data, *, repair=False):
        if self.dies_at and key.endswith(self.dies_at):
            raise StorageError("the power is gone")
        super().create(key, data, repair=repair)


def test_a_fork_that_died_after_its_pack_is_made_again():
    storage = Dying("dying")
    origin, store = made(storage), Store(storage)
    storage.dies_at = "f/run.json"
    with pytest.raises(StorageError, match="power"):
        store.fork_run(origin, run_id="f")
    (pack,) = storage.list("runs/f/packs/")
    storage.dies_at = ""
    with pytest.raises(RefusedError, match="another id"):
        store.create_run(DAG, run_id="f")
    # What died half way may be damaged, too.
    storage._objects[pack] = storage._objects[pack][:-9]
    forked = store.fork_run(store.run("r"), run_id="f")
    assert list(storage.list("runs/f/packs/")) == [pack]
    assert not forked.history().damaged
    assert forked.plan().status == "succeeded"
    with pytest.raises(RunExistsError):
        store.fork_run(origin, run_id="f")


def test_a_fork_of_what_has_changed_since_is_refused_and_not_damaged():
    storage = Dying("changing")
    origin, store = made(storage), Store(storage)
    storage.dies_at = "f/run.json"
    with pytest.raises(StorageError, match="power"):
        store.fork_run(origin, run_id="f")
    storage.dies_at = ""
    origin.begin("a", number=2, consumed=origin.history().latest("a").consumed).succeed({"x": 2})
    with pytest.raises(RefusedError, match="another id"):
        store.fork_run(origin, run_id="f")
