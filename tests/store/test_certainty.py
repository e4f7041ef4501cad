"""Who is dead is certain, or they are not dead: containers of one host name, copies of a machine,
a ``/proc`` of somebody else. With the kernel's own namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import runstore
from runstore import Dag, Task
from runstore.records import Holder, Start
from runstore.store import process as holder

DAG = Dag([Task(name="a")])

CLAIM = """
import sys, runstore
run = runstore.open_store(sys.argv[1]).get_run("r")
run.begin("a")
print("claimed", flush=True)
input()
"""

JUDGE = """
import sys, runstore
run = runstore.open_store(sys.argv[1]).get_run("r")
print("left", len(run.take_over(run.history())))
"""

CLAIM_AND_JUDGE = f"""
import subprocess, sys
claim = subprocess.Popen([sys.executable, "-c", {CLAIM!r}, sys.argv[1]], stdin=-1, stdout=-1)
claim.stdout.readline()
claim.kill()
claim.wait()
exec({JUDGE!r})
"""


def container(code: str, store: Path, *more: str) -> list[str]:
    """A command in namespaces of its own, but for the host's name and the disk."""
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    return [
        "unshare", *user, "--pid", "--fork", "--kill-child", *more, sys.executable, "-c", code,
        str(store),
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    if subprocess.run([*container("", tmp_path)], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespaces")
    runstore.open_store(tmp_path).create_run(DAG, run_id="r")
    return tmp_path


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def recorded(store: Path) -> Start:
    (start,) = runstore.open_store(store).get_run("r").history().open()
    assert isinstance(start, Start)
    return start


def test_a_container_does_not_judge_another_one_of_its_host_name(store):
    claim = subprocess.Popen(
        container(CLAIM, store, "--mount-proc"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert claim.stdout.readline() == b"claimed\n"
        by = recorded(store).by
        assert by.pid < 10, "it counts from 1"
        assert by.host == holder.current_process().host
        assert by.boot.split(".")[0] == holder.current_process().boot.split(".")[0], "one kernel"
        assert not holder.is_dead(by)
        assert said(*container(JUDGE, store, "--mount-proc")) == "left 1"
    finally:
        claim.communicate(b"\n")


def test_in_one_container_the_dead_are_dead(store):
    assert said(*container(CLAIM_AND_JUDGE, store, "--mount-proc")) == "left 0"
    (end,) = runstore.open_store(store).get_run("r").history().ends("a")
    assert end.outcome == "lost"


def test_where_proc_is_of_another_namespace_nobody_is_dead(store):
    """Its numbers are those of other processes."""
    assert said(*container(CLAIM_AND_JUDGE, store)) == "left 1"
    by = recorded(store).by
    assert (by.boot, by.pid_start, by.mark) == (None, None, None)


def test_another_clock_is_another_place(store):
    """The start times of processes are told in the time namespace of whoever asks."""
    claim = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        claim.stdout.readline()
        user = ["--user", "--map-root-user"] if os.geteuid() else []
        other = ["unshare", *user, "--time", "--boottime", "100000", "--fork"]
        assert said(*other, sys.executable, "-c", JUDGE, str(store)) == "left 1"
        assert said(sys.executable, "-c", JUDGE, str(store)) == "left 1"
    finally:
        claim.kill()
        claim.communicate()
    assert said(sys.executable, "-c", JUDGE, str(store)) == "left 0"


# -- copies of this machine ----------------------------------------------------------------------


@pytest.fixture
def gone() -> Holder:
    """A process of this machine that is dead, as its records name it."""
    code = (
        "import msgspec; from runstore.store.process import current_process; "
        "print(msgspec.to_builtins(current_process()))"
    )
    return Holder(**eval(said(sys.executable, "-c", code)))


def test_a_process_of_this_machine_is_dead(gone):
    assert holder.is_dead(gone)


@pytest.mark.parametrize(
    "mark",
    [None, "", "0-", "0-" + "0" * 24, "nobody", "-1-" + "0" * 24, "9" * 5000 + "-0", "0/.-a"],
)
def test_a_process_of_a_copy_of_this_machine_is_not(gone, mark):
    """Host, boot id and namespaces are the same, and the pid is another process here, or none."""
    copy = replace(gone, mark=mark)
    assert not holder.is_dead(copy)
    assert not holder.is_dead(replace(copy, pid=os.getpid()))


def test_marks_are_of_their_user_only(gone, tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "_PLACES", [str(tmp_path)])
    assert not holder.is_dead(gone), "this machine has no marks now"
    user = os.geteuid() + 1
    forged = tmp_path / f"runstore-{user}"
    forged.mkdir()
    mark = f"{user}-{'0' * 24}"
    (forged / holder._boot_id()).write_text(mark + "\n")
    assert not holder.is_dead(replace(gone, mark=mark)), "the file is not that user's"


def test_a_process_that_can_leave_no_mark_is_never_dead(tmp_path, monkeypatch):
    (tmp_path / "a-file").touch()
    link = tmp_path / f"runstore-{os.geteuid()}"
    link.symlink_to(tmp_path)  # of somebody who was here first
    monkeypatch.setattr(holder, "_PLACES", [str(tmp_path / "a-file"), str(tmp_path)])
    holder._holder.cache_clear()
    try:
        assert holder.current_process().mark is None
        assert not holder.is_dead(replace(holder.current_process(), pid_start=1))
    finally:
        holder._holder.cache_clear()


def test_a_fork_is_a_process_of_its_own():
    reading, writing = os.pipe()
    me = holder.current_process()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, repr(msgspec.to_builtins(holder.current_process())).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        child = Holder(**eval(pipe.read()))
    os.waitpid(pid, 0)
    assert child.pid == pid
    assert child.mark not in (None, me.mark)
    assert holder.is_dead(child)
    assert not holder.is_dead(me)
