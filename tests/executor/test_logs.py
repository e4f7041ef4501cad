"""What a task prints is kept, whatever becomes of it. The oracle reads the blob's file."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Map, Task, sequence, start, task
from runstore.errors import StorageError
from runstore.executor.step_log import Log
from runstore.storage.local import LocalStorage
from tests.executor import printing as p
from tests.executor.test_signals import wait_for

SECRET = "s3cret-value"


def raw(store, path, number=1):
    """The outcome and the log of an attempt, as they lie in the folder of the store."""
    run = runstore.open_store(store).get_run("r")
    end = run.read_end(path, number)
    if end.log is None:
        return end.outcome, None
    return end.outcome, (Path(store) / run.blobs.key(end.log.sha256)).read_bytes()


def run(pipeline, parameters=None, **options):
    return start(pipeline, parameters, environment={}, run_id="r", **options)


# -- cancelled -----------------------------------------------------------------------------------

SHELL = 'echo "so far, with $token"; echo $$ > "$marker"; sleep 60'

SCRIPT = """
import os, sys
from runstore import Pipeline, start
from tests.executor.test_logs import waiting
pipeline = Pipeline(waiting({kind!r}), secrets=["token"])
result = start(pipeline, {{"marker": {marker!r}}}, store={store!r}, run_id="r",
               processes={processes}, secrets={{"token": "s3cret-value"}}, environment={{}})
print(result.status, flush=True)
os._exit(0)  # a thread cannot be killed
"""


def waiting(kind):
    params = ("marker", "token")
    if kind == "shell":
        return Dag([Task(name="w", type="shell", params=params, config={"command": SHELL})])
    return Dag([task(p.waits, name="w")])


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("kind", ["python", "shell"])
def test_what_a_cancelled_attempt_printed_is_kept(tmp_path, kind, processes, times):
    marker, store = tmp_path / "marker", str(tmp_path / "s")
    script = SCRIPT.format(kind=kind, marker=str(marker), store=store, processes=processes)
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(marker)
        for _ in range(times):
            child.send_signal(signal.SIGINT)
            time.sleep(0.03)
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out.split() == ["cancelled"]
    assert raw(store, "w") == ("cancelled", b"so far, with ***\n")


def test_a_task_that_interrupts_itself_keeps_its_log(tmp_path):
    def interrupts():
        print("so far")
        raise KeyboardInterrupt

    run(sequence(task(interrupts)), store=tmp_path)
    assert raw(tmp_path, "interrupts") == ("failed", b"so far\n")


# -- a worker that dies --------------------------------------------------------------------------


def test_what_was_printed_before_the_worker_died_is_kept(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    dag = Dag([task(p.dies), task(p.dies_unflushed)])
    pipeline = runstore.Pipeline(dag, secrets=["token"])
    store = tmp_path / "s"
    result = run(pipeline, store=store, processes=True, workers=2, secrets={"token": SECRET})
    assert raw(store, "dies") == ("failed", b"before death: ***\n")
    assert raw(store, "dies_unflushed") == ("failed", b"held by nobody")
    error = result.run.read_end("dies", 1).error
    assert error["type"] == "WorkerDied"
    assert error["message"] == (
        "its worker process exited with code 9: see its log for what it printed; then retry the run"
    )
    assert not list(scratch.glob("runstore-scratch-*")), (
        "what is not masked is not left lying about"
    )


def test_a_pool_that_broke_keeps_what_each_had_printed(tmp_path):
    (tmp_path / "at").mkdir()
    body = sequence(task(p.dies_when_others_are_at_it, name="w"))
    pipeline = Map(name="m", over="items", as_="item", body=body)
    store = tmp_path / "s"
    run(
        sequence(pipeline), {"items": ["doomed", "other"], "folder": str(tmp_path / "at")},
        store=store, workers=2,
        executor=lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    )  # fmt: skip
    outcome, log = raw(store, 'm["doomed"]/w')
    assert (outcome in ("lost", "failed"), log) == (True, b"doomed began\n")
    assert raw(store, 'm["other"]/w')[1] == b"other began\n"


# -- a machine that has no room ------------------------------------------------------------------


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, f"No space left on device for {SECRET}")


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_an_attempt_whose_log_cannot_be_kept_is_ended(tmp_path, monkeypatch, ends):
    def prints():
        print("something")
        monkeypatch.setattr("tempfile.SpooledTemporaryFile", no_room)
        if ends == "badly":
            raise ValueError("its own")

    result = run(
        runstore.Pipeline(sequence(task(prints)), secrets=["token"]), store=tmp_path,
        secrets={"token": SECRET},
    )  # fmt: skip
    outcome, log = raw(tmp_path, "prints")
    assert outcome == ("succeeded" if ends == "well" else "failed")
    assert log.startswith(b"runstore: the output could not be kept: ")
    assert log.endswith(b"No space left on device for ***\n")
    assert not list(result.run.history().open())


def test_a_store_that_fails_is_still_told(tmp_path, monkeypatch):
    """The attempt is left open: its end could not be written, either."""

    def refuses(*_, **__):
        raise StorageError("the store is full")

    monkeypatch.setattr("runstore.store.blobs.Blobs.put_file", refuses)
    with pytest.raises(StorageError, match="the store is full"):
        run(sequence(task(p.in_its_context)), store=tmp_path)


# -- what is caught ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ours", "theirs"])
def test_in_a_worker_process_all_of_it_is_caught(tmp_path, capfd, how):
    pipeline = sequence(task(p.everywhere), task(p.everywhere, name="again"))
    if how == "ours":
        run(pipeline, store=tmp_path, processes=True, workers=1)
    else:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            run(pipeline, store=tmp_path, executor=pool)
            assert pool.submit(os.write, 1, b"it is theirs again\n").result() == 19
    for name in ("everywhere", "again"):
        assert raw(tmp_path, name)[1].decode().splitlines() == [
            "from the task", "from the descriptor", "from a child", "its error", "from a thread",
            "from an old stream", "the end",
        ]  # fmt: skip
    printed = capfd.readouterr()
    assert "from" not in printed.out + printed.err
    assert ("theirs again" in printed.out) == (how == "theirs")


def test_in_a_thread_what_is_not_the_tasks_own_goes_where_it_went(tmp_path, capfd):
    """As docs/pipelines.md says; descriptors and other threads are the whole process's."""
    run(sequence(task(p.everywhere)), store=tmp_path)
    log = raw(tmp_path, "everywhere")[1].decode().splitlines()
    assert (log[0], log[-1]) == ("from the task", "the end")
    rest = {"from the descriptor", "from a child", "its error", "from a thread"}
    printed = capfd.readouterr()
    assert rest <= set((printed.out + printed.err).splitlines())
    assert not rest & set(log)


