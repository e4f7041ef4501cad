"""Signals, readers that go away, two at once, terminals."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

HANGS = """
import pathlib, time
from runstore import Dag, task
def first():
    return 1
def hang(x):
    pathlib.Path("here").touch()
    time.sleep(300)
pipeline = Dag([task(first, returns="x"), task(hang, after="first")])
"""


def _await(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code", "more"),
    [
        (signal.SIGINT, 130, ()),
        (signal.SIGTERM, 143, ()),
        (signal.SIGTERM, 143, ("--processes",)),
        (signal.SIGHUP, 129, ()),
    ],
)
def test_a_signal_ends_it_though_a_task_hangs(
    shell: Shell, number: signal.Signals, code: int, more: tuple[str, ...]
) -> None:
    shell.write("h.py", HANGS)
    process = shell.begin("run", "h.py", "--run-id", "r", *more)
    _await(shell.folder / "here")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert f"cancelled by {number.name}" in err
    assert " ".join(["runstore retry", *more, "r h.py"]) in err
    assert "Traceback" not in err
    assert "ignored" not in err, "as Python says at exit of what it could not do"
    steps = {step["path"]: step for step in shell.json("plan", "r")["steps"]}
    assert steps["hang"]["reason"] == "cancelled"
    assert steps["first"]["action"] == "SKIP"


@pytest.mark.parametrize("more", [(), ("--processes",)])
def test_a_signal_ends_commands_too(shell: Shell, more: tuple[str, ...]) -> None:
    shell.write(
        "s.yaml", f'steps: [{{name: s, command: "echo $$ > {shell.folder}/here; sleep 300"}}]'
    )
    process = shell.begin("run", "s.yaml", "--run-id", "r", *more)
    _await(shell.folder / "here")
    time.sleep(0.1)
    pid = int((shell.folder / "here").read_text())
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    deadline = time.monotonic() + 5
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


STUBBORN = """
steps:
  - name: s
    command: |
      {leader}
      (trap '' TERM HUP; echo ready > {here}/grandchild; while :; do sleep 0.1; done) &
      echo $$ > {here}/here
      while :; do sleep 0.1; done
"""


def _living(group: int) -> list[str]:
    """The processes of a group, as the kernel has them; those that only await their burial not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(folder.name)
    return found


