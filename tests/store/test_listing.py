"""Which folders below runs/ are runs, for the library and for the command line alike."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runstore import Dag, Task
from runstore.errors import StorageError
from runstore.store import open_store

DAG = Dag([Task(name="a")])
LONG = "x" * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = open_store(tmp_path / "s", durable=False)
    for run_id in ("r", "a/b", LONG):
        store.create_run(DAG, run_id=run_id)
    return tmp_path / "s"


def seen(folder: Path) -> list[str]:
    return sorted(open_store(folder).run_ids())


def told(folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "runstore.cli", "ls", "--store", str(folder), "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, sorted(run["run_id"] for run in json.loads(done.stdout)["runs"])


def test_what_is_no_run_is_passed_over(folder: Path) -> None:
    runs = folder / "runs"
    for name in ("foo_x", "Backup", "lost+found", "backup", "empty"):
        (runs / name).mkdir()
        (runs / name / "notes.txt").write_text("mine")
    (runs / "foo_x" / "run.json").write_text("{}")
    (runs / "README").write_text("mine")
    (runs / "removed" / "blobs").mkdir(parents=True)
    assert seen(folder) == sorted(["r", "a/b", LONG])
    assert told(folder) == (0, sorted(["r", "a/b", LONG]))


def test_a_damaged_run_is_listed_by_what_its_folder_tells(folder: Path) -> None:
    files = {file.parent.name: file for file in (folder / "runs").glob("*/run.json")}
    long = next(name for name in files if name.startswith("xxx"))
    for name in ("r", long):
        files[name].write_bytes(b"short")
    assert seen(folder) == sorted(["r", "a/b", long])
    assert told(folder) == (3, sorted(["r", "a/b", long]))


def test_a_copy_of_a_runs_folder_is_no_second_run_of_its_id(folder: Path) -> None:
    shutil.copytree(folder / "runs" / "r", folder / "runs" / "r-bak")
    assert seen(folder) == sorted(["r", "r-bak", "a/b", LONG])
    code, listed = told(folder)
    assert (code, listed) == (3, sorted(["r", "r-bak", "a/b", LONG]))


# -- the home folder -----------------------------------------------------------------------------


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert open_store("~/x").url == str(tmp_path / "home" / "x")
    assert open_store("~").url == str(tmp_path / "home")
    assert open_store(Path("~/x")).url == str(tmp_path / "home" / "x")
    assert open_store("./~/x").url == str(tmp_path / "~" / "x"), "a shell has it so, too"
    assert open_store("a/~").url == str(tmp_path / "a" / "~")


def test_of_a_user_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    assert open_store("~root/x").url == "/root/x"
    with pytest.raises(StorageError, match=r"no user 'nobody-of-this-name'.*whole path"):
        open_store("~nobody-of-this-name/x")


@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_folder_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(StorageError, match=r"'~/x' cannot be opened: HOME is not set"):
        open_store("~/x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [{"RUNSTORE_URL": "~/x"}, {}])
def test_on_the_command_line_as_well(tmp_path: Path, given: dict[str, str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "p.yaml").write_text("steps: [{name: a, command: 'true'}]\n")
    words = [sys.executable, "-m", "runstore.cli", "run", "p.yaml", "--run-id", "r"]
    done = subprocess.run(
        [*words, *([] if given else ["--store=~/x"])],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(home), **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (home / "x" / "runs" / "r" / "run.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "p.yaml"]
