"""SIGKILL for real processes at random moments, on local disk; the next one goes on by itself."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from runstore import open_store, start
from tests.crash.pipelines import CASES
from tests.exploration import randomness
from tests.forkserver import Child, fork_server
from tests.verified import verified


def invoke(store: str, name: str, **options: Any) -> Child:
    """A new process that starts the run, or retries what is there."""
    server = fork_server("tests.crash.invoking")
    return server.spawn("tests.crash.invoking:invoke", store, name, options)


@pytest.mark.explored
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("name", ["flow", "files", "handled"])
def test_killed_again_and_again(tmp_path, name, workers):
    moments = randomness("kill", name, workers)
    killed = 0
    longest = 0.02
    for run in range(60):
        if killed >= 8:
            break
        before = killed
        store = str(tmp_path / f"store{run}")
        for _ in range(60):
            child = invoke(store, name, workers=workers)
            time.sleep(moments.uniform(0, longest))
            child.kill()
            if child.wait() != -signal.SIGKILL:
                assert child.returncode == 0
                break
            killed += 1
        else:
            assert invoke(store, name).wait() == 0
        case = CASES[name]
        whole = start(case.dag, case.parameters, store=f"memory://{name}{workers}", environment={})
        store_run = open_store(store).get_run("r")
        assert store_run.plan().status == whole.status == "succeeded"
        assert store_run.values() == whole.values()
        assert not [problem for _, problem in verified(store_run) if problem]
        if case.clean:
            history = store_run.history()
            for path in history.paths():
                outcomes = [end.outcome for end in history.ends(path)]
                assert outcomes.count("succeeded") == 1, f"{path}: {outcomes}"
                assert set(outcomes) <= {"succeeded", "lost"}
        if killed == before:
            longest /= 2  # this machine is quick
    assert killed >= 8
