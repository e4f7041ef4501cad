"""``sys.stdout`` of a task is a text stream as Python's own, whoever uses it, and for how long."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from rich.console import Console

import runstore
from runstore import Dag, sequence, start, task


def log_of(store, path):
    made = runstore.open_store(store).get_run("r")
    return (Path(store) / made.blobs.key(made.read_end(path, 1).log.sha256)).read_bytes()


def run(store, *functions, **options):
    nodes = [task(f, returns="out" if len(functions) == 1 else ()) for f in functions]
    result = start(sequence(*nodes), store=store, run_id="r", environment={}, **options)
    for f in functions:
        end = result.run.read_end(f.__name__, 1)
        assert end.outcome == "succeeded", end.error
    return result.values().get("out")


def describes():
    """Everything of a text stream that can be asked for."""
    told = []
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOBase)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[attr-defined]
        told.append(
            [
                stream.name, stream.mode, stream.encoding, stream.errors, stream.isatty(),  # type: ignore[attr-defined]
                stream.closed, stream.line_buffering, stream.writable(), stream.readable(),  # type: ignore[attr-defined]
                stream.seekable(), isinstance(stream.buffer, io.BufferedIOBase),  # type: ignore[attr-defined]
                stream.buffer.writable(), stream.buffer.name, os.fstat(stream.fileno()).st_size,  # type: ignore[attr-defined]
            ]
        )  # fmt: skip
        with pytest.raises(io.UnsupportedOperation):
            stream.read()
        with pytest.raises(TypeError, match="must be str"):
            stream.write(b"bytes")
        with pytest.raises(TypeError):
            stream.buffer.write("text")  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = stream.no_such_thing  # type: ignore[attr-defined]
    return told


@pytest.mark.parametrize("processes", [False, True])
def test_it_answers_whatever_a_text_stream_is_asked(tmp_path, processes):
    told = run(tmp_path, describes, processes=processes, workers=1)
    assert told == [
        [
            name, "w", "utf-8", "backslashreplace", False, False, True, True, False, False, True,
            True, name, 0,
        ]
        for name in ("<stdout>", "<stderr>")
    ]  # fmt: skip


def writes():
    assert sys.stdout.write("zwölf\n") == 6
    assert sys.stdout.buffer.write(b"raw\xff\n") == 5
    sys.stdout.writelines(["a\n", "b\n"])
    sys.stdout.reconfigure(encoding="latin-1")
    sys.stdout.write("é\n")
    sys.stdout.close()
    with sys.stderr:
        pass
    assert not sys.stdout.closed
    print("still there")


@pytest.mark.parametrize("processes", [False, True])
def test_what_is_written_is_kept_as_it_was_written(tmp_path, processes):
    run(tmp_path, writes, processes=processes, workers=1)
    wanted = "zwölf\n".encode() + b"raw\xff\na\nb\n\xe9\nstill there\n"
    assert log_of(tmp_path, "writes") == wanted


def test_a_step_that_changes_its_stream_changes_no_other_one(tmp_path):
    def changes():
        sys.stdout.reconfigure(encoding="utf-16", errors="ignore")

    def prints():
        print("plain")

    run(tmp_path, changes, prints)
    assert log_of(tmp_path, "prints") == b"plain\n"


def test_libraries_that_keep_the_stream_of_one_step_print_to_that_of_the_next(tmp_path):
    kept = {}

    def first():
        click.echo("click")
        Console().print("rich")
        kept["handler"] = logging.StreamHandler(sys.stdout)
        kept["bytes"] = sys.stdout.buffer
        logging.getLogger("tests.streams").addHandler(kept["handler"])
        logging.getLogger("tests.streams").error("logged")

    def second():
        click.echo("click again")
        logging.getLogger("tests.streams").error("logged again")
        kept["bytes"].write(b"bytes again\n")  # type: ignore[attr-defined]

    try:
        run(tmp_path, first, second)
    finally:
        logging.getLogger("tests.streams").removeHandler(kept["handler"])
    assert log_of(tmp_path, "first") == b"click\nrich\nlogged\n"
    assert log_of(tmp_path, "second") == b"click again\nlogged again\nbytes again\n"


def test_a_step_that_wraps_the_stream_anew_takes_nothing_from_those_after_it(tmp_path, capsys):
    before = sys.stdout

    def wraps():
        sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8", line_buffering=True)
        print("wrapped")

    def prints():
        print("of the next")

    try:
        run(tmp_path, wraps, prints)
        print("of the program")
        sys.stdout.flush()
    finally:
        sys.stdout = before
    gc.collect()
    print("of the program still")
    assert log_of(tmp_path, "wraps") == b"wrapped\n"
    assert log_of(tmp_path, "prints") == b"of the next\n"
    assert capsys.readouterr().out == "of the program\nof the program still\n"


def test_a_descriptor_that_is_kept_or_closed_reaches_no_other_file(tmp_path):
    """As `faulthandler.enable()` keeps it: the number must not become that of a file of ours."""
    kept = []

    def keeps():
        kept.append(sys.stdout.fileno())
        os.write(kept[0], b"by number\n")
        subprocess.run(["echo", "handed"], stdout=sys.stdout, check=True)
        faulthandler.enable(sys.stderr)
        faulthandler.disable()

    def late():
        os.write(kept[0], b"late\n")

    def closes():
        with open(sys.stdout.fileno(), "w") as stream:
            stream.write("through another\n")
        print("after that")

    def after():
        os.write(sys.stdout.fileno(), b"after one was closed\n")

    run(tmp_path, keeps, late, closes, after)
    assert log_of(tmp_path, "keeps") == b"by number\nhanded\n"
    assert log_of(tmp_path, "closes") == b"through another\nafter that\n"
    assert log_of(tmp_path, "after") == b"after one was closed\n"


def test_descriptors_do_not_become_more_with_every_step(tmp_path):
    def asks(item):
        return sys.stdout.fileno()

    body = Dag([task(asks, returns="number")])
    node = runstore.Map(name="m", over="items", as_="item", body=body)
    before = len(os.listdir("/proc/self/fd"))
    result = start(
        Dag([node]), {"items": list(range(50))}, store=tmp_path, workers=2, environment={}
    )
    assert result.status == "succeeded"
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_a_stream_of_the_users_own_may_say_nothing_of_how_much_it_wrote(tmp_path, monkeypatch):
    written = []

    class Own:
        def write(self, text):
            written.append(text)

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Own())
    with runstore.executor.stdout.routed():
        assert sys.stdout.write("abc") == 3
        assert sys.stdout.encoding == "utf-8"
        assert not sys.stdout.closed
    assert written == ["abc"]


def test_a_stream_that_a_task_leaves_takes_nothing_from_those_after_it(tmp_path, capsys):
    before = sys.stdout

    def leaves():
        sys.stdout = sys.stderr = io.StringIO()
        print("into its own")

    def prints():
        print("of the next")
        print("and its errors", file=sys.stderr)

    run(tmp_path, leaves, prints)
    assert sys.stdout is before
    assert log_of(tmp_path, "prints") == b"of the next\nand its errors\n"


def test_streams_that_tasks_at_once_put_back_in_the_wrong_order_are_taken_away(tmp_path):
    """As `contextlib.redirect_stdout` does in threads: who began last finds the other's stream."""
    first, second, left = threading.Event(), threading.Event(), threading.Event()
    before = sys.stdout

    def one():
        with contextlib.redirect_stdout(io.StringIO()):
            first.set()
            assert second.wait(30)
        left.set()

    def two():
        assert first.wait(30)
        own = io.StringIO()
        with contextlib.redirect_stdout(own):
            second.set()
            assert left.wait(30)
            sys.stdout = own
            print("it is its own still")
        assert own.getvalue() == "it is its own still\n"

    def after():
        print("to the log")

    made = Dag([task(one), task(two), task(after, after=["one", "two"])])
    result = start(made, store=tmp_path, run_id="r", environment={}, workers=2)
    assert result.status == "succeeded"
    assert log_of(tmp_path, "after") == b"to the log\n"
    assert sys.stdout is before


def test_a_stream_is_left_to_the_task_that_put_it_there_while_others_come_and_go(tmp_path):
    placed, gone = threading.Event(), threading.Event()

    def quick():
        assert placed.wait(30)

    def later(attempt: runstore.Attempt):
        gone.set()

    def redirects():
        own = io.StringIO()
        with contextlib.redirect_stdout(own):
            placed.set()
            assert gone.wait(30)
            print("for itself")
        return own.getvalue()

    made = Dag([task(quick), task(redirects, returns="out"), task(later, after="quick")])
    result = start(made, store=tmp_path, run_id="r", environment={}, workers=2)
    assert result.values() == {"out": "for itself\n"}
