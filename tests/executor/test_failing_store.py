"""A store that fails as a step is to be ended: the attempt stays open, and a retry in the same
program takes it over, although the process that worked at it lives on."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import runstore
from runstore import Dag, retry, start, task
from runstore.errors import StorageError
from runstore.storage.local import LocalStorage


class Full(LocalStorage):
    """No end can be created while the file is there."""

    full = ""

    def create(self, key, data, **more):
        if key.endswith(".end.json") and os.path.exists(self.full):
            raise StorageError("no room left")
        return super().create(key, data, **more)


def one():
    return 1


def two():
    return 2


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_a_retry_takes_over_what_a_living_worker_had_to_leave(tmp_path, pool):
    storage = Full(tmp_path / "s", durable=False)
    storage.full = str(tmp_path / "full")
    (tmp_path / "full").touch()
    store = runstore.Store(storage)
    made = Dag([task(one, returns="x"), task(two, returns="y")])
    with pool(2) as executor:
        with pytest.raises(StorageError, match="no room left"):
            start(made, store=store, run_id="r", executor=executor, environment={}, workers=2)
        (tmp_path / "full").unlink()
        result = retry("r", made, store=store, executor=executor)
    assert (result.status, dict(result.values())) == ("succeeded", {"x": 1, "y": 2})
    history = result.run.history()
    for path in ("one", "two"):
        assert [end.outcome for end in history.ends(path)] in (["lost", "succeeded"], ["succeeded"])
    assert any(len(history.ends(path)) == 2 for path in ("one", "two"))
