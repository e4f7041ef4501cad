"""A run is removed while it is worked on: who works on it is told, and stops, and another run of
the same id has nothing to do with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task, start, task
from runstore.errors import RunRemovedError
from runstore.upkeep import remove_run
from tests.executor import tasks as t
from tests.executor.test_signals import alive
from tests.places import home
from tests.verified import verified

COMMAND = "echo $$ > {marker}; sleep 3600 & wait"


def waits(folder):
    """Is at it until somebody says so."""
    Path(folder, "in").touch()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.02)
    return "old"


def comes_later(y):
    return y


def pipeline(folder: Path, long: str) -> Dag:
    marker = folder / "long"
    if long == "shell":
        other = Task(name="long", type="shell", config={"command": COMMAND.format(marker=marker)})
    else:
        other = task(t.sleeps, name="long")
    return Dag([
        task(waits, returns="y"), other, task(comes_later, after="waits", returns="z"),
    ])  # fmt: skip


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parameters(folder: Path, long: str) -> dict[str, object]:
    given: dict[str, object] = {"folder": str(folder)}
    if long == "python":
        given |= {"seconds": 3600.0, "marker": str(folder / "long")}
    return given


def written(folder: Path) -> dict[str, bytes]:
    return {str(f): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("anew", [True, False], ids=["made anew", "gone"])
@pytest.mark.parametrize(
    ("long", "processes"),
    [("shell", False), ("shell", True), ("python", True)],
    ids=["threads", "processes", "processes at python"],
)
def test_it_stops_and_says_so(tmp_path, long, processes, anew):
    dag = pipeline(tmp_path, long)
    url = tmp_path / "s"
    new: dict[str, bytes] = {}

    def removes() -> None:
        until(lambda: (tmp_path / "in").exists() and (tmp_path / "long").exists())
        until(lambda: (tmp_path / "long").read_text().strip())
        store = runstore.open_store(url)
        old = home(url)
        remove_run(store.storage, "r", force=True)
        if anew:
            run = store.create_run(Dag([task(t.one, returns="x")]), run_id="r")
            run.begin("one").succeed({"x": 1})
            assert home(url) != old
            new.update(written(home(url)))
        (tmp_path / "go").touch()

    other = threading.Thread(target=removes)
    other.start()
    with pytest.raises(RunRemovedError, match=r"run 'r' was removed .* stop") as caught:
        start(
            dag, parameters(tmp_path, long), store=url, run_id="r", processes=processes, workers=2,
            environment={},
        )  # fmt: skip
    other.join()
    assert caught.value.run_id == "r"
    pid = int((tmp_path / "long").read_text())
    until(lambda: not alive(pid))
    store = runstore.open_store(url)
    if not anew:
        assert list(store.run_ids()) == []
        return
    assert written(home(url)) == new
    run = store.get_run("r")
    assert run.values() == {"x": 1}
    assert [problem for _, problem in verified(run) if problem] == []


SCRIPT = """
import os, time
import runstore
def waits():
    open("in", "w").close()
    while not os.path.exists("go"): time.sleep(0.02)
    return "old"
def last(y): return y
pipeline = runstore.sequence(runstore.task(waits, returns="y"), runstore.task(last, returns="z"))
"""


@pytest.mark.parametrize("options", [(), ("--processes",)], ids=["threads", "processes"])
def test_the_command_says_it_in_one_sentence(tmp_path, options):
    (tmp_path / "p.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "runstore.cli"]
    zombie = subprocess.Popen(
        [*command, "run", "p.py", "--run-id", "daily", *options], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        until((tmp_path / "in").exists)
        subprocess.run([*command, "rm", "daily", "--yes", "--force"], cwd=tmp_path, check=True)
        runstore.open_store(tmp_path / ".runstore").create_run(Dag([task(t.one)]), run_id="daily")
        (tmp_path / "go").touch()
        _, said = zombie.communicate(timeout=60)
    finally:
        zombie.kill()
    assert zombie.returncode == 2
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "run 'daily' was removed from" in sentence
    for word in ("Traceback", "bug", "warning", "has ended already"):
        assert word not in said


REMOVES = """
import runstore
from runstore.upkeep import remove_run

parameters = {"store": STORE, "fails": False}

def works(store, fails, attempt: runstore.Attempt):
    (attempt.folder / "kept.txt").write_text("made")
    remove_run(runstore.open_store(store).storage, "r", force=True)
    if fails:
        raise ValueError("after it was removed")
    return 1

def after(x):
    return x

pipeline = runstore.sequence(runstore.task(works, returns="x"), runstore.task(after, returns="y"))
"""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("how", [[], ["--processes"]], ids=["threads", "processes"])
def test_the_files_of_a_step_whose_run_is_gone_are_kept_and_named(tmp_path, how, fails):
    store = tmp_path / "store"
    pipeline = tmp_path / "p.py"
    pipeline.write_text(REMOVES.replace("STORE", repr(str(store))))
    command = [
        sys.executable, "-m", "runstore.cli", "run", str(pipeline), "--run-id", "r", "--store",
        str(store), "--param", f"fails={json.dumps(fails)}", *how,
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    said = done.stderr.splitlines()[-1]
    assert "error: run 'r' was removed from" in done.stderr
    assert "the files of this attempt are kept in " in said
    assert (Path(said.rpartition(" kept in ")[2]) / "kept.txt").read_text() == "made"
    assert not list(store.glob("runs/r/run.json"))
    ends = [json.loads(path.read_bytes())["record"] for path in store.glob("runs/r/**/*.end.json")]
    assert {end["path"] for end in ends} <= {"works"}, "nothing was begun after that"
