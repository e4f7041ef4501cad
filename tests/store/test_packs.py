"""Packs: many records in one object. A damaged one leaves what is whole in it readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr

from runstore import fork, sequence, start, task
from runstore.records import Consumed, End, Holder, Start
from runstore.records.codec import parse_attempt, to_body
from runstore.records.framing import frame, parse_pack, to_pack
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from runstore.store.judge import A_START
from tests.places import NONCE, prefix
from tests.verified import verified


def record(n: int, run: str = "r", nonce: str = NONCE) -> bytes:
    end = End(
        run, f"n{n}", 1, f"{n:032}", "i", "succeeded", Consumed(), "0" * 64, {"x": "é" * n},
        run_nonce=nonce,
    )  # fmt: skip
    return frame(to_body(end))[0]


@given(st.lists(st.integers(0, 60), max_size=20), st.text(st.characters(codec="utf-8"), min_size=1))
def test_verbatim_there_and_back(sizes, run_id):
    framed = [record(n) for n in sizes]
    data, digest = to_pack(run_id, NONCE, framed)
    assert data[11:75].decode() == digest
    assert parse_pack(data, "k") == (run_id, NONCE, framed, [], {})


def whole(records: list[bytes]) -> list[bytes]:
    found = []
    for framed in records:
        try:
            parse_attempt(framed, "k")
        except ValueError:
            continue
        found.append(framed)
    return found


def test_every_changed_byte_costs_one_record_at_most():
    framed = [record(n) for n in range(1, 6)]
    data, _ = to_pack("r", NONCE, framed)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        _, _, records, problems, _ = parse_pack(changed, "k")
        assert problems
        left = whole(records)
        hit = [one for one in framed if data.index(one) <= at < data.index(one) + len(one)]
        assert left == [one for one in framed if one not in hit], f"byte {at}"


def test_a_truncated_pack_gives_what_is_left_of_it():
    framed = [record(n) for n in range(1, 6)]
    data, _ = to_pack("r", NONCE, framed)
    for length in range(len(data)):
        _, _, records, problems, _ = parse_pack(data[:length], "k")
        assert problems
        left = [one for one in framed if data.index(one) + len(one) < length - 1]
        assert whole(records)[: len(left)] == left


def test_a_newer_or_foreign_pack_is_a_problem_and_no_crash():
    for body in (
        b'{"format":"runstore/2","kind":"pack","run_id":"r","run_nonce":"n","lengths":[],"records":[]}',
        b'{"format":"runstore/1","kind":"pack","run_id":"r","run_nonce":"n","lengths":["a"],"records":["a"]}',
        b'{"format":"runstore/1","kind":"pack","run_id":"r","run_nonce":"n","lengths":[9],"records":[]}',
        b"[]",
        b"",
    ):
        _, _, records, problems, _ = parse_pack(frame(body)[0], "k")
        assert (records, len(problems)) == ([], 1), body


def test_starts_are_known_by_how_their_bodies_begin():
    started = Start("r", "a", 1, NONCE, "i", Holder("h"), "t", Consumed())
    assert to_body(started).startswith(A_START)


@pytest.mark.parametrize("order", [1, -1])
def test_a_run_can_stand_in_packs_alone(order):
    """The open attempt among them too, however many others ended."""
    storage = MemoryStorage("packs")
    run = Store(storage).create_run(sequence(task(lambda: 1, name="a")), run_id="r")
    made = []
    for n in range(4):
        started = Start("r", f"n{n}", 1, f"{n:032}", "i", Holder("h"), "t", Consumed())
        force_setattr(started, "run_nonce", run.record.nonce)
        data, digest = frame(to_body(started))
        made.append(data)
        if n != 2:
            end = End("r", f"n{n}", 1, f"{n:032}", "i", "succeeded", Consumed(), digest)
            force_setattr(end, "run_nonce", run.record.nonce)
            made.append(frame(to_body(end))[0])
    lone = End("r", "lone", 1, "0" * 32, "i", "succeeded", Consumed(), "0" * 64)
    force_setattr(lone, "run_nonce", run.record.nonce)
    made.append(frame(to_body(lone))[0])
    data, digest = to_pack("r", run.record.nonce, made[::order])
    storage.create(prefix(storage) + f"packs/{digest}.json", data)
    history = run.history()
    assert [each.path for each in history.open()] == ["n2"]
    assert sorted(history.paths()) == ["lone", "n0", "n1", "n2", "n3"]
    assert not history.damaged


def test_a_pack_holds_records_of_its_own_run_only():
    storage = MemoryStorage("foreign")
    run = Store(storage).create_run(sequence(task(lambda: 1, name="a")), run_id="r")
    data, digest = to_pack(
        "r", run.record.nonce, [record(1, "other"), record(2, nonce=run.record.nonce)]
    )
    storage.create(prefix(storage) + f"packs/{digest}.json", data)
    history = run.history()
    assert list(history.paths()) == ["n2"]
    assert "'other'" in history.damaged[0].problem
    assert [key for key, problem in verified(run) if problem] == [
        f"{run.prefix}packs/{digest}.json"
    ]


def one():
    return 1


def two(x):
    return x + 1


def test_a_fork_reads_what_is_whole_of_its_damaged_pack():
    pipeline = sequence(
        task(one, returns="x"), task(two, name="b", returns="y"), task(two, name="c", returns="z")
    )
    storage = MemoryStorage("forked")
    store = Store(storage)
    start(pipeline, store=store, run_id="r", environment={})
    forked = fork("r", pipeline, store=store, new_run_id="f")
    pack = next(storage.list(prefix(storage, "f") + "packs/"))
    data = storage.read(pack)
    at = data.index(b'"lengths":[') + 12
    storage._objects[pack] = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    run = store.get_run("f")
    assert run.plan().status == "succeeded"
    assert run.values() == forked.values()
    assert [key for key, problem in verified(run) if problem] == [pack]
    at = data.index(b'"path":"c"') + 8
    storage._objects[pack] = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert {s.path: s.action.value for s in run.plan().steps} == {
        "one": "SKIP", "b": "SKIP", "c": "RUN",
    }  # fmt: skip
