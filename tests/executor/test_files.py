"""Files of steps: one folder for a function and for a command, in threads and in processes."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from runstore import Attempt, Dag, Map, Task, sequence, start, task
from runstore.errors import AttemptLostError
from runstore.executor.reporter import Silent

WORKERS = [{"workers": 4}, {"processes": True, "workers": 2}]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def sh(name: str, command: str, *, params: tuple[str, ...] = (), returns: tuple[str, ...] = (),
       after: tuple[str, ...] = (), **config: object) -> Task:  # fmt: skip
    config = {"command": command, **config}
    return Task(name=name, type="shell", params=params, returns=returns, after=after, config=config)


def write(item: str, attempt: Attempt) -> str:
    (attempt.folder / "data.txt").write_text(item)
    assert attempt.save("*") == ["data.txt"]
    return str(attempt.folder)


def read(item: str, attempt: Attempt) -> str:
    (path,) = attempt.load("data.txt")
    assert path == attempt.folder / "data.txt"
    assert os.listdir(attempt.folder) == ["data.txt"]
    return path.read_text()


@pytest.mark.parametrize("how", WORKERS)
def test_functions(how, tmp_path, temporary):
    body = sequence(task(write, returns="folder"), task(read, returns="text"))
    pipeline = Dag([Map(name="each", over="items", as_="item", body=body)])
    items = [f"item {n}" for n in range(12)]
    result = start(pipeline, {"items": items}, store=tmp_path / "s", run_id="r", **how)
    assert result.values()["text"] == items
    folders = result.values()["folder"]
    assert len(set(folders)) == 12
    assert {str(Path(folder).parent) for folder in folders} == {str(temporary)}
    assert not [
        each for each in temporary.iterdir() if not each.name.startswith("runstore-scratch")
    ]


@pytest.mark.parametrize("how", WORKERS)
def test_commands(how, tmp_path, temporary):
    body = sequence(
        sh("write", 'echo "$item" > data.txt', params=("item",), save="data.txt"),
        sh("read", 'test "$(ls -A)" = data.txt; printf \'{"text":"%s","folder":"%s"}\' '
           '"$(cat data.txt)" "$PWD" > "$RUNSTORE_RETURNS"',
           returns=("text", "folder"), load="data.txt"),
    )  # fmt: skip
    pipeline = Dag([Map(name="each", over="items", as_="item", body=body)])
    items = [f"item {n}" for n in range(6)]
    result = start(pipeline, {"items": items}, store=tmp_path / "s", run_id="r", **how)
    assert result.values()["text"] == items
    folders = result.values()["folder"]
    assert len(set(folders)) == 6
    assert {str(Path(folder).parent) for folder in folders} == {str(temporary)}
    assert not [
        each for each in temporary.iterdir() if not each.name.startswith("runstore-scratch")
    ]


@pytest.mark.parametrize("how", [{"workers": 1}, *WORKERS])
def test_items_that_save_a_link_to_one_shared_file(tmp_path, how):
    shared = tmp_path / "shared.ref"
    shared.write_text("shared\n")
    command = f"ln -s {shared} shared.ref; mkdir d; ln -s .. d/up; sleep 0.2"
    body = sequence(sh("stage", command, params=("item",), save="**"))
    pipeline = Dag([Map(name="each", over="items", as_="item", body=body)])
    result = start(pipeline, {"items": [1, 2, 3]}, store=tmp_path / "s", **how)
    assert result.status == "succeeded", result.plan.to_json()
    for n in (1, 2, 3):
        (end,) = result.run.history().ends(f"each[{n}]/stage")
        assert list(end.artifacts) == ["shared.ref"]
        assert result.run.blobs.read(end.artifacts["shared.ref"]) == b"shared\n"


@pytest.mark.parametrize(
    ("command", "save", "said"),
    [
        ("mkdir -p out/sub", "out", "build saves 'out', which is a folder: write 'out/**'"),
        ("ln -s nowhere x", "x", "build saves 'x', which is a link to 'nowhere', which is not"),
        ("mkfifo x", "x", "build saves 'x', which is a named pipe"),
        ("echo 1 > y", "x", "build saves 'x', which matches nothing: .* it has 'y'"),
        ("true", "", "build saves a file with an empty name"),
        ("true", "/etc/passwd", "build saves '/etc/passwd', which is an absolute path"),
    ],
)
def test_what_is_no_file_fails_the_step(command, save, said, tmp_path, temporary):
    result = start(Dag([sh("build", command, save=save)]), store=tmp_path / "s")
    (end,) = result.run.history().ends("build")
    assert (result.status, end.outcome, end.artifacts) == ("failed", "failed", {})
    assert re.search(said.replace("**", r"\*\*"), end.error["message"]), end.error["message"]
    assert list(temporary.iterdir()) == []


def give_up(attempt: Attempt) -> None:
    (attempt.folder / "result.txt").write_text("work")
    attempt.writer.end_for(attempt.start, "lost", "Lost", "declared dead meanwhile")


def test_the_files_of_a_refused_result_are_kept(tmp_path, temporary):
    told = []

    class Told(Silent):
        def ended(self, step, end, error):
            told.append(error)

    result = start(Dag([task(give_up)]), store=tmp_path / "s", reporter=Told())
    assert result.status == "failed"
    (kept,) = temporary.iterdir()
    assert (kept / "result.txt").read_text() == "work"
    (error,) = told
    assert isinstance(error, AttemptLostError)
    assert str(kept) in str(error)


def die(attempt: Attempt) -> None:
    (attempt.folder / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_files_of_a_killed_worker_are_kept(tmp_path, temporary):
    result = start(Dag([task(die)]), store=tmp_path / "s", processes=True, workers=1)
    (end,) = result.run.history().ends("die")
    (kept,) = [each for each in temporary.iterdir() if not each.name.startswith("runstore-scratch")]
    assert (kept / "half.txt").read_text() == "half"
    assert end.error["message"].endswith(f"; its files are in {kept}")
