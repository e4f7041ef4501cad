"""The command in a process of its own: as users run it, or as a fork that gives the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forkserver import fork_server

# What an interpreter reads when it starts: a fork has it from the server it was forked from.
READ_AT_START = ("PYTHON", "LC_", "LANG")

PIPELINE = """
import json, os
from runstore import Dag, Map, task

parameters = {"n": 3}

def make(n):
    return list(range(n))

def work(item):
    print("at work on", item)
    if item == int(os.environ.get("BREAK", "-1")):
        raise ValueError("item " + str(item) + " is bad\\nand more of it")
    return item * 2

def total(doubled):
    return sum(doubled)

pipeline = Dag([
    task(make, returns="items"),
    Map(name="mp", after=["make"], over="items", as_="item",
        body=Dag([task(work, returns="doubled")])),
    task(total, after="mp", returns="total"),
])
"""


class Shell:
    """A folder with a store in it, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RUNSTORE_", "RUNNABLE_"))
        }
        self.environment |= {"PYTHONUTF8": "1", "PYTHONWARNINGS": "error"}

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return name

    def begin(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """A new interpreter, at work on it."""
        return subprocess.Popen(
            [sys.executable, "-m", "runstore.cli", *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def interpreter(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr, of a new interpreter."""
        with self.begin(*words, **environment) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def forked(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """The same, at a tenth of the price. ``test_forked.py`` holds that it is the same."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = fork_server("tests.cli.forked").spawn(
                "tests.cli.forked:command",
                *words,
                streams=(None, out.fileno(), err.fileno()),
                folder=str(self.folder),
                environment=self.environment | environment,
            )
            code = child.wait()
            for file in (out, err):
                file.seek(0)
            return code, out.read().decode(), err.read().decode()

    def __call__(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        new = any(name.startswith(READ_AT_START) for name in environment)
        code, out, err = (self.interpreter if new else self.forked)(*words, **environment)
        assert "Traceback" not in err or "--debug" in words or words[0] == "logs", err
        return code, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self(*words, "--format", "json")
        assert code == 0, err
        return json.loads(out)

    def refused(self, code: int, *words: str, **environment: str) -> str:
        """Run what must fail with this code: the one sentence it says."""
        got, out, err = self(*words, **environment)
        assert got == code, (got, out, err)
        assert out == ""
        sentences = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(sentences) == 1, err
        return sentences[0]

    def file(self, pattern: str) -> Path:
        """The one file of the store that matches ``RUN/...``, below the run's nonce."""
        run, _, rest = pattern.partition("/")
        below = rest if rest == "run.json" else f"*/{rest}"
        (found,) = self.folder.glob(f".runstore/runs/{run}/{below}")
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made.write("p.py", PIPELINE)
    return made


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """One store for tests that only read, or that make runs of their own."""
    made = Shell(tmp_path_factory.mktemp("cli"))
    made.write("p.py", PIPELINE)
    assert made("run", "p.py", "--run-id", "good")[0] == 0
    assert made("run", "p.py", "--run-id", "bad", "--label", "team=x", BREAK="1")[0] == 1
    return made


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Small file systems of one's own; the test is skipped where nobody may mount."""
    done: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mount{len(done)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system is not allowed here")
        done.append(folder)
        return folder

    yield mount
    for folder in done:
        subprocess.run(["umount", "-l", str(folder)], check=True)
