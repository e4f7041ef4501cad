"""Retries and timeouts: each try is an attempt of its own, and the planner says which is next."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

import runstore
from runstore.dag import Dag
from runstore.errors import PipelineError
from runstore.executor.tries import seconds_of, tries_of
from runstore.plan import Reason
from runstore.records import End
from tests.executor.tasks import RELEASED, len_of_nothing, wait_for_long
from tests.transfer.lives import memory


def ends(run, path: str) -> list[tuple]:
    return [(e.attempt, e.outcome, e.try_, e.of) for e in run.history().ends(path)]


def failing(times: int):
    made = []

    def work():
        made.append(1)
        if len(made) <= times:
            raise ValueError(f"no {len(made)}")
        return 7

    return work


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_a_step_is_tried_as_often_as_it_says(retries):
    store = memory()
    dag = Dag([runstore.task(failing(2), name="work", returns="x", retries=retries)])
    result = runstore.start(dag, store=store, run_id="r")
    of = 1 + retries
    tried = [(None, None)] if not retries else [(n, of) for n in range(1, of + 1)]
    outcomes = ["failed", "failed", "succeeded"][: max(1, min(of, 3))]
    assert result.status == ("succeeded" if retries >= 2 else "failed")
    assert ends(result.run, "work") == [
        (n, outcome, *tried[n - 1]) for n, outcome in enumerate(outcomes, 1)
    ]
    if result.status == "failed":
        # The next invocation has tries of its own.
        runstore.retry("r", dag, store=store)
        assert ends(result.run, "work")[of][2:] == tried[0]


def test_the_plan_says_which_try_is_next():
    store = memory()
    after = runstore.task(failing(0), name="b", after="work")
    dag = Dag([runstore.task(failing(9), name="work", retries=3), after])
    run = store.create_run(dag, run_id="r")
    run.begin_invocation()
    run.begin(run.step("work")).fail("not yet\nand more")
    step = run.step("work")
    assert (step.action, step.reason) == ("RUN", Reason.RETRY)
    assert step.detail == "2 of 4: Error: not yet"
    assert run.step("b").reason is Reason.UPSTREAM_PENDING
    # Somebody else's tries are not this one's.
    run.begin_invocation("retry")
    assert run.step("work").reason is Reason.FAILED
    assert run.begin(run.step("work")).start.try_ == 1


def test_a_handler_waits_for_the_last_try():
    store = memory()
    dag = Dag(
        [
            runstore.task(failing(9), name="work", retries=2),
            runstore.task(
                failing(0), name="mend", after="work", trigger="one_failed", handles=True
            ),
        ]
    )
    result = runstore.start(dag, store=store, run_id="r")
    assert result.status == "succeeded"
    assert len(ends(result.run, "work")) == 3
    assert len(ends(result.run, "mend")) == 1


@pytest.mark.parametrize("processes", [False, True])
def test_a_function_that_takes_too_long_has_failed(processes, tmp_path: Path):
    dag = Dag([runstore.task(wait_for_long, timeout=0.3), runstore.task(len_of_nothing)])
    result = runstore.start(dag, store=tmp_path, processes=processes, workers=1)
    assert result.status == "failed"
    (end,) = result.run.history().ends("wait_for_long")
    assert (end.outcome, end.error["message"]) == ("failed", "timed out after 0.3 s")
    assert result.plan["len_of_nothing"].action == "SKIP"
    if not processes:
        RELEASED.set()  # or this process could not end
        RELEASED.clear()
        assert any("cannot be stopped" in warning for warning in result.warnings)


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path):
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(
        """\
steps:
  - name: slow
    timeout: 300ms
    retries: 1
    command: |
      echo begun
      sleep 600 &
      echo $! >> $RUNSTORE_PIPELINE_DIR/pids
      sleep 600
"""
    )
    result = runstore.start(runstore.load_pipeline(str(pipeline)), store=tmp_path / "store")
    assert result.status == "failed"
    assert ends(result.run, "slow") == [(1, "failed", 1, 2), (2, "failed", 2, 2)]
    end = result.run.history().latest("slow")
    assert isinstance(end, End)
    assert end.error["message"] == "timed out after 0.3 s"
    assert result.run.logs("slow") == b"begun\n"
    for pid in (tmp_path / "pids").read_text().split():
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_pause_is_kept_between_tries_and_others_run_meanwhile():
    store = memory()
    order = []

    def bad():
        order.append("bad")
        if order.count("bad") == 1:
            raise ValueError("no")

    def other():
        for _ in range(200):
            if "bad" in order:
                break
            time.sleep(0.01)
        order.append("other")

    dag = Dag([
        runstore.task(bad, retries=1, retry_delay="1s"), runstore.task(other),
        runstore.task(lambda: order.append("last"), name="last", after="other"),
    ])  # fmt: skip
    result = runstore.start(dag, store=store, workers=1)
    assert result.status == "succeeded"
    # Whatever was ready meanwhile was done in the pause.
    assert order == ["bad", "other", "last", "bad"]


def test_a_coroutine_that_takes_too_long_is_cancelled():
    import asyncio

    cancelled = threading.Event()

    async def hang():
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    result = runstore.start(Dag([runstore.task(hang, timeout=0.2)]), store=memory())
    assert result.status == "failed"
    assert cancelled.wait(60)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"retries": -1}, "retries"), ({"retries": "3"}, "retries"), ({"retries": True}, "retries"),
        ({"retries": 1.5}, "retries"), ({"retries": 10**9}, "retries"),
        ({"timeout": 0}, "timeout"), ({"timeout": "soon"}, "timeout"), ({"timeout": -1}, "timeout"),
        ({"retry_delay": "5"}, "retry_delay"), ({"retry_delay": [1]}, "retry_delay"),
        ({"retry_backoff": 0}, "retry_backoff"), ({"retry_backoff": "2"}, "retry_backoff"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_written(config, said):
    store = memory()
    with pytest.raises(PipelineError, match=f"'f'.*{said}"):
        runstore.start(Dag([runstore.task(len_of_nothing, name="f", **config)]), store=store)
    assert list(store.run_ids()) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("1.5m", 90), ("2h", 7200), ("1d", 86400), (3, 3), (0.25, 0.25),
     ("", None), ("s", None), ("-1s", None), (True, None), (None, None), ("9999d", None)],
)  # fmt: skip
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


def test_pauses_grow():
    task = runstore.task(len_of_nothing, retries=5, retry_delay="10s", retry_backoff=2)
    assert [tries_of(task).pause(n) for n in (1, 2, 3)] == [10, 20, 40]


def test_the_record_says_which_try_it_was(tmp_path: Path):
    dag = Dag([runstore.task(failing(1), name="work", retries=2)])
    runstore.start(dag, store=tmp_path, run_id="r")
    found = []
    for file in sorted(tmp_path.glob("runs/r/*/attempts/*.json")):
        record = json.loads(file.read_bytes())["record"]
        found.append((file.name, record["try"], record["of"]))
    assert found == [
        ("work.000001.end.json", 1, 3), ("work.000001.start.json", 1, 3),
        ("work.000002.end.json", 2, 3), ("work.000002.start.json", 2, 3),
    ]  # fmt: skip
