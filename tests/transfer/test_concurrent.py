"""A transfer creates several objects at once."""

from __future__ import annotations

import threading
from typing import BinaryIO

import pytest

from runstore.dag import Dag, Task
from runstore.storage import Storage
from runstore.store import Store
from runstore.transfer import export_run, import_run, transfer_run
from tests.transfer.counting import Counting
from tests.transfer.lives import RUN_ID, memory, objects, of_run

TOGETHER = 4


class Meeting(Counting):
    """A create of an attempt's end waits until as many as expected are under way."""

    def __init__(self, storage: Storage, together: int) -> None:
        super().__init__(storage)
        self._meeting = threading.Barrier(together)

    def create(self, key: str, data: bytes | BinaryIO, *, repair: bool = False) -> None:
        if key.endswith(".end.json"):
            self._meeting.wait(30)  # broken: an error, and no measure of time
        super().create(key, data, repair=repair)


def ends(store: Store) -> int:
    return sum(key.endswith(".end.json") for key in objects(store))


@pytest.fixture(scope="module")
def source() -> Store:
    store = memory()
    dag = Dag([Task(name=f"t{n}", returns=("x",)) for n in range(4 * TOGETHER)])
    run = store.create_run(dag, run_id=RUN_ID)
    run.begin_invocation("start")
    for n in range(4 * TOGETHER):
        run.begin(f"t{n}").succeed({"x": n})
    return store


def test_a_transfer_creates_at_once(source: Store) -> None:
    target = memory()
    transfer_run(source, RUN_ID, Store(Meeting(target.storage, TOGETHER)))
    assert of_run(objects(target)) == of_run(objects(source))


def test_an_import_creates_at_once(source: Store, tmp_path) -> None:
    export_run(source.get_run(RUN_ID), tmp_path / "r.json", artifacts="all")
    target = memory()
    import_run(Store(Meeting(target.storage, TOGETHER)), tmp_path / "r.json")
    assert ends(target) == ends(source)
