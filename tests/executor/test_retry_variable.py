"""The variable that turns a start into a retry is for the outermost run of a process, and for it
alone. What a step starts leaves its id in the store: the oracle lists the runs there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task, start, task
from runstore.errors import InputError, RunNotFoundError
from tests.executor.test_dying_workers import program

NAMES = ("RUNSTORE_RETRY_RUN_ID", "RUNNABLE_RETRY_RUN_ID")


def fails_while(flag):
    if os.path.exists(flag):
        raise RuntimeError("the flag is up")


PIPELINE = Dag([task(fails_while)])


@pytest.fixture
def failed(tmp_path):
    """A store with a run `r` that failed and would not fail again."""
    flag = tmp_path / "flag"
    flag.touch()
    store = str(tmp_path / "s")
    start(
        PIPELINE, {"flag": str(flag)}, store=store, run_id="r", labels={"team": "x"}, environment={}
    )
    flag.unlink()
    return store, str(flag)


def test_another_run_id_is_refused_and_the_same_one_taken(failed):
    store, flag = failed
    for name in NAMES:
        with pytest.raises(InputError, match=f"{name} .*run 'r'.*'other'.*unset {name}"):
            start(PIPELINE, {"flag": flag}, store=store, run_id="other", environment={name: "r"})
    two = dict.fromkeys(NAMES, "r") | {NAMES[1]: "q"}
    with pytest.raises(InputError, match="unset one of them"):
        start(PIPELINE, {"flag": flag}, store=store, environment=two)
    with pytest.raises(RunNotFoundError):
        start(PIPELINE, {"flag": flag}, store=store, environment={NAMES[0]: "nope"})
    assert list(runstore.open_store(store).run_ids()) == ["r"]
    both = dict.fromkeys(NAMES, "r")
    result = start(PIPELINE, {"flag": flag}, store=store, run_id="r", environment=both)
    assert (result.run_id, result.status, result.warnings) == ("r", "succeeded", ())


def test_an_empty_one_is_as_unset(failed):
    store, flag = failed
    environment = dict.fromkeys(NAMES, "")
    assert start(PIPELINE, {"flag": flag}, store=store, run_id="e", environment=environment)
    environment[NAMES[1]] = "r"
    assert start(PIPELINE, {"flag": flag}, store=store, environment=environment).run_id == "r"


def test_labels_and_parameters_that_it_drops_are_told(failed):
    store, _ = failed
    told = []

    class Tells(runstore.executor.Silent):
        def warned(self, message):
            told.append(message)

    result = start(
        PIPELINE, {"flag": "another", "more": 1}, store=store, labels={"team": "y", "who": "z"},
        reporter=Tells(), environment={NAMES[0]: "r"},
    )  # fmt: skip
    assert result.warnings == tuple(told)
    for dropped in ("label 'team'", "label 'who'", "parameter 'flag'", "parameter 'more'"):
        assert [f"{dropped} is ignored" in message for message in told].count(True) == 1
    assert result.run.record.labels == {"team": "x"}


def test_what_it_keeps_is_not_told(failed):
    store, flag = failed
    result = start(
        PIPELINE, {"flag": flag}, store=store, labels={"team": "x"}, environment={NAMES[0]: "r"}
    )
    assert result.warnings == ()


# -- what steps inherit --------------------------------------------------------------------------

INNER = """
import os, runstore
def g():
    return 1
if __name__ == "__main__":
    result = runstore.start(runstore.Dag([runstore.task(g)]), store=os.environ["INNER"])
    assert result.status == "succeeded"
"""


def seen():
    return [name for name in NAMES if name in os.environ]


def starts_a_run(inner, how):
    """A run in a step: in this thread or process, in a Python of its own, or in another thread."""
    import subprocess
    import threading

    inside = Dag([task(seen, name="inside")])
    if how == "here":
        start(inside, store=inner)
    elif how == "thread":
        thread = threading.Thread(target=start, args=(inside,), kwargs={"store": inner})
        thread.start()
        thread.join()
    else:
        script = os.path.join(inner + ".py")
        Path(script).write_text(INNER)
        subprocess.run([sys.executable, script], env={**os.environ, "INNER": inner}, check=True)
    return seen()


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
@pytest.mark.parametrize("how", ["here", "thread", "python"])
def test_a_run_that_a_step_starts_is_one_of_its_own(tmp_path, monkeypatch, how, processes):
    flag = tmp_path / "flag"
    flag.touch()
    outer, inner = str(tmp_path / "outer"), str(tmp_path / "inner")
    pipeline = Dag([task(fails_while), task(starts_a_run, after="fails_while", returns="seen")])
    given = {"flag": str(flag), "inner": inner, "how": how}
    assert start(pipeline, given, store=outer, run_id="r").status == "failed"
    flag.unlink()
    for name in NAMES:
        monkeypatch.setenv(name, "r")
    result = start(pipeline, given, store=outer, processes=processes, workers=1)
    assert (result.run_id, result.status) == ("r", "succeeded")
    assert result.values()["seen"] == []
    assert list(runstore.open_store(outer).run_ids()) == ["r"]
    assert len(list(runstore.open_store(inner).run_ids())) == 1
    assert seen() == list(NAMES), "the program has them again"


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
@pytest.mark.parametrize("verb", ["retry", "fork"])
def test_no_command_sees_it_whatever_was_called(failed, monkeypatch, tmp_path, verb, processes):
    """Also where the variable is not what made this a retry."""
    store, flag = failed
    shell = Task(name="fails_while", type="shell", params=("flag",), config={"command": "env >&2"})
    start(Dag([shell]), {"flag": flag}, store=store, run_id="sh", environment={})
    monkeypatch.setenv(NAMES[0], "r")
    monkeypatch.setenv(NAMES[1], "r")
    if verb == "retry":
        result = runstore.retry(
            "sh", Dag([shell]), store=store, force=["fails_while"], processes=processes
        )
    else:
        result = runstore.fork("r", Dag([shell]), store=store, keep_unchanged=True)
    assert result.status == "succeeded"
    log = result.run.logs("fails_while")
    assert b"RUNSTORE_RUN_ID=" in log
    assert b"RETRY_RUN_ID" not in log


def test_a_program_that_fails_to_start_has_it_still(monkeypatch, tmp_path):
    monkeypatch.setenv(NAMES[0], "nope")
    with pytest.raises(RunNotFoundError):
        start(PIPELINE, {"flag": "x"}, store=tmp_path)
    assert os.environ[NAMES[0]] == "nope"


SCRIPT = """
import os, runstore
def f():
    if not os.path.exists({go!r}):
        raise RuntimeError
if __name__ == "__main__":
    print(runstore.start(runstore.Dag([runstore.task(f)]), store={store!r}, **{more}).run_id)
"""


def test_a_script_is_switched_from_outside(tmp_path):
    script, go, store = tmp_path / "p.py", tmp_path / "go", tmp_path / "s"
    script.write_text(SCRIPT.format(go=str(go), store=str(store), more={"run_id": "r"}))
    assert program(script).stdout == "r\n"
    go.touch()
    script.write_text(SCRIPT.format(go=str(go), store=str(store), more={}))
    assert program(script, RUNSTORE_RETRY_RUN_ID="r").stdout == "r\n"
    assert runstore.open_store(store).get_run("r").read_end("f", 2).outcome == "succeeded"
