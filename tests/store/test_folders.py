"""The folder of an attempt: its own, one for all its threads, and there until the end is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import runstore
from runstore import Attempt, Dag, Map, sequence, start, task
from runstore.errors import AttemptLostError, InputError, RefusedError, StorageError
from runstore.store import folder

DAG = runstore.Dag.from_json(
    {
        "nodes": [
            {"name": "a", "kind": "task"},
            {"name": "b", "kind": "task"},
            {"name": "c", "kind": "task", "after": ["a", "b"]},
        ]
    }
)


@pytest.fixture
def run(tmp_path: Path) -> runstore.Run:
    return runstore.open_store(tmp_path / "s", durable=False).create_run(DAG, run_id="r")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where folders are made, so that a test sees which are left."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    monkeypatch.setenv("TMPDIR", str(made))
    return made


def test_a_folder_is_an_attempts_own_and_gone_with_it(run: runstore.Run, temporary: Path) -> None:
    a, b = run.begin("a"), run.begin("b")
    assert a.folder != b.folder
    for attempt in (a, b):
        assert list(attempt.folder.iterdir()) == []
        assert attempt.folder.stat().st_mode & 0o777 == 0o700
        (attempt.folder / "same.txt").write_text(attempt.path)
        assert attempt.save("*.txt") == ["same.txt"]
    a.succeed()
    b.fail("no")
    assert list(temporary.iterdir()) == []
    with pytest.raises(RefusedError, match="has ended"):
        _ = a.folder


def test_threads_of_an_attempt_have_one_folder(run: runstore.Run, temporary: Path) -> None:
    for path in ("a", "b"):
        attempt = run.begin(path)
        gate = threading.Barrier(16)

        def ask(_: int, gate=gate, attempt=attempt) -> Path:
            gate.wait()
            return attempt.folder

        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(ask, range(16)))) == 1
        attempt.succeed()
        assert list(temporary.iterdir()) == []


def test_the_current_folder_is_nobodys(
    run: runstore.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.txt").write_text("whose?")
    attempt = run.begin("a")
    with pytest.raises(InputError, match=r"current folder, .*write it below attempt\.folder"):
        attempt.save("out.txt")
    assert attempt.save("out.txt", base=".") == ["out.txt"]
    (attempt.folder / "out.txt").write_text("mine")
    assert attempt.save("out.txt") == ["out.txt"]
    attempt.succeed()
    run.begin("b").succeed()
    (path,) = run.begin("c").load("out.txt")
    assert path.read_text() == "mine"
    assert not path.is_relative_to(Path.cwd() / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "whose?"


MEET = threading.Barrier(2)


def make(item: str, attempt: Attempt) -> None:
    (attempt.folder / "data.txt").write_text(item)
    MEET.wait(20)  # both have written, neither has saved
    attempt.save("data.txt")


def read(item: str, attempt: Attempt) -> str:
    (path,) = attempt.load("data.txt")
    MEET.wait(20)  # both have loaded, neither has read
    return path.read_text()


def test_items_that_use_one_file_name_read_their_own(temporary: Path) -> None:
    body = sequence(task(make), task(read, returns="text"))
    pipeline = Dag([Map(name="each", over="items", as_="item", body=body)])
    result = start(pipeline, {"items": ["x", "y"]}, store="memory://own-names", workers=2)
    assert result.values()["text"] == ["x", "y"]
    assert list(temporary.iterdir()) == []


def test_steps_may_save_one_shared_file(run: runstore.Run, tmp_path: Path) -> None:
    """At the same time, and after one another; what was there at that moment is each one's."""
    shared = tmp_path / "shared.txt"
    shared.write_text("first")
    a, b = run.begin("a"), run.begin("b")
    for attempt in (a, b):
        attempt.save("shared.txt", base=tmp_path)
    shared.write_text("second")
    b.save("shared.txt", base=tmp_path)
    ends = [attempt.succeed() for attempt in (a, b)]
    assert [run.blobs.read(end.artifacts["shared.txt"]) for end in ends] == [b"first", b"second"]