def test_a_thread_in_the_context_of_its_task_is_caught(tmp_path):
    run(sequence(task(p.in_its_context)), store=tmp_path)
    assert raw(tmp_path, "in_its_context")[1] == b"from asyncio\nfrom a thread\n"


@pytest.mark.parametrize("processes", [False, True])
def test_a_command_that_is_handed_the_stream_is_caught(tmp_path, processes):
    run(sequence(task(p.handed)), store=tmp_path, processes=processes, workers=1)
    assert raw(tmp_path, "handed")[1] == b"before\nhanded\nafter\n"


@pytest.fixture
def handler():
    """What `logging.basicConfig()` makes when a pipeline is imported."""
    made = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("tests.executor.printing")
    logger.addHandler(made)
    yield made
    logger.removeHandler(made)


def test_a_handler_of_logging_that_was_there_before_is_caught(tmp_path, capsys, handler):
    before = handler.stream = sys.stderr  # pytest has another one for each phase of a test
    run(sequence(task(p.logs)), store=tmp_path)
    assert raw(tmp_path, "logs")[1] == b"from the log\n"
    assert handler.stream is before
    assert capsys.readouterr().err == ""
    p.logs()
    assert capsys.readouterr().err == "from the log\n"


def test_output_of_threads_and_of_a_command_keeps_its_order_and_length(tmp_path):
    """More than stays in memory; and a command that leaves something behind that prints."""

    def prints():
        for n in range(200_000):
            print(n)

    command = "(sleep 5; echo late) & seq 200000"
    run(
        Dag([task(prints), Task(name="sh", type="shell", config={"command": command})]),
        store=tmp_path,
    )  # fmt: skip
    wanted = "".join(f"{n}\n" for n in range(200_000)).encode()
    assert raw(tmp_path, "prints")[1] == wanted
    assert raw(tmp_path, "sh")[1] == wanted.replace(b"0\n", b"", 1) + b"200000\n"


@pytest.mark.parametrize("seen", [4, 7, 10, 21, 22, 23])
def test_a_secret_that_begins_with_another_is_hidden_wherever_a_piece_ends(tmp_path, seen):
    """Logs are kept in pieces of one MiB; so much of the longer secret stands in the first."""
    secrets = {"short": "hunter2", "long": "hunter2-production-key"}
    made = runstore.Store(LocalStorage(tmp_path)).create_run(
        sequence(task(p.in_its_context)), run_id="r", secrets=secrets
    )
    before = b"\xff" * ((1 << 20) - seen)
    log = Log()
    log.write(before + b"hunter2-production-key and hunter2.")
    blob = log.kept(made)
    log.release()
    assert made.blobs.read(blob) == before + b"*** and ***."


DAEMON = """
import sys
sys.stdout = sys.stderr = None
import logging
from runstore import sequence, start, task
from runstore.executor.stdout import routed
def prints():
    print("of the task")
with routed():
    print("to nobody")
    print("to nobody", file=sys.stderr, flush=True)
    sys.stdout.write("to nobody")
    sys.stdout.buffer.write(b"to nobody")
    assert not sys.stdout.isatty()
    logging.warning("to nobody")
assert sys.stdout is None and sys.stderr is None
result = start(sequence(task(prints)), store={store!r}, run_id="r", environment={{}})
assert result.status == "succeeded"
print("to nobody")
"""


def test_a_daemon_without_streams_prints_to_nobody_and_its_tasks_to_their_logs(tmp_path):
    script = DAEMON.format(store=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert raw(tmp_path, "prints") == ("succeeded", b"of the task\n")
