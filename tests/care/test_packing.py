"""Packing and pruning: no record is ever lost, whatever happens in between, and no key that holds
somebody off."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runstore
from runstore import keys
from runstore.bodies import parse_attempt
from runstore.dag import Dag
from runstore.errors import AttemptEndedError, AttemptLostError, RefusedError, StorageError
from runstore.framing import parse_pack
from runstore.records import End, Start
from runstore.storage import Storage
from runstore.store import Run, Store
from runstore.store.care import pack_run
from runstore.store.care.packing import Packed, _prune
from runstore.transfer import export_run
from tests.care.interrupted import Interrupted
from tests.crash.breaking import Death, How
from tests.planning.generate import dags
from tests.transfer.lives import RUN_ID, files, invoke, live, memory, told


def records(storage: Storage, run_id: str = RUN_ID) -> set[str]:
    """Digests of all attempts' records that can be read, loose or packed."""
    prefix = keys.run_prefix(run_id)
    found = set()
    for key in storage.list(prefix):
        if key.startswith(prefix + keys.PACKS):
            _, framed, problems = parse_pack(storage.read(key), key)
            assert not problems
            found |= {parse_attempt(one, key).digest for one in framed}
        elif key.startswith(prefix + keys.ATTEMPTS):
            found.add(parse_attempt(storage.read(key), key).digest)
    return found


def fences(run: Run) -> set[str]:
    """Keys that must never be free again."""
    kept = set()
    for path in run.history().attempts:
        attempts = run.history().attempts[path]
        for attempt in attempts:
            assert isinstance(attempt, Start | End)
            which = "end" if isinstance(attempt, End) else "start"
            taken_over = isinstance(attempt, End) and attempt.ended_by
            if attempt is attempts[-1] or taken_over or which == "start":
                kept.add(keys.attempt_key(run.run_id, path, attempt.attempt, which))  # type: ignore[arg-type]
    return kept


@given(dag=dags(), seed=st.integers(0, 10**6))
def test_a_packed_and_pruned_run_is_the_same_run(dag: Dag, seed: int) -> None:
    store = memory()
    run = live(store, dag, seed)
    before, digests, kept = told(run), records(store.storage), fences(run)
    there = set(store.storage.list(""))

    packed = pack_run(run)
    assert not packed.problems
    assert set(store.storage.list("")) == there | set(packed.packs)  # rewrites nothing
    assert packed.records + packed.before == len(digests)
    assert told(run) == before
    again = pack_run(run)
    assert (again.packs, again.before) == ([], len(digests))

    pruned = pack_run(run, prune=True)
    left = set(store.storage.list(""))
    assert len(there | set(packed.packs)) - len(left) == pruned.removed
    assert kept <= left
    assert records(store.storage) == digests
    assert told(run) == before
    assert all(problem is None for _, problem in run.verify())
    assert pack_run(run, prune=True).removed == 0

    # It goes on as ever, and what is made then can be packed, too.
    invoke(run, random.Random(seed), "retry")
    digests, before = records(store.storage), told(run)
    pack_run(run, prune=True)
    assert records(store.storage) == digests
    assert told(run) == before


def test_what_a_finished_map_keeps(tmp_path: Path) -> None:
    store = finished(tmp_path, items=30)
    run = store.run("r")
    for folder in tmp_path.glob("s/runs/r/packs/*"):
        folder.unlink()
    assert len(list((tmp_path / "s/runs/r/attempts").iterdir())) == 62
    done = pack_run(run, prune=True)
    assert (done.records, done.removed, len(done.packs)) == (62, 31, 1)
    assert {name.name.split(".")[-2] for name in (tmp_path / "s/runs/r/attempts").iterdir()} == {
        "end"
    }
    assert run.plan().status == "succeeded"
    export_run(run, tmp_path / "x.json")
    assert runstore.open(tmp_path / "x.json").run("r").plan().status == "succeeded"


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
    store = runstore.open(folder / "s", durable=False)
    run = store.create_run(dag, run_id="r")
    run.begin_invocation("start")
    with run.attempt("make") as attempt:
        attempt.outputs["xs"] = list(range(items))
    for step in run.plan().ready:
        run.begin(step).succeed()
    return store


