"""SIGINT and SIGTERM to a real process: attempts end as cancelled, and it exits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task, retry, task
from tests.executor import tasks as t

SCRIPT = """
import os, sys
from tests.executor.test_signals import pipeline
from runstore import start
result = start(pipeline({kind!r}, {folder!r}), store={store!r}, run_id="r", processes={processes},
               workers=2, environment={{}})
print(result.status, result.signal, flush=True)
{exit}
"""

SHELL = "echo $$ > {marker}; trap '' HUP; sleep 60 & wait"


def pipeline(kind: str, folder: str, seconds: float = 60) -> Dag:
    """Two steps that are at it, one that is done, one that comes later."""
    nodes = [task(t.one, returns="x")]
    for name in ("a", "b"):
        marker = os.path.join(folder, name)
        if kind == "shell":
            command = SHELL.format(marker=marker) if seconds else "true"
            nodes.append(Task(name=name, type="shell", after=("one",), config={"command": command}))
        else:
            nodes.append(
                Task(
                    name=name,
                    params=("seconds", "marker"),
                    after=(f"to_{name}",),
                    config={"callable": "tests.executor.tasks:sleeps"},
                )
            )
            giver = Task(
                name=f"to_{name}",
                after=("one",),
                returns=("seconds", "marker"),
                config={"callable": f"tests.executor.test_signals:to_{name}"},
            )
            nodes.append(giver)
    nodes.append(task(t.one, name="later", after=("a", "b")))
    return Dag(nodes)


def to_a():
    return float(os.environ["SECONDS"]), os.path.join(os.environ["FOLDER"], "a")


def to_b():
    return float(os.environ["SECONDS"]), os.path.join(os.environ["FOLDER"], "b")


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text().strip() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["threads", "shell", "processes"])
def test_a_signal_ends_what_is_in_progress_as_cancelled(tmp_path, monkeypatch, kind, number):
    store = tmp_path / "store"
    script = SCRIPT.format(
        kind=kind,
        folder=str(tmp_path),
        store=str(store),
        processes=kind == "processes",
        # A thread cannot be killed: a program that has threads asleep must leave like this.
        exit="os._exit(0)" if kind == "threads" else "",
    )
    environment = {**os.environ, "SECONDS": "60", "FOLDER": str(tmp_path)}
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(tmp_path / "a", tmp_path / "b")
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out.split()[0] == "cancelled", (out, err)
    assert child.returncode == 0, err
    run = runstore.open_store(store).get_run("r")
    history = run.history()
    assert not list(history.open()), "nothing is left in progress"
    outcomes = {p: [end.outcome for end in history.ends(p)] for p in sorted(history.paths())}
    assert (outcomes["one"], outcomes["a"], outcomes["b"]) == (
        ["succeeded"], ["cancelled"], ["cancelled"],
    )  # fmt: skip
    assert "later" not in outcomes
    if kind != "threads":
        for name in "ab":
            assert not alive(int((tmp_path / name).read_text()))
    monkeypatch.setenv("SECONDS", "0")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    if kind != "shell":
        result = retry("r", pipeline(kind, str(tmp_path)), store=store, force=["to_a", "to_b"])
    else:
        result = retry("r", pipeline(kind, str(tmp_path), 0), store=store)
    assert result.status == "succeeded"
    assert "one" not in result.ran


LATE = """
import os, sys, threading, time
from tests.executor.test_signals import pipeline
from runstore import start
threading.Timer({delay}, os.kill, [os.getpid(), 15]).start()
result = start(pipeline("processes", {folder!r}), store={store!r}, run_id="r", processes=True,
               workers=2, environment={{}})
print(result.status, flush=True)
"""


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.4, 0.5])
def test_a_signal_while_workers_are_starting(tmp_path, delay):
    """Whatever they were about to do: they end, and nothing begins after the end."""
    store = tmp_path / "store"
    script = LATE.format(folder=str(tmp_path), store=str(store), delay=delay)
    environment = {**os.environ, "SECONDS": "60", "FOLDER": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, timeout=30, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, -15), done.stderr
    if not (store / "runs").exists():
        return  # it came before anything was written
    assert done.stdout.split() in (["cancelled"], []), done.stderr
    history = runstore.open_store(store).get_run("r").history()
    if done.returncode == 0:
        assert not list(history.open())
    time.sleep(0.3)
    assert not [p for p in map(history_pid, history.attempts.values()) if p and alive(p)]


def history_pid(attempts) -> int | None:
    by = getattr(attempts[-1], "by", None)
    return by.pid if by else None


STUBBORN = """
import runstore.executor.shell as shell
shell.GRACE_SECONDS = 0.3
from runstore import Task, sequence, start
command = "trap '' TERM; echo $$ > {marker}; while :; do sleep 0.1; done"
pipeline = sequence(Task(name="c", type="shell", config={{"command": command}}))
print(start(pipeline, store={store!r}, run_id="r", environment={{}}).status, flush=True)
"""


def test_a_command_that_does_not_listen_is_killed(tmp_path):
    marker = tmp_path / "marker"
    script = STUBBORN.format(marker=marker, store=str(tmp_path / "store"))
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(marker)
        child.terminate()
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out.split() == ["cancelled"]
    assert not alive(int(marker.read_text()))
    assert (
        runstore.open_store(tmp_path / "store").get_run("r").read_end("c", 1).outcome == "cancelled"
    )


def test_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    runstore.start(Dag([task(t.one)]), store="memory://handlers", environment={})
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_second_signal_ends_it_at_once(tmp_path, kind):
    """A command that hears no SIGTERM is killed, and its attempt ends as cancelled."""
    marker = tmp_path / "marker"
    script = STUBBORN.replace("0.3", "300").format(marker=marker, store=str(tmp_path / "store"))
    if kind == "processes":
        script = script.replace("run_id=", "processes=True, run_id=")
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(marker)
        child.send_signal(signal.SIGINT)
        time.sleep(0.03)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out.split() == ["cancelled"]
    assert not alive(int(marker.read_text()))
    assert (
        runstore.open_store(tmp_path / "store").get_run("r").read_end("c", 1).outcome == "cancelled"
    )


def test_an_interrupt_that_is_no_signal_ends_commands_too(tmp_path):
    marker = tmp_path / "marker"

    class Interrupting(runstore.executor.Silent):
        def ended(self, step, end, error):
            wait_for(marker)
            raise KeyboardInterrupt

    command = f"echo $$ > {marker}; sleep 60"
    dag = Dag([task(t.one), Task(name="c", type="shell", config={"command": command})])
    with pytest.raises(KeyboardInterrupt):
        runstore.start(
            dag, store=tmp_path / "s", run_id="r", reporter=Interrupting(), environment={}
        )
    assert runstore.open_store(tmp_path / "s").get_run("r").read_end("c", 1).outcome == "cancelled"
    deadline = time.monotonic() + 30
    while alive(int(marker.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
