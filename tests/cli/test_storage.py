"""Stores that cannot be written, tasks and workers that die."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Shell


def test_a_file_in_the_place_of_the_store(shell: Shell) -> None:
    shell.write("store", "")
    assert "store" in shell.refused(3, "run", "p.py", "--store", "store")


def test_a_read_only_store(shell: Shell, mounted: Callable[..., Path]) -> None:
    folder = mounted("size=4m")
    store = str(folder / "store")
    assert shell("run", "p.py", "--run-id", "r", "--store", store, BREAK="1")[0] == 1
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    sentence = shell.refused(3, "run", "p.py", "--store", store)
    assert "Read-only file system" in sentence
    assert shell("plan", "r", "--store", store)[0] == 0
    assert shell("verify", "r", "--store", store)[0] == 0
    assert shell("retry", "r", "--store", store)[0] == 3
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    assert shell("retry", "r", "--store", store)[0] == 0


FULL = """
import os
from runstore import Dag, Map, task
def make():
    return list(range(40))
def work(item):
    return str(item) * 20_000
pipeline = Dag([task(make, returns="items"),
    Map(name="mp", after=["make"], over="items", as_="item", body=Dag([task(work, returns="x")]))])
"""


def test_a_full_disk(shell: Shell, mounted: Callable[..., Path]) -> None:
    shell.write("full.py", FULL)
    folder = mounted("size=600k")
    store = str(folder / "store")
    code, _, err = shell("run", "full.py", "--run-id", "r", "--store", store)
    assert code == 3
    assert "No space left on device" in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    subprocess.run(["mount", "-o", "remount,size=32m", str(folder)], check=True)
    code, out, err = shell("retry", "r", "--store", store)
    assert code == 0, err
    assert "run r succeeded" in out
    assert shell("verify", "r", "--store", store)[0] == 0


def test_a_task_that_leaves(shell: Shell) -> None:
    shell.write("l.py", "import sys\nfrom runstore import Dag, task\ndef f():\n    sys.exit(9)\n"
                        "pipeline = Dag([task(f)])\n")  # fmt: skip
    code, _, err = shell("run", "l.py")
    assert code == 1
    assert "✗ f: TaskFailedError: the task called sys.exit(9)" in err


KILLED = """
import os, signal
from runstore import Dag, task
def f():
    os.kill(os.getpid(), signal.SIGKILL)
pipeline = Dag([task(f)])
"""


def test_a_worker_that_is_killed(shell: Shell) -> None:
    shell.write("k.py", KILLED)
    code, _, err = shell("run", "k.py", "--processes", "--run-id", "r")
    assert code == 1
    assert "✗ f: WorkerDied: its worker process was killed by SIGKILL" in err


def test_a_bug_is_called_one(shell: Shell) -> None:
    code = (
        "import runstore.store, runstore.cli\n"
        "def broken(*_, **__): raise ZeroDivisionError('of mine')\n"
        "runstore.store.open_store = broken\n"
        "runstore.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ls"],
        cwd=shell.folder, env=shell.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 70
    assert done.stderr.startswith("error: this is a bug in runstore (ZeroDivisionError: of mine)")
    assert "Traceback" not in done.stderr


def test_a_terminal_of_ascii_only(shell: Shell) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, _, err = shell("run", "p.py", "--run-id", "r", BREAK="1", **ascii_only)
    assert code == 1
    assert "FAILED mp[1]/work: ValueError" in err
    assert err.isascii()
    assert shell("run", "p.py", "--run-id", "caf\u00e9", **ascii_only)[0] in (0, 2)
    assert shell("ls", **ascii_only)[0] == 0
