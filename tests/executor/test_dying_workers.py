"""What is said of a worker process that died, and what cannot be sent to one: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runstore
from runstore import Dag, start, task
from tests.executor import forking as f
from tests.executor.test_signals import alive


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", ["exited with code 3", "see its log"]),
        ("SIGKILL", ["was killed by SIGKILL", "out-of-memory killer", "fewer steps at a time"]),
        ("SIGSEGV", ["was killed by SIGSEGV", "faulthandler"]),
    ],
)
def test_a_worker_that_died_is_said_to_have_died_of_what_it_died_of(tmp_path, how, said):
    """At once, though a child of it goes on and holds whatever it inherited."""
    marker = tmp_path / "marker"
    try:
        result = start(
            Dag([task(f.dies, returns="x")]), {"how": how, "marker": str(marker)},
            store=tmp_path / "s", run_id="r", processes=True, workers=1, environment={},
        )  # fmt: skip
    finally:
        child = int(marker.read_text())
        lived = alive(child)
        os.kill(child, signal.SIGKILL)
    assert lived, "the child sleeps for an hour"
    assert result.status == "failed"
    error = result.run.read_end("dies", 1).error
    assert error["type"] == "WorkerDied"
    assert error["message"].startswith(f"its worker process {said[0]}: ")
    for words in said[1:]:
        assert words in error["message"]
    assert error["message"].endswith("retry the run")


def test_a_command_of_a_task_hears_an_interrupt(tmp_path):
    result = start(
        Dag([task(f.interrupts_of_a_command, returns="x")]), store=tmp_path, processes=True,
        workers=1, environment={},
    )  # fmt: skip
    assert result.values()["x"] == [0, 0]


ORPHANS = """
import os
from runstore import Dag, start, task
from tests.executor import tasks as t
class Tells:
    def planned(self, plan): pass
    def began(self, step): pass
    def warned(self, message): pass
    def ended(self, step, end, error):
        import multiprocessing
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        os.kill(os.getpid(), 9)
if __name__ == "__main__":
    start(Dag([task(t.one)]), store={store!r}, processes=True, workers=1, reporter=Tells(),
          environment={{}})
"""


def test_an_idle_worker_ends_when_its_parent_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS.format(store=str(tmp_path / "s")))
    done = program(script)
    workers = [int(pid) for pid in done.stdout.split()]
    assert workers
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- programs ------------------------------------------------------------------------------------


def program(*words: object, stdin: str | None = None, **environment: str):
    root = str(Path(__file__).parent.parent.parent)
    return subprocess.run(
        [sys.executable, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "PYTHONPATH": root, **environment},
    )  # fmt: skip


SCRIPT = """
import runstore
def f():
    return 1
def g(x):
    {body}
def go():
    pipeline = runstore.sequence(runstore.task(f, returns="x"), runstore.task(g, returns="y"))
    print(runstore.start(pipeline, store={store!r}, run_id="r", processes=True).status)
"""
GUARDED = 'if __name__ == "__main__":\n    go()\n'


@pytest.mark.parametrize(("body", "status"), [("return x", "succeeded"), ("1 / 0", "failed")])
def test_a_script_leaves_nothing_on_stderr(tmp_path, body, status):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(store=str(tmp_path / "s"), body=body) + GUARDED)
    done = program(script)
    assert (done.stdout, done.stderr, done.returncode) == (f"{status}\n", "", 0)


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    text = SCRIPT.format(store=str(tmp_path / "s"), body="return x")
    script.write_text(text + "go()\n")
    done = program(script)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert f"{script} starts a run whenever it is imported" in error
    assert 'if __name__ == "__main__":' in error
    assert done.stderr.count("Traceback") == 1, "the worker says nothing of its own"
    assert not (tmp_path / "s").exists(), "nothing was written, so that the same id can be used"
    script.write_text(text + GUARDED)
    assert program(script).stdout == "succeeded\n"


def test_functions_of_a_notebook_cannot_be_sent(tmp_path):
    """`python -c` has what a notebook has: a main module without a file."""
    text = SCRIPT.format(store=str(tmp_path / "s"), body="return x") + "go()\n"
    done = program("-c", text)
    error = done.stderr.splitlines()[-1]
    assert "PipelineError: f cannot be sent to a worker process" in error
    assert "defined in a notebook" in error
    assert "put them in a .py file and import them from there, or use threads" in error
    assert not (tmp_path / "s").exists()
    done = program("-c", text.replace("processes=True", "processes=False"))
    assert done.stdout == "succeeded\n"
    done = program("-", stdin=text)
    assert "<stdin> is no file: save the program in one, or use threads" in done.stderr


def test_functions_of_modules_can_be_sent_from_a_notebook(tmp_path):
    (tmp_path / "mine.py").write_text("def f():\n    return 1\n")
    done = program(
        "-c",
        "import runstore, mine\n"
        "pipeline = runstore.sequence(runstore.task(mine.f, returns='x'))\n"
        f"print(runstore.start(pipeline, store={str(tmp_path / 's')!r}, processes=True).status)",
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(Path(runstore.__file__).parent.parent)]),
    )
    assert (done.stdout, done.stderr) == ("succeeded\n", "")


def test_functions_of_a_package_that_is_run_cannot_be_sent(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__main__.py").write_text(
        SCRIPT.format(store=str(tmp_path / "s"), body="return x") + "go()\n"
    )
    done = program("-m", "pkg", PYTHONPATH=str(tmp_path))
    assert "defined in a __main__.py" in done.stderr.splitlines()[-1]


NOTEBOOK = """
import runstore
def a():
    print("a prints")
    return 1
def b(x):
    raise ValueError("first try")
def pipeline():
    return runstore.sequence(runstore.task(a, returns="x"), runstore.task(b, returns="y"))
print(runstore.start(pipeline(), store={store!r}, run_id="n").status)
def b(x):
    return x + 1
result = runstore.retry("n", pipeline(), store={store!r})
print(result.status, result.values()["y"], *result.ran)
try:
    runstore.start(pipeline(), store={store!r}, run_id="p", processes=True)
except runstore.errors.PipelineError:
    print("refused")
import sys
print(type(sys.stdout).__name__)
"""


def test_a_notebook_runs_fails_mends_a_cell_and_retries(tmp_path):
    done = program("-c", NOTEBOOK.format(store=str(tmp_path / "s")))
    assert done.stdout.splitlines() == ["failed", "succeeded 2 b", "refused", "TextIOWrapper"]
    assert done.stderr == ""
