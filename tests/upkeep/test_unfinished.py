"""Unfinished writes of living processes stay, whatever age is asked for; those of the dead go."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from runstore.storage import unfinished
from runstore.storage.local import LocalStorage
from runstore.upkeep import Sweep

FORK = multiprocessing.get_context("fork")
KEY = "runs/r/attempts/a.000001.start.json"
DAY = 86400.0


class Slow:
    """A stream whose first piece comes at once, and whose second one comes when it is told to."""

    def __init__(self, begun: object, go_on: object) -> None:
        self.begun, self.go_on = begun, go_on
        self.pieces = 0

    def read(self, _size: int = -1) -> bytes:
        self.pieces += 1
        if self.pieces == 2:
            self.begun.set()  # type: ignore[attr-defined]
            assert self.go_on.wait(60)  # type: ignore[attr-defined]
        return b"x" * 1000 if self.pieces < 3 else b""


class Writer:
    """A process in the middle of a create."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.begun, self.go_on = FORK.Event(), FORK.Event()
        self.process = FORK.Process(target=self._work)
        self.process.start()
        assert self.begun.wait(60)

    def _work(self) -> None:
        LocalStorage(self.root).create(KEY, Slow(self.begun, self.go_on))

    def end(self) -> int | None:
        self.go_on.set()
        self.process.join(60)
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join(60)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path)
    yield writer
    writer.kill()


def temps(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob(".tmp-*"))


def swept(root: Path, age: timedelta = timedelta(0)) -> list[str]:
    """What a sweep removes: a dry one says the same."""
    storage = LocalStorage(root)
    dry = [each.name for each in Sweep(storage, age).run() if ".tmp-" in each.name]
    real = Sweep(storage, age).run(dry_run=False)
    found = [each.name for each in real if ".tmp-" in each.name]
    assert found == dry
    return found


def make_old(root: Path, seconds: float) -> None:
    then = time.time() - seconds
    for name in temps(root):
        os.utime(root / name, (then, then))


def keep_run(root: Path) -> None:
    (root / "runs/r/run.json").write_bytes(b"")  # else all of it is the rest of a run


def test_a_slow_writer_is_left_alone_and_finishes(tmp_path, writer):
    keep_run(tmp_path)
    assert len(temps(tmp_path)) == 1
    assert swept(tmp_path) == []
    make_old(tmp_path, 400 * DAY)  # its stream gave nothing for a year
    assert swept(tmp_path) == []
    assert writer.end() == 0
    assert (tmp_path / KEY).read_bytes() == b"x" * 2000
    assert temps(tmp_path) == []


def test_a_stopped_writer_is_alive(tmp_path, writer):
    keep_run(tmp_path)
    os.kill(writer.process.pid, signal.SIGSTOP)
    try:
        make_old(tmp_path, 400 * DAY)
        assert swept(tmp_path) == []
    finally:
        os.kill(writer.process.pid, signal.SIGCONT)
    assert writer.end() == 0


def test_what_a_killed_writer_left_goes_at_once(tmp_path, writer):
    keep_run(tmp_path)
    writer.kill()
    left = temps(tmp_path)
    assert len(left) == 1
    assert swept(tmp_path, timedelta(hours=1)) == [], "it is young, and an age was asked for"
    assert swept(tmp_path) == left
    assert temps(tmp_path) == []


@pytest.mark.parametrize("name", [".tmp-0123456789ab-00", ".tmp--00", ".tmp-1-00"])
def test_what_may_be_another_machines_is_left_alone_for_a_day(tmp_path, name):
    storage = LocalStorage(tmp_path)
    storage.create("runs/r/x", b"")
    keep_run(tmp_path)
    (tmp_path / "runs/r" / name).write_bytes(b"half")
    make_old(tmp_path, 0.9 * DAY)
    assert swept(tmp_path) == []
    make_old(tmp_path, 1.1 * DAY)
    assert swept(tmp_path, timedelta(days=2)) == []
    assert swept(tmp_path) == [f"runs/r/{name}"]


def test_a_lock_that_another_machine_holds_counts(tmp_path):
    LocalStorage(tmp_path).create("runs/r/x", b"")
    keep_run(tmp_path)
    name = tmp_path / "runs/r/.tmp-0123456789ab-00"
    name.write_bytes(b"half")
    make_old(tmp_path, 400 * DAY)
    with open(name, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert swept(tmp_path) == []
    assert swept(tmp_path) == ["runs/r/" + name.name]


def test_where_there_are_no_locks_a_day_decides(tmp_path, monkeypatch):
    def no_locks(*_args: object) -> None:
        raise OSError(37, "No locks available")

    LocalStorage(tmp_path).create("runs/r/x", b"")
    keep_run(tmp_path)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    LocalStorage(tmp_path).create("runs/r/y", b"")  # and nothing needs one
    (tmp_path / f"runs/r/.tmp-{unfinished.machine()}-00").write_bytes(b"half")
    assert swept(tmp_path) == []
    make_old(tmp_path, 1.1 * DAY)
    assert len(swept(tmp_path)) == 1


def test_odd_things_under_such_a_name_are_left_alone(tmp_path):
    LocalStorage(tmp_path).create("runs/r/x", b"")
    keep_run(tmp_path)
    prefix = f"runs/r/.tmp-{unfinished.machine()}-"
    os.mkfifo(tmp_path / f"{prefix}fifo")
    os.symlink("/nowhere", tmp_path / f"{prefix}link")
    assert swept(tmp_path) == []


def test_many_writers_beside_a_sweep_that_never_stops(tmp_path):
    """Also between making a temp file and locking it, nobody's is taken away."""
    done = FORK.Event()

    def sweep() -> None:
        storage = LocalStorage(tmp_path)
        while not done.is_set():
            list(storage.sweep(time.time() + 1, dry_run=False))

    def write(number: int) -> Callable[[], None]:
        def work() -> None:
            storage = LocalStorage(tmp_path, durable=False)
            for n in range(1000):
                storage.create(f"a/{number}-{n:04d}", b"%d" % n)

        return work

    sweepers = [FORK.Process(target=sweep) for _ in range(2)]
    writers = [FORK.Process(target=write(number)) for number in range(3)]
    for process in (*sweepers, *writers):
        process.start()
    for process in writers:
        process.join(120)
    done.set()
    for process in sweepers:
        process.join(60)
    assert [process.exitcode for process in (*writers, *sweepers)] == [0] * 5
    assert len(list((tmp_path / "a").iterdir())) == 3000


def test_a_thread_that_waits_holds_its_own_file_only(tmp_path):
    """Locks are of open files, not of processes: closing another one lets go of nothing."""
    fd, temp = unfinished.begin(str(tmp_path))
    other, second = unfinished.begin(str(tmp_path))
    os.close(other)
    with suppress(OSError), open(temp, "rb"):
        pass
    with unfinished.abandoned(temp, time.time() + 1) as gone:
        assert not gone
    with unfinished.abandoned(second, time.time() + 1) as gone:
        assert gone
    os.close(fd)
    with unfinished.abandoned(temp, time.time() + 1) as gone:
        assert gone
