"""Processes that a task forks are plain: nothing of ours is theirs, and they record nothing.

The oracle looks at the files of the store and at what the kernel says of the children.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import runstore
from runstore import Dag, start, task
from runstore.collector import no_collection
from tests.executor import forking as f

BOTH = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


def run(function, store, processes, parameters=None):
    result = start(
        Dag([task(function, returns="out")]), parameters, store=store, run_id="r", workers=1,
        processes=processes, environment={},
    )  # fmt: skip
    assert result.status == "succeeded", result.run.read_end(function.__name__, 1).error
    return result.values()["out"]


def log_of(store, path):
    made = runstore.open_store(store).get_run("r")
    blob = made.read_end(path, 1).log
    return (Path(store) / made.blobs.key(blob.sha256)).read_text() if blob else ""


@BOTH
@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("return", 0, ""),
        ("raise", 1, "ValueError: in the child"),
        ("exit", 7, ""),
        ("exit with a text", 1, "a text"),
        ("interrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_a_child_that_leaves_its_task_ends_and_records_nothing(
    tmp_path, processes, how, code, said
):
    assert run(f.forks, tmp_path, processes, {"how": how}) == code, "the parent's value stands"
    records = [path.name for path in sorted(tmp_path.glob("runs/r/**/attempts/*.json"))]
    assert records == ["forks.000001.end.json", "forks.000001.start.json"]
    log = log_of(tmp_path, "forks")
    assert "printed by the child" in log
    assert said in log


@BOTH
def test_a_child_is_ended_by_terminate(tmp_path, processes):
    assert run(f.terminates, tmp_path, processes) == -15


@BOTH
def test_a_command_with_a_preexec_is_ended_by_terminate(tmp_path, processes):
    assert run(f.runs_with_preexec, tmp_path, processes) == -15


@BOTH
def test_a_pool_that_is_left_early_ends(tmp_path, processes):
    # Its workers hear SIGTERM: else this waits for the test's limit.
    assert run(f.leaves_a_pool, tmp_path, processes) == 4


EARLY = """
import os, signal, time
ended = []
# Runs before what the library does in a child, for it is registered before.
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
from runstore import Dag, start, task
def forks():
    pid = os.fork()
    if not pid:
        time.sleep(5)
        os._exit(0)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
start(Dag([task(forks)]), store="memory://early", environment={})
print(*ended)
"""


def test_a_child_is_ended_by_a_signal_that_comes_as_it_is_forked():
    done = subprocess.run(
        [sys.executable, "-c", EARLY], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("-15\n", "")


@BOTH
def test_a_child_has_the_handlers_of_a_program_without_us(tmp_path, processes):
    handlers, collects = run(f.asks_a_child, tmp_path, processes)
    assert handlers == ["default_int_handler", str(f.signal.SIG_DFL)]
    assert collects
    assert log_of(tmp_path, "asks_a_child") == "printed in a process of multiprocessing\n"


@BOTH
def test_a_child_prints_though_a_thread_was_printing_when_it_was_forked(tmp_path, processes):
    assert run(f.prints_while_it_forks, tmp_path, processes) == [0] * 30
    assert log_of(tmp_path, "prints_while_it_forks").count("child") == 30


def test_a_child_collects_garbage_though_it_was_forked_while_a_plan_was_made():
    with no_collection():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        assert f._until(child) == 0
        assert not gc.isenabled()
    assert gc.isenabled()