def test_a_refused_end_leaves_the_files_and_says_where(run: runstore.Run, temporary: Path) -> None:
    a, b = run.begin("a"), run.begin("b")
    (a.folder / "result.txt").write_text("three hours of work")
    _ = b.folder
    for attempt in (a, b):
        run.writer.end_for(attempt.start, "lost", "Lost", "declared dead")
    with pytest.raises(AttemptLostError) as refused:
        a.succeed()
    (kept,) = [path for path in temporary.iterdir() if any(path.iterdir())]
    assert str(kept) in str(refused.value)
    assert (kept / "result.txt").read_text() == "three hours of work"
    with pytest.raises(AttemptLostError) as refused:
        b.succeed()
    assert str(temporary) not in str(refused.value), "it had written nothing"
    assert list(temporary.iterdir()) == [kept]


def test_so_does_a_store_that_fails(
    run: runstore.Run, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = run.begin("a")
    (attempt.folder / "result.txt").write_text("work")
    create = run.storage.create

    def full(key: str, data: object, **options: object) -> None:
        if key.endswith(".end.json"):
            raise StorageError("The disk is full: free some space.", errno=28)
        create(key, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(run.storage, "create", full)
        with pytest.raises(StorageError, match=r"disk is full.*kept in .*runstore-") as failed:
            attempt.succeed()
    assert failed.value.errno == 28
    (kept,) = temporary.iterdir()
    assert (kept / "result.txt").exists()
    attempt.succeed()
    assert list(temporary.iterdir()) == [], "gone once the end is there"


KILLED = """
import os, signal, sys
import runstore
run = runstore.open_store(sys.argv[1]).get_run("r")
for path in ("a", "b"):
    attempt = run.begin(path)
    if path == "a":
        (attempt.folder / "half.txt").write_text("half")
        print(attempt.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_files_and_a_takeover_says_where(
    run: runstore.Run, tmp_path: Path, temporary: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "s")],
        env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    left = Path(done.stdout.strip())
    assert [left] == list(temporary.iterdir())
    run = runstore.open_store(tmp_path / "s").get_run("r")
    run.begin_invocation("retry")
    run.take_over(run.history())
    said = {path: run.history().latest(path).error["message"] for path in ("a", "b")}
    assert said["a"].endswith(f"; its files are in {left}")
    assert "files" not in said["b"], "it has none"
    assert (left / "half.txt").read_text() == "half"


def test_another_process_that_ends_it_has_the_same_folder(
    run: runstore.Run, temporary: Path
) -> None:
    attempt = run.begin("a")
    (attempt.folder / "x.txt").write_text("x")
    other = runstore.Store(run.storage).get_run("r").attempt_of(attempt.token)
    assert other.folder == attempt.folder
    assert other.save("*") == ["x.txt"]
    assert list(other.succeed().artifacts) == ["x.txt"]
    assert list(temporary.iterdir()) == []


def test_a_folder_of_somebody_elses_is_not_taken(
    run: runstore.Run, temporary: Path, tmp_path: Path
) -> None:
    attempt = run.begin("a")
    (temporary / f"runstore-{attempt.start.nonce}").symlink_to(tmp_path)
    with pytest.raises(StorageError, match=r"is no folder of this user's.*TMPDIR"):
        _ = attempt.folder


@pytest.mark.parametrize("nonce", ["../../escaped", "/abs", "", "n", "é\0"])
def test_a_nonce_of_another_writer_leads_nowhere(nonce: str, temporary: Path) -> None:
    made = Path(folder.make_folder(nonce))
    assert made.parent == temporary
    assert folder.left_files(nonce) == ""
    (made / "x").write_text("x")
    assert str(made) in folder.left_files(nonce)


def test_after_the_end_nothing_is_kept(run: runstore.Run, tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_text("late")
    attempt = run.begin("a")
    attempt.succeed()
    with pytest.raises(RefusedError, match="has ended"):
        attempt.save("late.txt", base=tmp_path)
    with pytest.raises(RefusedError, match="has ended"):
        attempt.save_bytes("late.txt", b"late")
    assert not list((tmp_path / "s").glob("runs/**/blobs/*/*/*"))


def test_a_read_only_folder_inside_goes_too(run: runstore.Run, temporary: Path) -> None:
    outside = temporary.parent / "outside"
    outside.mkdir()
    outside.chmod(0o500)
    attempt = run.begin("a")
    inner = attempt.folder / "cache/mod"
    inner.mkdir(parents=True)
    (inner / "x").write_text("x")
    (attempt.folder / "link").symlink_to(outside)
    for each in (inner, inner.parent):
        each.chmod(0o500)
    attempt.succeed()
    assert list(temporary.iterdir()) == []
    assert outside.stat().st_mode & 0o777 == 0o500
