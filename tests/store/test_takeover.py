"""Who is dead: only whom the kernel says so of. And what may be asked of a takeover."""

from __future__ import annotations

import builtins
import datetime
import errno
import os
import subprocess
import sys

import pytest
from msgspec.structs import replace

from runstore import Dag, Task, retry
from runstore.errors import InputError
from runstore.records import Consumed, Holder, Start
from runstore.storage.memory import MemoryStorage
from runstore.store import Store, check_takeover
from runstore.store import process as holder

DAG = Dag([Task(name="a")])


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.ENOENT])
def test_a_writer_is_not_dead_because_proc_cannot_be_read(monkeypatch, code):
    me = holder.current_process()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = replace(me, pid=process.pid, pid_start=holder._stat(process.pid)[1])
    real = builtins.open

    def unreadable(path, *args, **kwargs):
        if str(path).startswith("/proc/") and str(path).endswith("/stat"):
            raise OSError(code, os.strerror(code), path)
        return real(path, *args, **kwargs)

    try:
        monkeypatch.setattr(builtins, "open", unreadable)
        assert not holder.is_dead(me)
        assert not holder.is_dead(other)
        assert not holder.is_dead(replace(me, pid_start=1)), "what cannot be seen is not known"
        assert not holder.is_dead(replace(me, pid=-1))
        assert not holder.is_dead(replace(me, pid=2**80))
    finally:
        process.communicate(b"\n")
    assert holder.is_dead(other), "the kernel knows no such process"


def test_a_writer_of_another_user_is_not_dead(monkeypatch):
    def forbidden(pid, number):
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "kill", forbidden)
    monkeypatch.setattr(holder, "_stat", lambda _: None)
    assert not holder.is_dead(holder.current_process())


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    zombie = replace(
        holder.current_process(), pid=process.pid, pid_start=holder._stat(process.pid)[1]
    )
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_dead(zombie)
    process.wait()
    assert holder.is_dead(zombie)


@pytest.mark.parametrize(
    "takeover", ["everything", None, 5, "", [], datetime.timedelta(seconds=-1)]
)
def test_what_is_no_takeover(takeover):
    run = Store(MemoryStorage(f"takeover {takeover!r}")).create_run(DAG, run_id="r")
    run.begin("a")
    before = dict(run.storage._objects)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="takeover is"):
        check_takeover(takeover)
    with pytest.raises(InputError, match="takeover is"):
        run.take_over(run.history(), takeover)
    assert run.storage._objects == before  # type: ignore[attr-defined]


def test_a_retry_looks_at_it_before_it_writes():
    store = Store(MemoryStorage("retry"))
    store.create_run(DAG, run_id="r").begin("a")
    before = dict(store.storage._objects)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="takeover is 'everything'"):
        retry("r", store=store, takeover="everything")
    assert store.storage._objects == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("since", ["2020-01-01T00:00:00", "long ago", ""])
def test_an_attempt_that_began_nobody_knows_when_is_not_given_up_by_age(since):
    run = Store(MemoryStorage(f"since {since!r}")).create_run(DAG, run_id="r")
    start = Start("r", "a", 1, "0" * 32, "i", Holder("elsewhere"), since, Consumed())
    run.writer.write("runs/r/attempts/a.000001.start.json", start)
    history = run.history()
    assert run.take_over(history, datetime.timedelta(0)) == list(history.open())
    assert run.take_over(history, "all") == []