@pytest.mark.parametrize("more", [(), ("--processes",)])
@pytest.mark.parametrize("leader", ["trap '' TERM", ":"], ids=["deaf", "hearing"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_command_and_what_it_started_are_gone_when_the_run_was_cancelled(
    shell: Shell, more: tuple[str, ...], leader: str, times: int
) -> None:
    """Whoever of them does not hear SIGTERM; and it is cancelled in a limited time."""
    shell.write("s.yaml", STUBBORN.format(leader=leader, here=shell.folder))
    process = shell.begin("run", "s.yaml", "--run-id", "r", *more)
    _await(shell.folder / "grandchild")
    _await(shell.folder / "here")
    time.sleep(0.2)
    group = int((shell.folder / "here").read_text())
    assert len(_living(group)) >= 2
    for _ in range(times):
        process.terminate()
        time.sleep(0.3)
    _, err = process.communicate(timeout=50)
    assert process.returncode == 143
    assert _living(group) == []
    assert "cancelled by SIGTERM" in err
    if times == 1:  # a second one waits for nothing
        assert "1 step ran" in err
        assert shell.json("show", "r")["attempts"][0]["outcome"] == "cancelled"


@pytest.mark.parametrize("more", [(), ("--processes",)])
def test_a_terminal_that_is_closed_ends_the_run_and_its_commands(
    shell: Shell, more: tuple[str, ...]
) -> None:
    """The kernel sends SIGHUP to all processes of the terminal, and writing to it fails."""
    shell.write("s.yaml", STUBBORN.format(leader=":", here=shell.folder))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shell.folder)
        words = [sys.executable, "-m", "runstore.cli", "run", "s.yaml", "--run-id", "r", *more]
        os.execve(sys.executable, words, shell.environment | {"TERM": "xterm"})
    _await(shell.folder / "grandchild")
    _await(shell.folder / "here")
    time.sleep(0.2)
    group = int((shell.folder / "here").read_text())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert _living(group) == []
    assert os.waitstatus_to_exitcode(status) == 129
    assert [a["outcome"] for a in shell.json("show", "r")["attempts"]] == ["cancelled"]


def test_what_a_command_left_in_the_background_holds_nobody_up(shell: Shell) -> None:
    shell.write(
        "s.yaml",
        f'steps: [{{name: s, command: "(sleep 50; echo late) & echo $$ > {shell.folder}/here"}}]',
    )
    code, _, err = shell("run", "s.yaml", "--run-id", "r")
    group = int((shell.folder / "here").read_text())
    living = _living(group)
    os.killpg(group, signal.SIGKILL)
    assert code == 0, err
    assert living, "it goes on, as after a shell"


def test_a_step_reads_nothing_of_the_terminal(shell: Shell) -> None:
    shell.write("s.yaml", 'steps: [{name: s, command: "cat; read x || echo nothing"}]')
    for more in ((), ("--processes",)):
        words = ["run", "s.yaml", "--run-id", f"r{len(more)}", *more]
        with subprocess.Popen(
            [sys.executable, "-m", "runstore.cli", *words],
            cwd=shell.folder, env=shell.environment, stdin=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.wait(timeout=50) == 0  # nothing was written to it, and it was not closed
        assert shell("logs", f"r{len(more)}", "s")[1] == "nothing\n"


def test_what_a_program_ignores_stays_ignored(shell: Shell) -> None:
    """A job that a script started in the background is not ended by Ctrl-C, nor one of nohup."""
    shell.write("h.py", HANGS.replace("300", "3"))
    process = subprocess.Popen(
        ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "runstore.cli",
         "run", "h.py", "--run-id", "r"],
        cwd=shell.folder, env=shell.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _await(shell.folder / "here")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=50)
    assert process.returncode == 0
    assert shell.json("plan", "r")["status"] == "succeeded"


def test_two_at_once_and_a_takeover(shell: Shell) -> None:
    shell.write("h.py", HANGS)
    process = shell.begin("run", "h.py", "--run-id", "r")
    _await(shell.folder / "here")
    code, _, err = shell("retry", "r", "h.py")
    assert code == 2
    error = next(line for line in err.splitlines() if line.startswith("error: "))
    assert f"process {process.pid} on {socket.gethostname()}" in error
    assert "--takeover all" in error
    assert "in progress" in shell("ls", "-l")[1]
    process.kill()
    process.communicate()
    shell.write("h.py", HANGS.replace("300", "0"))
    code, _, err = shell("retry", "r")
    assert code == 0, err
    outcomes = [a["outcome"] for a in shell.json("show", "r")["attempts"] if a["path"] == "hang"]
    assert outcomes == ["lost", "succeeded"]


def test_an_age_for_takeover(shell: Shell) -> None:
    shell.write("h.py", HANGS)
    process = shell.begin("run", "h.py", "--run-id", "r")
    _await(shell.folder / "here")
    shell.write("h.py", HANGS.replace("300", "0"))
    assert shell("retry", "r", "--takeover", "1d")[0] == 2
    assert shell("retry", "r", "--takeover", "0.01s")[0] == 0
    process.kill()
    process.communicate()


def test_a_reader_that_goes_away(shell: Shell) -> None:
    shell.write("one.yaml", 'steps: [{name: a, command: "true"}]')
    shell("run", "one.yaml", "--run-id", "r")
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "runstore.cli"]
    for verb, code in (("ls", 141), ("show r", 141), ("plan r --format json", 141)):
        done = subprocess.run(
            [*words, *verb.split()], cwd=shell.folder, env=shell.environment, stdout=writer,
            stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, b"")
    done = subprocess.run(
        [*words, "run", "one.yaml", "--run-id", "q"], cwd=shell.folder, env=shell.environment,
        stdout=writer, stderr=writer, check=False,
    )  # fmt: skip
    os.close(writer)
    assert shell.json("plan", "q")["status"] == "succeeded"


LOUD = """
import subprocess, threading, time
from runstore import Dag, Map, task
def make():
    return list(range(50))
def work(item):
    print("captured", item)
    if item == 7:
        subprocess.run(["echo", "from a subprocess"])
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        raise ValueError("no [red]such[/red] thing")
    time.sleep(0.02)
    return item
pipeline = Dag([task(make, returns="items"),
    Map(name="mp", after=["make"], over="items", as_="item", body=Dag([task(work, returns="x")]))])
"""


def test_on_a_terminal(shell: Shell) -> None:
    shell.write("loud.py", LOUD)
    code, text = _on_a_terminal(shell, "run", "loud.py", "--run-id", "r")
    assert code == 1
    assert "running" in text
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert "✓" not in plain
    assert "captured" not in plain
    assert (
        plain.count("✗ mp[7]/work: ValueError: no [red]such[/red] thing") == 2
    )  # now, and summary
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert "from a subprocess" in lines
    assert "from a thread" in lines
    code, text = _on_a_terminal(shell, "plan", "r")
    assert code == 0
    assert "49 items done" in text
    assert "\x1b[" in text
    assert "\x1b[" not in _on_a_terminal(shell, "plan", "r", NO_COLOR="1", TERM="dumb")[1]
    code, text = _on_a_terminal(shell, "retry", "r", TERM="dumb")
    assert "\x1b[" not in text


def _on_a_terminal(shell: Shell, *words: str, **environment: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runstore.cli", *words],
        cwd=shell.folder, env=shell.environment | {"TERM": "xterm", "COLUMNS": "100"} | environment,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    out = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(ours)
    return process.wait(timeout=30), out.decode()