@pytest.mark.parametrize("how", ["dies before", "dies after", "fails before", "fails after"])
def test_stopped_at_every_operation_no_record_is_lost(how: How) -> None:
    at = removed = 0
    while True:
        store = memory()
        run = live(store, Dag.from_json(LINE), 3)
        before, digests = told(run), records(store.storage)
        broken = Interrupted(store.storage, at, how)
        with contextlib.suppress(Death, StorageError):
            pack_run(Run(broken, run.record), prune=True)
        removed += broken.broke.startswith("remove")
        assert records(store.storage) == digests, broken.broke
        assert told(run) == before, broken.broke
        pack_run(run, prune=True)  # done again, it goes on
        assert records(store.storage) == digests
        assert told(run) == before
        if not broken.broke:
            break
        at += 1
    assert removed >= 8
    assert at > 20


LINE = {
    "nodes": [
        {"name": name, "kind": "task", "type": "python", "returns": [f"v{name}"],
         **({"after": [chr(ord(name) - 1)]} if name > "a" else {})}
        for name in "abcdef"
    ]
}  # fmt: skip


def test_killed_at_any_time_no_record_is_lost(tmp_path: Path) -> None:
    store = finished(tmp_path, items=300)
    digests = records(store.storage, "r")
    code = textwrap.dedent(
        f"""
        import runstore
        from runstore.store.care import pack_run
        run = runstore.open({str(tmp_path / "s")!r}).run("r")
        print("begin", flush=True)
        pack_run(run, prune=True)
        """
    )
    killed = 0
    for delay in (0.005, 0.02, 0.05, 0.1):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        process.stdout.close()
        assert records(store.storage, "r") == digests
        assert store.run("r").plan().status == "succeeded"
    assert killed
    pack_run(store.run("r"), prune=True)
    assert records(store.storage, "r") == digests
    assert len(list((tmp_path / "s/runs/r/attempts").iterdir())) == 301


def test_nothing_is_removed_for_a_pack_that_is_damaged_or_moved(tmp_path: Path) -> None:
    store = finished(tmp_path, items=5)
    run = store.run("r")
    (key,) = pack_run(run).packs
    pack = tmp_path / "s" / key
    whole = pack.read_bytes()
    loose = files(tmp_path / "s/runs/r/attempts")
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
        done = Packed()
        _prune(run, done)
        assert done.problems
        assert files(tmp_path / "s/runs/r/attempts") == loose
        # Packing again makes it good: it is named by its content.
        done = pack_run(run)
        assert done.packs == [key]
        assert pack.read_bytes() == whole


def test_a_loose_record_that_differs_from_the_packed_one_stays(tmp_path: Path) -> None:
    store = finished(tmp_path, items=3)
    run = store.run("r")
    pack_run(run)
    start = tmp_path / "s/runs/r/attempts/make.000001.start.json"
    start.write_bytes(start.read_bytes()[:-2])
    done = pack_run(run, prune=True)
    assert len(done.problems) == 1
    assert "make.000001.start.json" in done.problems[0]
    assert start.exists()


def test_who_comes_late_is_told_although_the_run_was_pruned() -> None:
    store = memory()
    run = store.create_run(Dag.from_json(LINE), run_id="r")
    run.begin_invocation("start")
    zombie = run.begin("a")
    run.take_over(run.history(), "all")
    run.begin_invocation("retry")
    again = run.begin("a")
    late = store.run("r").attempt_of(again.token)
    again.succeed({"va": 1})
    pack_run(run, prune=True)
    with pytest.raises(AttemptLostError):
        zombie.succeed({"va": 0})
    with pytest.raises(AttemptEndedError):
        late.succeed({"va": 2})
    # One that knows no number asks the names alone.
    assert store.run("r").begin("a", consumed=again.start.consumed).number == 3


def test_an_open_attempt_keeps_its_claim() -> None:
    store = memory()
    run = store.create_run(Dag.from_json(LINE), run_id="r")
    run.begin_invocation("start")
    claimed = run.begin("a")
    pack_run(run, prune=True)
    assert claimed.key in set(store.storage.list(""))
    assert [start.nonce for start in run.history().open()] == [claimed.start.nonce]
    claimed.succeed({"va": 1})
    assert run.plan().ready[0].path == "b"


def test_an_exported_file_cannot_be_pruned(tmp_path: Path) -> None:
    store = finished(tmp_path, items=2)
    export_run(store.run("r"), tmp_path / "x.json")
    with pytest.raises(RefusedError, match="read-only"):
        pack_run(runstore.open(tmp_path / "x.json").run("r"), prune=True)
