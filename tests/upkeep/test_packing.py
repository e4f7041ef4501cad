"""Packing: no record is ever lost, whatever happens in between."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given

import runstore
from runstore.dag import Dag
from runstore.errors import AttemptEndedError, AttemptLostError, AttemptTakenError, StorageError
from runstore.records import keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import parse_pack
from runstore.storage import Storage
from runstore.store import Run, Store
from runstore.transfer import export_run
from runstore.upkeep import pack_run
from tests.crash.breaking import Death, How
from tests.exploration import SEEDS, reached, reaches
from tests.planning.generate import dags
from tests.transfer.lives import RUN_ID, invoke, live, memory, told
from tests.upkeep.interrupted import Interrupted
from tests.verified import verified


def records(storage: Storage, run_id: str = RUN_ID) -> set[str]:
    """Digests of all attempts' records that can be read, loose or packed."""
    found = set()
    for key in storage.list(keys.run_folder(run_id)):
        if f"/{keys.PACKS}" in key:
            pack = parse_pack(storage.read(key), key)
            assert not pack.problems
            found |= {parse_attempt(one, key).digest for one in pack.records}
        elif f"/{keys.ATTEMPTS}" in key:
            found.add(parse_attempt(storage.read(key), key).digest)
    return found


@reaches(0.3)
@given(dag=dags(), seed=SEEDS)
def test_a_packed_run_is_the_same_run(dag: Dag, seed: int) -> None:
    store = memory()
    run = live(store, dag, seed)
    before, digests = told(run), records(store.storage)
    there = set(store.storage.list(""))
    reached(times=len(digests) > 5)

    packed = pack_run(run)
    assert not packed.problems
    assert set(store.storage.list("")) == there | set(packed.packs)  # rewrites nothing
    assert packed.records + packed.before == len(digests)
    assert told(run) == before
    again = pack_run(run)
    assert (again.packs, again.before) == ([], len(digests))
    assert all(problem is None for _, problem in verified(run))

    # It goes on as ever, and what is made then can be packed, too.
    invoke(run, random.Random(seed), "retry")
    digests, before = records(store.storage), told(run)
    pack_run(run)
    assert records(store.storage) == digests
    assert told(run) == before


def finished(folder: Path, items: int) -> Store:
    dag = Dag.from_json(
        {
            "nodes": [
                {"name": "make", "kind": "task", "type": "python", "returns": ["xs"]},
                {
                    "name": "m", "kind": "map", "after": ["make"], "over": "xs", "as": "x",
                    "body": {"nodes": [
                        {"name": "t", "kind": "task", "type": "python", "params": ["x"]}
                    ]},
                },
            ]
        }
    )  # fmt: skip
    store = runstore.open_store(folder / "s", durable=False)
    run = store.create_run(dag, run_id="r")
    run.begin_invocation("start")
    with run.begin("make") as attempt:
        attempt.outputs["xs"] = list(range(items))
    for step in run.plan().ready:
        run.begin(step).succeed()
    return store


@pytest.mark.parametrize("how", ["dies before", "dies after", "fails before", "fails after"])
def test_stopped_at_every_operation_nothing_is_lost(how: How) -> None:
    at = 0
    while True:
        store = memory()
        run = live(store, Dag.from_json(LINE), 3)
        before, there = told(run), set(store.storage.list(""))
        broken = Interrupted(store.storage, at, how)
        with contextlib.suppress(Death, StorageError):
            pack_run(Run(broken, run.record))
        assert there <= set(store.storage.list("")), broken.broke
        assert told(run) == before, broken.broke
        pack_run(run)  # done again, it goes on
        assert told(run) == before
        if not broken.broke:
            break
        at += 1
    assert at > 3


LINE = {
    "nodes": [
        {"name": name, "kind": "task", "type": "python", "returns": [f"v{name}"],
         **({"after": [chr(ord(name) - 1)]} if name > "a" else {})}
        for name in "abcdef"
    ]
}  # fmt: skip


def test_a_damaged_or_moved_pack_is_made_again(tmp_path: Path) -> None:
    store = finished(tmp_path, items=5)
    run = store.get_run("r")
    (key,) = pack_run(run).packs
    pack = tmp_path / "s" / key
    whole = pack.read_bytes()
    moved = pack.with_name(f"{'0' * 64}.json")
    for place, spoilt in (
        (pack, whole[:-1]),
        (pack, whole.replace(b"succeeded", b"succeedeD", 1)),
        (pack, whole[:200] + b" " + whole[201:]),
        (pack, b""),
        (moved, whole),
    ):
        pack.unlink()
        place.write_bytes(spoilt)
        done = pack_run(run)  # it is named by its content
        assert done.problems
        assert done.packs == [key]
        assert pack.read_bytes() == whole


def test_a_claimed_name_stays_taken() -> None:
    """Who planned before an attempt was made and packed, and wakes after it."""
    store = memory()
    run = store.create_run(Dag.from_json(LINE), run_id="r")
    run.begin_invocation("start")
    late = store.get_run("r")
    planned = late.step("a")
    first = run.begin("a")
    run.take_over(run.history(), "all")
    run.begin_invocation("retry")
    again = run.begin("a")
    other = store.get_run("r").attempt_of(again.token)
    again.succeed({"va": 1})
    pack_run(run)
    with pytest.raises(AttemptTakenError):
        late.begin(planned)
    with pytest.raises(AttemptLostError):
        first.succeed({"va": 0})
    with pytest.raises(AttemptEndedError):
        other.succeed({"va": 2})
    # One that knows no number asks the names alone.
    assert store.get_run("r").begin("a", consumed=again.start.consumed).number == 3


def test_an_exported_file_cannot_be_packed(tmp_path: Path) -> None:
    store = finished(tmp_path, items=2)
    export_run(store.get_run("r"), tmp_path / "x.json")
    with pytest.raises(StorageError, match="read-only"):
        pack_run(runstore.open_store(tmp_path / "x.json").get_run("r"))
