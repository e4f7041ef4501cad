"""What cannot be used: one clear sentence and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import inside
from tests.cli.conftest import Shell

ONE = "from runstore import Dag, task\ndef f():\n    return 1\n"
FILES = {
    "broken.py": "x = 1\nimport nothing_of_this_name\n",
    "syntax.py": "x = 1\ndef (\n",
    "leaves.py": "import sys\nsys.exit(3)\n",
    "none.py": ONE,
    "two.py": ONE + "a = Dag([task(f)])\nb = Dag([task(f, name='g')])\n",
    "cycle.json": '{"nodes": [{"name": "a", "kind": "task", "after": ["b"]},'
    ' {"name": "b", "kind": "task", "after": ["a"]}]}',
    "twice.json": '{"nodes": [], "nodes": []}',
    "cut.json": '{"nodes": [',
    "alias.yaml": "nodes: &x\n  - *x\n",
    "twice.yaml": "nodes: []\nnodes: []\n",
    "twice2.yaml": "a: 1\na: 2\n",
    "list.yaml": "- 1\n",
    "odd.txt": "",
    "needs.py": ONE + "def g(x): pass\npipeline = Dag([task(g)])\n",
}
LONG = "x" * 10_000

REFUSED = {
    "unknown run": (("show", "nobody"), "no run 'nobody'"),
    "unknown run to retry": (("retry", "nobody", "p.py"), "no run 'nobody'"),
    "run exists": (("run", "p.py", "--run-id", "good"), "run 'good' exists"),
    "succeeded": (("retry", "good"), "nothing is left to do"),
    "long id": (("run", "p.py", "--run-id", LONG), "10000 characters"),
    "long id to read": (("plan", LONG), "10000 characters"),
    "control character": (("show", "a\x01b"), "U+0001"),
    "empty id": (("run", "p.py", "--run-id", ""), "empty"),
    "NaN": (("run", "p.py", "--param", "x=NaN"), "'x': not JSON: NaN"),
    "duplicate key": (("run", "p.py", "--param", 'x={"a":1,"a":2}'), "twice"),
    "no value": (("run", "p.py", "--param", "x"), "NAME=VALUE"),
    "no such file": (("run", "nothing.py"), "'nothing.py' cannot be read: No such file"),
    "a folder": (("run", "."), "cannot be read"),
    "no import": (("run", "broken.py"), "broken.py does not import: line 2: ModuleNotFoundError"),
    "syntax": (("run", "syntax.py"), "line 2: SyntaxError"),
    "exits": (("run", "leaves.py"), "line 2: SystemExit"),
    "no pipeline": (("run", "none.py"), "has no pipeline"),
    "several": (("run", "two.py"), "several pipelines: say which, two.py:a"),
    "no such pipeline": (("run", "two.py:c"), "no pipeline 'c'; it has: a, b"),
    "cycle": (("run", "cycle.json"), "cycle"),
    "keys twice in JSON": (("run", "twice.json"), "stands twice"),
    "cut JSON": (("run", "cut.json"), "cut.json"),
    "recursion": (("run", "alias.yaml"), "alias.yaml, line 2: *x stands in what it names"),
    "keys twice in YAML": (("run", "twice.yaml"), "line 2: 'nodes' is there twice"),
    "no object": (("run", "list.yaml"), "must be an object"),
    "no pipeline file": (("run", "odd.txt"), "they end in .py"),
    "missing parameter": (("run", "needs.py"), "x"),
    "parameters file": (("run", "p.py", "--params-file", "no.json"), "cannot be read"),
    "parameters twice": (("run", "p.py", "--params-file", "twice2.yaml"), "'a' is there twice"),
    "no store": (("ls", "--store", "nowhere"), "there is no store at"),
    "no store for a run": (("plan", "x", "--store", "nowhere"), "there is no store at"),
    "store of another kind": (("ls", "--store", "gopher://x"), "gopher"),
    "unknown option": (("run", "--frob", "p.py"), "no such option '--frob'"),
    "unknown verb": (("frob",), "no such command 'frob'"),
    "takeover": (("retry", "bad", "--takeover", "soon"), "30m, 2h or 1d"),
    "workers": (("run", "p.py", "--workers", "0"), "--workers"),
    "force": (("retry", "bad", "--force", "nothing"), "'nothing' matches no node"),
    "no such attempt": (("logs", "bad", "make", "--attempt", "7"), "attempt 7 at 'make'; it has 1"),
    "no such path": (("logs", "bad", "nothing"), "has no attempt at 'nothing'"),
    "no path": (("logs", "bad", "a[b"), "a[b"),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(once: Shell) -> Shell:
    for name, text in FILES.items():
        once.write(name, text)
    return once


@pytest.mark.parametrize("case", REFUSED)
def test_refused(files: Shell, case: str) -> None:
    words, said = REFUSED[case]
    # A store that is out of reach is 3; one that is not there, or cannot be, is a wrong word.
    code = 3 if case == "store of another kind" else 2
    sentence = files.refused(code, *words)
    assert said in sentence
    assert len(sentence) < 400


def test_nul_in_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # No process can be given a NUL: this one is called from Python.
    monkeypatch.chdir(tmp_path)
    for verb in ("show", "retry", "verify"):
        assert inside.call(verb, "a\0b") == 2
        assert "U+0000" in capsys.readouterr().err


def test_nothing_is_written_by_what_is_refused(shell: Shell) -> None:
    shell.refused(2, "run", "p.py", "--param", "x=NaN")
    shell.refused(2, "ls")
    assert [path.name for path in shell.folder.iterdir()] == ["p.py"]


def test_debug_shows_the_traceback(once: Shell) -> None:
    for words in (("--debug", "show", "nobody"), ("show", "nobody", "--debug")):
        code, _, err = once(*words)
        assert code == 2
        assert "Traceback" in err
        assert "error: there is no run 'nobody'" in err


def test_strange_ids_are_different_runs(shell: Shell) -> None:
    shell.write("one.py", ONE + "pipeline = Dag([task(f, returns='x')])\n")
    ids = ["a/b", "..", "Run", "run", "é", "e\u0301", "-x", "a b\u2028c"]
    for name in ids:
        command = shell if name.isascii() else shell.interpreter  # which decodes its arguments
        code, _, err = command("run", "one.py", f"--run-id={name}")
        assert code == 0, err
    assert sorted(run["run_id"] for run in shell.json("ls")["runs"]) == sorted(ids)
    assert shell("show", "--", "-x")[0] == 0
    assert [path.name for path in shell.folder.iterdir() if path.name != ".runstore"]
    assert {path.parent.name for path in shell.folder.rglob("run.json")} == {
        path.name for path in (shell.folder / ".runstore/runs").iterdir()
    }
