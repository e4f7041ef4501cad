"""What a killed process left in clear in the folder for temporary files goes with the next run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from runstore import sequence, start, task
from tests.executor import printing as p
from tests.executor.test_logs import SCRIPT, SECRET, wait_for


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_what_a_killed_parent_left_is_removed_by_the_next(tmp_path, scratch):
    marker, store = tmp_path / "marker", str(tmp_path / "s")
    script = SCRIPT.format(kind="python", marker=str(marker), store=store, processes=True)
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    wait_for(marker)
    child.kill()
    child.wait()
    os.kill(int(marker.read_text()), signal.SIGKILL)  # its worker would outlive it
    (left,) = scratch.glob("runstore-scratch-*")
    assert SECRET in "".join(file.read_text() for file in left.iterdir())
    other, link = scratch / "runstore-other", scratch / "runstore-scratch-link"
    other.mkdir()
    link.symlink_to(other)
    pipeline = sequence(task(p.in_its_context))
    start(pipeline, store=tmp_path / "t", processes=True, workers=1, environment={})
    assert sorted(scratch.iterdir()) == sorted([other, link])


@pytest.mark.parametrize("processes", [False, True])
def test_the_parameters_of_a_command_that_was_killed_are_removed_by_the_next(
    tmp_path, scratch, processes
):
    """They stand in a file, secrets in clear."""
    marker = tmp_path / "marker"
    said = f"echo $$ $PPID > {marker}.new; mv {marker}.new {marker}; sleep 60"
    script = (
        "import runstore\n"
        f"node = runstore.Task(name='c', type='shell', params=('token',), "
        f"config={{'command': {said!r}}})\n"
        "if __name__ == '__main__':\n"
        "    pipeline = runstore.Pipeline(runstore.sequence(node), secrets=['token'])\n"
        f"    runstore.start(pipeline, store={str(tmp_path / 's')!r}, environment={{}}, "
        f"secrets={{'token': {SECRET!r}}}, workers=1, processes={processes})\n"
    )
    (tmp_path / "script.py").write_text(script)
    child = subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.DEVNULL)
    wait_for(marker)
    command, parent = map(int, marker.read_text().split())
    held = [file for file in scratch.rglob("*") if file.is_file() and SECRET in file.read_text()]
    assert [file.name for file in held] == ["params.json"]
    pipeline = sequence(task(p.in_its_context))
    start(pipeline, store=tmp_path / "t", workers=1, environment={})
    assert held[0].exists(), "its process lives"
    for pid in {child.pid, parent}:
        os.kill(pid, signal.SIGKILL)
    child.wait()
    os.killpg(command, signal.SIGKILL)
    start(pipeline, store=tmp_path / "t", workers=1, environment={})
    assert not list(scratch.rglob("params.json"))
