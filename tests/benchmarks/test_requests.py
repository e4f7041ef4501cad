"""What the figures promise, without time: how many requests, files and bytes it takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.counting import Counting
from benchmarks.fixtures import RUN_ID, finished_map, map_dag
from runstore.executor import start
from runstore.storage import open_storage
from runstore.store import Store, open_store
from tests.places import home

ITEMS = 12
ENDS = ITEMS + 1  # of the items, and of the task that lists them


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return finished_map(str(tmp_path_factory.mktemp("finished")), ITEMS)


def counting(url):
    storage = Counting(open_storage(url, durable=False))
    return Store(storage), storage


def files(folder):
    return [name for _, _, names in os.walk(folder) for name in names]


def test_an_attempt_is_two_creates_and_two_looks_at_the_run(tmp_path):
    store, storage = counting(tmp_path / "s")
    attempt = figures.claimed_and_ended(store, 3)
    storage.requests.clear()
    storage.created.clear()
    before = len(files(tmp_path))
    claimed = attempt(1)
    assert storage.requests == {"create": 2, "info": 2}  # whether it is still there
    assert storage.created == [claimed.key, claimed.key.replace(".start.", ".end.")]
    assert len(files(tmp_path)) == before + 2
    assert storage.bytes_created < 6_000


def test_a_record_stays_small(tmp_path):
    store, storage = counting(tmp_path / "s")
    attempt = figures.claimed_and_ended(store, 3)
    before = storage.bytes_created
    attempt(0)
    assert storage.bytes_created - before < 1_600  # a start and an end


def test_a_loose_history_reads_each_record_once(stores):
    store, storage = counting(stores["loose"])
    plan = store.get_run(RUN_ID).plan()
    assert len(plan.steps) == ITEMS + 3
    attempts = [key for key in storage.read_keys if "/attempts/" in key]
    assert len(attempts) == len(set(attempts)) == 2 * ENDS
    assert storage.requests["list"] == 3
    assert storage.requests["read"] == 2 * ENDS + 2  # the run, and its one invocation
    on_disk = sum(os.path.getsize(os.path.join(stores["loose"], key)) for key in attempts)
    assert storage.bytes_read < on_disk + 4_000


def test_a_packed_history_reads_one_object(stores):
    store, storage = counting(stores["pack"])
    plan = store.get_run(RUN_ID).plan()
    assert len(plan.steps) == ITEMS + 3
    assert storage.requests == {"list": 3, "read": 3}  # the run, its invocation, the pack


def test_loose_records_that_stand_in_a_pack_are_read_again_on_a_disk_alone(stores):
    """To see that they say the same. Of a bucket each would be a request: `verify` reads them."""
    store, storage = counting(stores["both"])
    store.get_run(RUN_ID).plan()
    assert storage.requests == {"list": 3, "read": 3 + 2 * ENDS}
    store, storage = counting(stores["both"])
    storage.url = "s3://bucket/prefix"
    store.get_run(RUN_ID).plan()
    assert storage.requests == {"list": 3, "read": 3}


def test_the_three_forms_say_the_same(stores):
    plans = {name: figures.history_and_plan(folder).to_json() for name, folder in stores.items()}
    assert plans["loose"] == plans["pack"] == plans["both"]
    assert plans["loose"]["tasks"]["SKIP"] == ENDS - 1
    assert plans["loose"]["tasks"]["RUN"] == 1


def test_the_floors_read_the_same_records(stores):
    folder = home(Path(stores["loose"]), RUN_ID) / "attempts"
    size = sum(file.stat().st_size for file in folder.iterdir())
    loose = stores["loose"]
    assert figures.read_records(loose) == figures.read_records_bare(loose) == size
    assert figures.read_packs(stores["pack"]) == 2 * ENDS


def test_one_item_needs_what_it_follows_and_not_its_siblings(stores):
    store, storage = counting(stores["loose"])
    run = store.get_run(RUN_ID)
    storage.requests.clear()
    storage.read_keys.clear()
    history = run.history(["each[3]/work"])
    assert set(history.attempts) <= {"list", "each[3]/work"}
    assert storage.requests["list"] <= 4
    assert storage.requests["read"] <= 3


def test_a_map_in_the_executor_writes_two_records_a_step_and_one_pack(tmp_path):
    store, storage = counting(tmp_path / "s")
    result = start(figures.mapped(ITEMS), store=store)
    assert result.status == "succeeded"
    kinds = [key.split("/")[3] for key in storage.created if key.count("/") > 2]
    assert kinds.count("attempts") == 2 * ENDS
    assert kinds.count("packs") == 1
    assert storage.requests["create"] == 2 * ENDS + 4  # marker, run, invocation, pack
    assert storage.requests["list"] == 0
    assert storage.requests["read"] == 2  # is there a marker; is it still this run
    assert storage.requests["info"] == 2 * ENDS + 1


def test_every_measure_runs_small(tmp_path):
    small = {
        "attempt": lambda f: figures.durable_attempt(f, 2),
        "attempt-fast": lambda f: figures.fast_attempt(f, 2),
        "history": lambda f: figures.history(f, 5, 1),
        "growth": lambda f: figures.planner_growth(f, 5),
        "artifacts": lambda f: figures.artifacts(f, 20, 1),
        "structure": lambda f: figures.structure_digest(f, 300, 1_000),
        "executor": lambda f: figures.executor(f, 5),
        "linear": lambda f: figures.linear(f, 1),
        "import": lambda f: figures.imports(f, 1),
        "help": lambda f: figures.command_line(f, 1),
        # Left out, with a note, where there is no radosgw.
        "remote-history": lambda f: figures.remote_history(f, 20, 1),  # type: ignore[attr-defined]
        "remote-pack": lambda f: figures.remote_pack(f, 20, 1),  # type: ignore[attr-defined]
        "remote-exec": lambda f: figures.remote_exec(f, 1),  # type: ignore[attr-defined]
        "remote-attempt": lambda f: figures.remote_attempt(f, 2),  # type: ignore[attr-defined]
        "transfer": lambda f: figures.transfer(f, 20, 1),  # type: ignore[attr-defined]
    }
    assert set(small) == set(figures.FIGURES)
    for name, measure in small.items():
        folder = tmp_path / name
        folder.mkdir()
        for figure in measure(str(folder)):
            assert figure.to_json()["name"].startswith(
                name if name != "linear" else ("linear", "memory")
            )


def test_a_failure_leaves_the_rest_of_the_map_done(stores):
    plan = open_store(stores["loose"]).get_run(RUN_ID).plan()
    assert [step.path for step in plan.ready] == [f"each[{ITEMS // 2}]/work"]
    assert map_dag() == open_store(stores["loose"]).get_run(RUN_ID).dag
