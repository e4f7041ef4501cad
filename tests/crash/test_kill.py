"""SIGKILL for real processes at random moments, on local disk; the next one goes on by itself."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback

import pytest

from runstore import open as open_store
from runstore import retry, start
from runstore.errors import RunNotFailedError, RunNotFoundError
from tests.crash.pipelines import CASES


def invoke(store: str, name: str, **options) -> int:
    """In a forked child: start, or retry what is there. Its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    signal.alarm(60)
    try:
        case = CASES[name]
        try:
            retry("r", case.dag, store=open_store(store, durable=False), **options)
        except RunNotFoundError:
            start(
                case.dag,
                case.parameters,
                store=open_store(store, durable=False),
                run_id="r",
                environment={},
                **options,
            )
        except RunNotFailedError:
            pass
        status = 0
    except BaseException:  # noqa: BLE001 - the child says what it was, and ends
        traceback.print_exc()
    finally:
        os._exit(status)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("name", ["flow", "files", "handled"])
def test_killed_again_and_again(tmp_path, name, workers):
    moments = random.Random(f"{name}{workers}")
    killed = 0
    longest = 0.02
    for run in range(60):
        if killed >= 8:
            break
        before = killed
        store = str(tmp_path / f"store{run}")
        for _ in range(60):
            pid = invoke(store, name, workers=workers)
            time.sleep(moments.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                killed += 1
            else:
                assert os.WEXITSTATUS(status) == 0
                break
        else:
            assert os.waitpid(invoke(store, name), 0)[1] == 0
        case = CASES[name]
        whole = start(case.dag, case.parameters, store=f"memory://{name}{workers}", environment={})
        store_run = open_store(store).run("r")
        assert store_run.plan().status == whole.status == "succeeded"
        assert store_run.values() == whole.values
        assert not [problem for _, problem in store_run.verify() if problem]
        if case.clean:
            history = store_run.history()
            for path in history.paths():
                outcomes = [end.outcome for end in history.ends(path)]
                assert outcomes.count("succeeded") == 1, f"{path}: {outcomes}"
                assert set(outcomes) <= {"succeeded", "lost"}
        if killed == before:
            longest /= 2  # this machine is quick
    assert killed >= 8
