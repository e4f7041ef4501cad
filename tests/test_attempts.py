"""Attempts: claimed by one of many, ended once, taken over with fencing."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

import runstore
from runstore import Task, sequence
from runstore.errors import (
    AttemptEndedError,
    AttemptLostError,
    AttemptTakenError,
    RefusedError,
)
from runstore.records import Consumed, Holder
from runstore.store import process as holder

DAG = sequence(Task(name="a", returns=("x",)), Task(name="b", params=("x",), returns=("y",)))
fork = multiprocessing.get_context("fork")


def disk(root: Path) -> dict[str, bytes]:
    """What is on the disk, seen without the library."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def document(data: bytes) -> dict:
    return json.loads(data)["record"]


@pytest.fixture
def run(tmp_path):
    return runstore.open_store(tmp_path / "store", durable=False).create_run(DAG, run_id="r")


def child(work, *arguments):
    """Run ``work`` in a forked process; what it put in the queue."""
    queue = fork.SimpleQueue()
    process = fork.Process(target=work, args=(queue, *arguments))
    process.start()
    return process, queue


# -- claims --------------------------------------------------------------------------------------


def claim(queue, root, gate) -> None:
    run = runstore.open_store(root, durable=False).get_run("r")
    run.invocation = f"pid-{os.getpid()}"
    gate.wait()
    try:
        attempt = run.begin("a", number=1, consumed=Consumed())
        queue.put(("won", os.getpid(), attempt.start.nonce))
    except AttemptTakenError as error:
        queue.put(("lost", os.getpid(), (str(error), error.holder)))


def test_of_many_processes_one_gets_the_attempt(run, tmp_path):
    for number in range(4):
        root = tmp_path / f"race{number}"
        runstore.open_store(root, durable=False).create_run(DAG, run_id="r")
        gate, queue = fork.Barrier(6), fork.SimpleQueue()
        children = [fork.Process(target=claim, args=(queue, root, gate)) for _ in range(6)]
        for each in children:
            each.start()
        said = [queue.get() for _ in children]
        for each in children:
            each.join()
        ((_, pid, nonce),) = [one for one in said if one[0] == "won"]
        losers = [what for how, _, what in said if how == "lost"]
        assert len(losers) == 5
        for message, who in losers:
            assert (who.pid, who.host) == (pid, holder.current_process().host)
            assert f"process {pid} on {who.host}" in message
        (name,) = [name for name in disk(root) if "/attempts/" in name]
        own = f"runs/r/{document(disk(root)['runs/r/run.json'])['nonce']}"
        assert name == f"{own}/attempts/a.000001.start.json"
        assert document(disk(root)[name])["nonce"] == nonce


def test_of_many_threads_one_gets_the_attempt_and_one_ends_it():
    run = runstore.open_store("memory://attempts-race").create_run(DAG, run_id="r")
    run.begin_invocation("start")
    for number in range(1, 30):
        gate = threading.Barrier(8)

        def race(work, gate=gate):
            gate.wait()
            try:
                return work()
            except (AttemptTakenError, AttemptEndedError) as error:
                return error

        with ThreadPoolExecutor(8) as pool:
            begun = list(
                pool.map(race, [lambda n=number: run.begin("a", number=n, consumed=Consumed())] * 8)
            )
            (attempt,) = [one for one in begun if not isinstance(one, Exception)]
            works = [lambda a=attempt: a.succeed({"x": 1}), lambda a=attempt: a.fail("no")] * 4
            done = list(pool.map(race, works))
        (end,) = [one for one in done if not isinstance(one, Exception)]
        assert {type(one) for one in done if isinstance(one, Exception)} == {AttemptEndedError}
        assert run.read_end("a", number).outcome == end.outcome


def test_the_turn_of_a_path(run):
    with pytest.raises(RefusedError, match="b cannot run now"):
        run.begin("b")
    with pytest.raises(RefusedError, match="no step"):
        run.begin("nowhere")
    attempt = run.begin("a")
    with pytest.raises(AttemptTakenError, match=f"process {os.getpid()}") as caught:
        run.begin("a")
    assert caught.value.holder == holder.current_process()
    attempt.succeed({"x": 1})
    with pytest.raises(AttemptEndedError, match="a is done"):
        run.begin("a")
    assert dict(run.begin("b").params()) == {"x": 1}


def test_the_plain_functions_do_the_same(run):
    first = run.begin("a")
    first.fail("broken")
    with pytest.raises(RefusedError, match="failed in this invocation"):
        run.begin("a")
    run.begin_invocation("retry")
    second = run.begin("a")
    second.cancel("stop")
    run.begin_invocation("retry")
    third = run.begin(run.step("a"))
    third.succeed({"x": 1})
    assert [end.outcome for end in run.history().ends("a")] == ["failed", "cancelled", "succeeded"]
    fourth = run.begin("b", number=7, consumed=Consumed())
    assert fourth.number == 7
    assert run.begin("b", consumed=Consumed()).number == 8


# -- one end, and takeover -----------------------------------------------------------------------


def test_an_attempt_ends_once(run, tmp_path):
    attempt = run.begin("a")
    attempt.succeed({"x": 1})
    before = disk(tmp_path)
    twin = run.attempt_of(attempt.token)
    for end in (lambda: attempt.succeed({"x": 2}), lambda: attempt.fail("no"), twin.cancel):
        with pytest.raises(AttemptEndedError, match=r"attempt 1 at a .*succeeded") as caught:
            end()
        assert not isinstance(caught.value, AttemptLostError)
    assert disk(tmp_path) == before


