"""The plan is what a retry does, and the commands that are printed do what is left."""

from __future__ import annotations

import json
import shlex
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


def files(shell: Shell) -> dict[str, bytes]:
    root = shell.folder / ".runstore"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def hanging(shell: Shell) -> int:
    """A run that was killed while it hung; the pid of its process."""
    shell.write("h.py", HANGS)
    process = shell.begin("run", "h.py", "--run-id", "r")
    deadline = time.monotonic() + 30
    while not (shell.folder / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "in progress" in shell("ls", "-l")[1]
    code, out, _ = shell("plan", "r")
    assert code == 0
    assert "hang   WAIT    in progress elsewhere" in out
    assert f"process {process.pid} on {socket.gethostname()}, since 20" in out
    assert "runstore retry --takeover all r" in out
    (held,) = shell.json("plan", "r")["in_progress"]
    assert held["path"] == "hang"
    assert held["by"]["pid"] == process.pid
    assert held["option"] == "--takeover all"
    process.kill()
    process.communicate()
    return process.pid


def test_the_plan_asks_the_kernel_as_a_retry_does(shell: Shell) -> None:
    pid = hanging(shell)
    before = files(shell)
    code, out, err = shell("plan", "r")
    assert (code, err) == (0, "")
    assert "hang   RUN     lost" in out
    assert f"process {pid}" in out
    assert "--takeover" not in out
    document = shell.json("plan", "r")
    assert document["in_progress"] == []
    step = document["steps"][1]
    assert (step["action"], step["reason"], step["attempt"]) == ("RUN", "lost", 2)
    assert "lost" in shell("ls", "-l")[1]
    assert files(shell) == before, "nothing was written"
    shell.write("h.py", HANGS.replace("300", "0"))
    assert shell("retry", "r")[0] == 0
    told = shell("logs", "r", "hang", "--attempt", "1")[2]
    assert "its log was lost with its process" in told
    assert "wrote nothing" not in told


def test_the_plan_of_what_is_elsewhere(shell: Shell) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAME": "pod-7"}
    code = (
        "import runstore, socket\n"
        "socket.gethostname = lambda: 'elsewhere'\n"
        "dag = runstore.Dag([runstore.Task(name='a', type='shell', config={'command': 'true'})])\n"
        "runstore.open_store('.runstore').create_run(dag, run_id='r').begin('a')"
    )
    environment = shell.environment | pod
    subprocess.run([sys.executable, "-c", code], cwd=shell.folder, env=environment, check=True)
    before = files(shell)
    code, out, _ = shell("plan", "r")
    assert code == 0
    assert "a     WAIT    in progress elsewhere" in out
    assert "pod pod-7, since 20" in out
    assert "runstore retry --takeover all r" in out
    assert "WAIT" in shell("plan", "r", "--takeover", "1d")[1]
    for takeover in ("all", "0"):
        assert "RUN     lost" in shell("plan", "r", "--takeover", takeover)[1]
    assert "30m, 2h or 1d" in shell.refused(2, "plan", "r", "--takeover", "soon")
    assert files(shell) == before


def advised(err: str) -> list[str]:
    """The last command that was printed, as words."""
    words = shlex.split(err.splitlines()[-1])
    assert words[0] == "runstore"
    return words[1:]


def test_the_retry_is_as_the_run_was(shell: Shell) -> None:
    _, _, err = shell("run", "p.py", "--run-id", "r", "--processes", "--workers", "2", BREAK="1")
    assert advised(err) == ["retry", "--processes", "--workers", "2", "r", "p.py"]
    _, _, err = shell("retry", "r", BREAK="1")
    assert advised(err) == ["retry", "r"]
    changed = (shell.folder / "p.py").read_text().replace("task(total,", "task(total, name='sum',")
    shell.write("q.py", changed)
    _, _, err = shell("retry", "r", "q.py", "--keep-unchanged", "--workers", "1", BREAK="1")
    assert advised(err) == ["retry", "--workers", "1", "--keep-unchanged", "r", "q.py"]
    assert shell(*advised(err))[0] == 0
    _, _, err = shell("fork", "r", "p.py", "--run-id", "-f", "-p", "n=4", "--processes", BREAK="3")
    assert advised(err) == ["retry", "--processes", "--", "-f", "p.py"]
    assert shell(*advised(err))[0] == 0


VALUES = """
import os
from runstore import Conditional, Dag, Loop, Map, task
def judge():
    return os.environ["VERDICT"]
def ship():
    pass
def turn():
    return "LAST" in os.environ
def give():
    return 1
def use(x):
    pass
gate = Conditional(name="gate", on="verdict", branches={"yes": Dag([task(ship)])})
after = Conditional(name="gate", after=["judge"], on="verdict", branches={"yes": Dag([task(ship)])})
by_step = Dag([task(judge, returns="verdict"), after])
by_parameter = Dag([gate])
inside = Dag([task(judge, returns="verdict"),
    Map(name="mp", after=["judge"], over="l", as_="v", body=Dag([gate]))])
of_item = Dag([Map(name="mp", over="l", as_="verdict", body=Dag([gate]))])
mapped = Dag([Map(name="mp", over="l", as_="v", body=Dag([task(ship)]))])
missing = Dag([task(judge, returns="verdict"), Conditional(name="gate", after=["judge"],
    on="verdict", branches={"yes": Dag([task(give, returns="x")]), "no": Dag([])}),
    task(use, after="gate")])
loop = Dag([Loop(name="it", until="done", max_iterations=2,
    body=Dag([task(turn, returns="done")]))])
"""
CASES = {
    "missing": ([], "fork --param x=VALUE r v.py:missing"),
    "by_step": ([], "retry --force judge r v.py:by_step"),
    "by_parameter": (["-p", "verdict=no"], "fork --param verdict=VALUE r v.py:by_parameter"),
    "inside": (["-p", "l=[1]"], "retry --force judge r v.py:inside"),
    "of_item": (["-p", 'l=["no"]'], "fork --param l=VALUE r v.py:of_item"),
    "mapped": (["-p", "l=1"], "fork --param l=VALUE r v.py:mapped"),
    "loop": ([], "retry --force it r v.py:loop"),
}
GOOD = {"l": '["yes"]', "verdict": "yes", "x": "1"}


@pytest.mark.parametrize("name", CASES)
def test_what_fails_by_a_value_needs_another_one(shell: Shell, name: str) -> None:
    shell.write("v.py", VALUES)
    given, command = CASES[name]
    code, _, err = shell("run", f"v.py:{name}", "--run-id", "r", *given, VERDICT="no")
    assert code == 1
    assert "1 step failed" in err
    assert advised(err) == command.split()
    code, _, err = shell("retry", "r", f"v.py:{name}", VERDICT="no")
    assert code == 1
    assert "0 steps ran" in err, "a retry alone does nothing"
    assert advised(err) == command.split()
    filled = [word.replace("=VALUE", f"={GOOD[word[:-6]]}") if word.endswith("=VALUE") else word
              for word in advised(err)]  # fmt: skip
    code, _, err = shell(*filled, VERDICT="yes", LAST="1")
    assert code == 0, err


LONG = """
from runstore import Dag, Map, task
def make():
    return ["a" * 10_000, "a" * 5_000 + "b" + "a" * 4_999, "short"]
def work(item):
    if item != "short":
        raise ValueError("too long")
pipeline = Dag([task(make, returns="items"),
    Map(name="mp", after=["make"], over="items", as_="item", body=Dag([task(work)]))])
"""


def test_long_paths_are_shortened_and_told_apart(shell: Shell) -> None:
    shell.write("long.py", LONG)
    _, out, err = shell("run", "long.py", "--run-id", "r")
    texts = [out, err, shell("plan", "r")[1], shell("show", "r")[1]]
    for text in texts:
        assert max(map(len, text.splitlines()), default=0) < 300
    for text in texts[1:]:
        rows = [line for line in text.splitlines() if 'mp["a' in line]
        assert len({row.split(":")[0].split("  RUN")[0] for row in rows}) >= 2, text
    assert shell(*advised("\n".join(err.splitlines()[:-1])))[0] == 0, "instead of its log"
    paths = [step["path"] for step in shell.json("plan", "r")["steps"]]
    assert max(map(len, paths)) > 10_000
    assert shell("logs", "r", max(paths, key=len))[0] == 0


@pytest.mark.parametrize(("name", "text"), [("f.json", "[1]"), ("f.yaml", "- 1")])
def test_a_parameters_file_that_is_no_object(once: Shell, name: str, text: str) -> None:
    once.write(name, text)
    assert "must hold an object" in once.refused(2, "run", "p.py", "--params-file", name)
    assert " such as " in once.refused(2, "run", "p.py", "--params-file", name)


def test_errors_say_what_to_do_next(once: Shell) -> None:
    assert "--params-file" in once.refused(2, "run", "p.py", "--params-file", "no.json")
    sentence = once.refused(2, "ls", "--store", "p.py")
    assert "is a file, and a store is a folder" in sentence
    assert "runstore run" not in sentence


def test_diff_for_programs(once: Shell) -> None:
    assert once.json("diff", "good", "p.py") == {"run_id": "good", "changes": []}
    text = (once.folder / "p.py").read_text().replace('as_="item"', 'as_="it"')
    once.write("d.py", text.replace("def work(item)", "def work(it)"))
    code, out, _ = once("diff", "good", "d.py", "--format", "json")
    assert code == 1
    changes = json.loads(out)["changes"]
    assert {"path": "mp", "what": "as", "old": "item", "new": "it"} in changes


def test_ls_says_cancelled_as_show_does(shell: Shell) -> None:
    shell.write("h.py", HANGS)
    process = shell.begin("run", "h.py", "--run-id", "r")
    deadline = time.monotonic() + 30
    while not (shell.folder / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=30)
    assert shell.json("ls", "-l")["runs"][0]["status"] == "cancelled"
    assert "cancelled" in shell("show", "r")[1]


def test_every_verb_that_the_readme_says_so_of_has_json(once: Shell) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (line,) = (line for line in text.splitlines() if "have `--format json`" in line)
    verbs = line.partition("`--help`;")[2].partition(" have ")[0].replace("and", ",")
    for verb in verbs.split(","):
        if name := verb.strip().strip("`"):
            assert "--format" in once(name, "--help")[1], name
