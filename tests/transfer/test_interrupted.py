"""A transfer that breaks at any of its creates, and is done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from runstore.errors import RunNotFoundError, StorageError
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from tests.exploration import randomness
from tests.planning.generate import make
from tests.transfer.counting import Counting
from tests.transfer.lives import RUN_ID, invoke, live, memory, objects, of_run, told


@pytest.fixture(scope="module")
def run() -> Run:
    """Packs, blobs, open attempts, several invocations."""
    run = live(memory(), make(4, 12), 3)
    choose = randomness("interrupted")
    kinds: set[str] = set()
    for _ in range(20):
        invoke(run, choose, "retry", most=8)
        names = [key.split("/") for key in of_run(objects(Store(run.storage)))]
        kinds = {name[2] if len(name) == 3 else name[3] for name in names}
        if {"packs", "blobs"} <= kinds:
            break
    assert kinds == {"run.json", "invocations", "attempts", "packs", "blobs"}
    return run


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_transfer_goes_on(run: Run, workers: int, after: bool) -> None:
    source = Store(run.storage)
    whole = of_run(objects(source))
    for k in range(1, len(whole) + 3):
        target = memory()
        breaking = Counting(target.storage, k, after=after)
        try:
            transfer_run(source, RUN_ID, Store(breaking), workers=workers)
        except StorageError:
            if not (after and k == len(whole) + 1):  # else it broke when all was done
                with pytest.raises(RunNotFoundError):
                    target.get_run(RUN_ID)
            transfer_run(source, RUN_ID, target, workers=workers)
        assert of_run(objects(target)) == whole
    assert breaking.count("create") == len(whole) + 1  # the marker


def test_an_import_goes_on(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "r.json", artifacts="all")
    whole = of_run(objects(Store(run.storage)), packs=False)
    for k in range(1, len(whole) + 4):
        target = memory()
        try:
            import_run(Store(Counting(target.storage, k)), tmp_path / "r.json")
        except StorageError:
            with pytest.raises(RunNotFoundError):
                target.get_run(RUN_ID)
            import_run(target, tmp_path / "r.json")
        assert of_run(objects(target), packs=False) == whole
        assert told(target.get_run(RUN_ID)) == told(run)


def test_a_run_that_is_there_never_counts_wrongly_in_between(run: Run) -> None:
    """Cut at any create, nothing is skipped in the target that the source would run."""
    source = Store(run.storage)
    first = memory()
    early = live(first, make(4, 12), 3)
    assert early.record.digest != run.record.digest  # another run: it would be refused
    whole = of_run(objects(source))
    old = {
        key: data
        for key, data in whole.items()
        if ".000002." not in key and ".000003." not in key and "/packs/" not in key
    }
    runs = {s.path for s in Store(run.storage).get_run(RUN_ID).plan().steps if s.action == "RUN"}
    for k in range(1, len(whole) - len(old) + 1):
        target = memory()
        for key, data in old.items():
            target.storage.create(key, data)
        before = {s.path for s in target.get_run(RUN_ID).plan().steps if s.action == "SKIP"}
        with pytest.raises(StorageError):
            transfer_run(source, RUN_ID, Store(Counting(target.storage, k + 1)), workers=1)
        skipped = {s.path for s in target.get_run(RUN_ID).plan().steps if s.action == "SKIP"}
        assert not (skipped - before) & runs
        transfer_run(source, RUN_ID, target)
        assert of_run(objects(target)) == whole