@pytest.mark.parametrize("how", ["leaves", "raises"])
def test_a_child_that_leaves_the_block_ends_nothing(run, tmp_path, how):
    """It has all of the parent's frames, and so the end of the block is its own, too."""
    parent = os.getpid()
    code = None
    try:
        with run.begin("a") as attempt:
            (attempt.folder / "of the parent").touch()
            pid = os.fork()
            if not pid and how == "raises":
                sys.exit(7)
            if pid:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                assert (attempt.folder / "of the parent").exists()
                attempt.outputs["x"] = 1
    finally:
        if os.getpid() != parent:
            os._exit(7)
    assert code == 7
    ends = [p for p in disk(tmp_path / "store") if p.endswith(".end.json")]
    assert len(ends) == 1
    assert document(disk(tmp_path / "store")[ends[0]])["outputs"] == {"x": 1}


def test_another_process_ends_it_by_its_token(run, tmp_path):
    attempt = run.begin("a")

    def end(queue, token):
        other = runstore.open_store(tmp_path / "store").get_run("r").attempt_of(token)
        queue.put((other.path, other.number, other.succeed({"x": 5}).outcome))

    process, queue = child(end, attempt.token)
    assert queue.get() == ("a", 1, "succeeded")
    process.join()
    (end_record,) = run.history().ends("a")
    assert end_record.start == attempt.start.digest
    assert end_record.consumed == attempt.start.consumed
    assert run.step("b").action == "RUN"
    with pytest.raises(AttemptEndedError):
        attempt.succeed({"x": 1})


def zombie(queue, root, proceed) -> None:
    attempt = runstore.open_store(root).get_run("r").begin("a")
    queue.put(os.getpid())
    for _ in range(6_000):
        if proceed.exists():
            break
        time.sleep(0.01)
    try:
        attempt.succeed({"x": "from the dead"})
        queue.put("accepted")
    except AttemptLostError as error:
        queue.put(str(error))


def test_a_zombie_is_refused_and_changes_nothing(run, tmp_path):
    """A process that was stopped, given up, and goes on as if nothing had happened."""
    proceed = tmp_path / "proceed"
    process, queue = child(zombie, tmp_path / "store", proceed)
    pid = queue.get()
    os.kill(pid, signal.SIGSTOP)
    history = run.history()
    (left,) = run.take_over(history)
    assert left.by.pid == pid, "stopped is not dead"
    assert run.take_over(history, "all") == []
    again = run.begin("a")
    assert again.number == 2
    again.succeed({"x": 1})
    before = disk(tmp_path / "store")
    proceed.touch()
    os.kill(pid, signal.SIGCONT)
    said = queue.get()
    process.join()
    assert "declared lost" in said
    assert str(os.getpid()) in said
    assert disk(tmp_path / "store") == before
    end = document(before[f"{run.prefix}attempts/a.000001.end.json"])
    assert (end["outcome"], end["ended_by"]["pid"]) == ("lost", os.getpid())


def test_two_takeovers_at_once_see_the_same_end(run):
    for number in range(1, 20):
        run.begin("a", number=number, consumed=Consumed())
        runs = [runstore.open_store(run.storage.url, durable=False).get_run("r") for _ in range(4)]
        histories = [each.history() for each in runs]
        with ThreadPoolExecutor(4) as pool:
            left = list(pool.map(lambda r, h: r.take_over(h, "all"), runs, histories))
        assert left == [[]] * 4
        digests = {history.latest("a").digest for history in histories}
        assert len(digests) == 1
        assert run.read_end("a", number).digest in digests


def test_takeover_against_the_end_itself(run):
    """Whoever is first; the other one learns of it."""
    outcomes = set()
    for number in range(1, 40):
        attempt = run.begin("a", number=number, consumed=Consumed())
        history = run.history()

        def succeed(attempt=attempt):
            try:
                return attempt.succeed({"x": 1}).outcome
            except AttemptLostError:
                return "lost"

        with ThreadPoolExecutor(2) as pool:
            mine = pool.submit(succeed)
            pool.submit(run.take_over, history, "all").result()
        assert mine.result() == history.latest("a").outcome == run.read_end("a", number).outcome
        outcomes.add(mine.result())
    assert outcomes <= {"succeeded", "lost"}


def begin_and_die(queue, root) -> None:
    attempt = runstore.open_store(root).get_run("r").begin("a")
    queue.put(attempt.start.by)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_process_of_this_host_is_taken_over(run, tmp_path):
    process, queue = child(begin_and_die, tmp_path / "store")
    queue.get()
    process.join()
    history = run.history()
    assert run.take_over(history) == []
    end = history.latest("a")
    assert (end.outcome, end.ended_by.pid) == ("lost", os.getpid())
    assert run.begin("a").number == 2


def test_who_is_dead_and_who_is_not(tmp_path):
    me = holder.current_process()
    process, queue = child(begin_and_die_later, 0)
    gone = queue.get()
    process.join()
    assert holder.is_dead(gone)
    assert not holder.is_dead(me)
    assert holder.is_dead(replace(me, pid_start=me.pid_start - 1)), "its pid was given to another"
    assert not holder.is_dead(replace(gone, host="elsewhere"))
    assert not holder.is_dead(replace(gone, boot="another-boot"))
    assert not holder.is_dead(replace(gone, pid_start=None))
    assert not holder.is_dead(replace(gone, boot=None))
    assert not holder.is_dead(Holder("h"))
    assert not holder.is_dead(None)


def begin_and_die_later(queue, _) -> None:
    queue.put(holder.current_process())


def test_takeover_by_age(run, monkeypatch):
    run.begin("a")
    history = run.history()
    assert len(run.take_over(history, datetime.timedelta(hours=1))) == 1
    assert run.take_over(history, datetime.timedelta(0)) == []
    assert history.latest("a").outcome == "lost"
