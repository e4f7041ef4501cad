"""A pipeline file called `__main__.py`, as packages have it, is a pipeline file like any other."""

from __future__ import annotations

import sys

import pytest

import runstore
from tests.executor.test_dying_workers import program

MAIN = """
import runstore
def f():
    print(__name__ == "__main__")
    return 1
def g(x):
    return x + 1
pipeline = runstore.sequence(runstore.task(f, returns="x"), runstore.task(g, returns="y"))
if __name__ == "__main__":
    print(runstore.start(pipeline, store={store!r}, run_id="m").status)
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "pkg"
    folder.mkdir()
    (folder / "__main__.py").write_text(MAIN.format(store=str(tmp_path / "s")))
    return folder


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_it_does_not_become_the_main_module(package, tmp_path, processes):
    before = sys.modules["__main__"]
    pipeline = runstore.load_pipeline(str(package / "__main__.py"))
    assert sys.modules["__main__"] is before
    again = runstore.load_pipeline(str(package / "__main__.py"))
    result = runstore.start(
        again, store=tmp_path / "s", run_id="r", processes=processes, workers=1, environment={}
    )
    assert (result.status, dict(result.values())) == ("succeeded", {"x": 1, "y": 2})
    assert result.run.logs("f") == b"False\n"
    assert sys.modules["__main__"] is before
    assert pipeline.digest == again.digest


def test_the_command_line_runs_it(package, tmp_path):
    file = str(package / "__main__.py")
    words = ("-m", "runstore.cli", "run", file, "--store", str(tmp_path / "s"))
    for more in ((), ("--processes",)):
        done = program(*words, *more)
        assert done.returncode == 0, done.stderr
        assert "y = 2" in done.stdout


def test_it_is_run_as_a_module_too(package, tmp_path):
    done = program("-m", "pkg", PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("succeeded\n", "")
