"""A fork that is stopped at any operation: the origin is as it was, and the fork can be made."""

from __future__ import annotations

import contextlib

import pytest

from runstore import fork, retry
from runstore.errors import RunExistsError, RunNotFailedError, StorageError
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from tests.crash.breaking import Breaking, Death
from tests.crash.pipelines import CASES
from tests.crash.test_crash_law import HOWS, begin
from tests.verified import verified


def make(case, storage, parameters=None):
    return fork("r", case.dag, parameters, store=Store(storage), new_run_id="f", workers=1)


@pytest.mark.parametrize("how", HOWS)
def test_a_fork_is_stopped_and_made_again(how):
    case = CASES["flow"]
    origin = MemoryStorage("origin")
    begin(case, origin)
    before = dict(origin._objects)
    whole = MemoryStorage("whole")
    whole._objects = dict(before)
    counting = Breaking(whole)
    expected = make(case, counting, {"n": 4})
    assert expected.status == "succeeded"
    for at in range(counting.count):
        inner = MemoryStorage("broken")
        inner._objects = dict(before)
        breaking = Breaking(inner, at, how)
        # A failure to write the last pack is no failure of the run: it raises nothing.
        with contextlib.suppress(Death, StorageError):
            make(case, breaking, {"n": 4})
        assert breaking.broke
        try:
            result = make(case, inner, {"n": 4})
        except RunExistsError:
            try:
                result = retry("f", case.dag, store=Store(inner), workers=1, takeover="all")
            except RunNotFailedError:
                result = None
        run = Store(inner).get_run("f")
        assert run.plan().status == "succeeded", breaking.broke
        assert run.values() == expected.values()
        assert result is None or result.values() == expected.values()
        assert not [problem for _, problem in verified(run) if problem]
        assert {k: v for k, v in inner._objects.items() if not k.startswith("runs/f/")} == before
