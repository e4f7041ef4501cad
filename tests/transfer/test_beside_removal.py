"""Moving and checking a run beside who removes it, or sweeps: played at every operation. It is done
as if nobody had been there, or an error says what happened; never half a run, nor two in one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from runstore import Dag
from runstore.errors import RunNotFoundError, RunRemovedError, RunstoreError, StorageError
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from runstore.upkeep import Sweep, pack_run, remove_run
from tests.verified import verified

DAG = Dag.from_json({"nodes": [{"name": n, "kind": "task", "returns": [n]} for n in "ab"]})


class Beside:
    """``storage``; before its ``at``-th operation, somebody else does something there."""

    durable = False

    def __init__(self, storage: MemoryStorage, at: int, act: Callable[[], object]) -> None:
        self.storage, self.url, self.at, self.act = storage, storage.url, at, act
        self.count = 0

    def _step(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.act()

    def create(self, key, data, *, repair=False):
        self._step()
        self.storage.create(key, data, repair=repair)

    def read(self, key):
        self._step()
        return self.storage.read(key)

    def read_many(self, keys):
        for key in keys:
            try:
                yield key, self.read(key)
            except StorageError as error:
                yield key, error

    def stream(self, key):
        self._step()
        return self.storage.stream(key)

    def list(self, prefix, *, shallow=False):
        self._step()
        return self.storage.list(prefix, shallow=shallow)


def made(storage: MemoryStorage, value: str) -> None:
    run = Store(storage).create_run(DAG, run_id="r")
    run.begin("a").succeed({"a": value * 20_000})
    pack_run(run)
    run.begin("b").succeed({"b": value})


def of_run(storage: MemoryStorage) -> dict[str, bytes]:
    return {key: storage.read(key) for key in storage.list("runs/")}


def sweep(storage: MemoryStorage) -> None:
    for _ in Sweep(storage, timedelta(0)).run(dry_run=False):
        pass


def acts(storage: MemoryStorage) -> dict[str, Callable[[], object]]:
    def anew() -> None:
        remove_run(storage, "r", force=True)
        made(storage, "n")

    return {
        "rm": lambda: remove_run(storage, "r", force=True),
        "anew": anew,
        "gc": lambda: sweep(storage),
    }


def outcome(does: Callable[[], object]) -> RunstoreError | None:
    try:
        does()
    except RunstoreError as error:
        return error
    return None


def checked(run: Run) -> None:
    """With what it finds missing before it says why."""
    problems = [problem for _, problem in verified(run) if problem]
    assert problems == []


VERBS: dict[str, Callable[[Store, Store, Path], object]] = {
    "export": lambda store, _, file: export_run(store.get_run("r"), file, artifacts="all"),
    "push": lambda store, target, _: transfer_run(store, "r", target, workers=1),
    "fork": lambda store, target, _: target.fork_run(store.get_run("r"), run_id="f"),
    "verify": lambda store, *_: checked(store.get_run("r")),
}


def no_packs(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {key: data for key, data in objects.items() if "/packs/" not in key}


@pytest.mark.parametrize("act", ["rm", "anew", "gc"])
@pytest.mark.parametrize("verb", VERBS)
def test_at_the_source(tmp_path: Path, verb: str, act: str) -> None:
    told = 0
    for at in itertools.count(1):
        storage, there = MemoryStorage(f"source {at}"), MemoryStorage(f"there {at}")
        made(storage, "o")
        whole = no_packs(of_run(storage))
        beside = Beside(storage, at, acts(storage)[act])
        store, target = Store(beside), Store(there)  # type: ignore[arg-type]
        file = tmp_path / f"{at}.json"
        error = outcome(partial(VERBS[verb], store, target, file))
        if error is not None:
            told += 1
            assert act != "gc"
            assert isinstance(error, RunRemovedError) or "there is no run" in str(error)
            assert not file.exists()
            assert list(target.run_ids()) == []
        elif verb == "verify":
            pass
        elif verb == "fork":
            plan = target.get_run("f").plan()
            assert [step.action for step in plan.steps] == ["SKIP", "SKIP"]
            assert [problem for _, problem in verified(target.get_run("f")) if problem] == []
        else:
            if verb == "export":
                import_run(target, file)
            moved = no_packs(of_run(there))
            moved = {key: data for key, data in moved.items() if b'"mode":"import"' not in data}
            assert moved in (whole, no_packs(of_run(storage)))
        if beside.count < at:
            break
    assert at > 8
    assert told or act == "gc"


@pytest.mark.parametrize("act", ["gc", "rm"])
def test_at_the_target(tmp_path: Path, act: str) -> None:
    """Of an import that is under way nothing counts yet: gc with an age of zero takes it."""
    source = MemoryStorage("source")
    made(source, "o")
    export_run(Store(source).get_run("r"), tmp_path / "r.json", artifacts="all")
    told = 0
    for at in itertools.count(1):
        target = MemoryStorage(f"target {at}")

        def acting(target: MemoryStorage = target) -> None:
            if act == "gc":
                sweep(target)
            elif "runs/r/run.json" in target.list(""):
                remove_run(target, "r", force=True)

        beside = Beside(target, at, acting)
        store = Store(beside)  # type: ignore[arg-type]
        error = outcome(lambda store=store: import_run(store, tmp_path / "r.json", workers=1))
        if isinstance(error, RunNotFoundError):
            assert act == "rm"
        elif error is not None:
            told += 1
            assert isinstance(error, StorageError)
            assert "do it again" in str(error)
            # Either there is no run, or there is one and it is told that it lacks something.
            assert list(Store(target).run_ids()) == [] or "The run there lacks" in str(error)
            import_run(Store(target), tmp_path / "r.json")
        if act == "rm" and list(Store(target).run_ids()) == []:
            continue  # it was removed when it was done
        run = Store(target).get_run("r")
        assert run.plan().status == "succeeded"
        assert [problem for _, problem in verified(run) if problem] == []
        if beside.count < at:
            break
    assert told or act == "rm"
