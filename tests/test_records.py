"""Records: the framing, every kind there and back, and every kind of damage."""

from __future__ import annotations

import hashlib
import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runstore import Dag
from runstore.errors import DamagedError, FormatVersionError, RecordDamagedError
from runstore.records import (
    Blob,
    Consumed,
    End,
    Holder,
    Invocation,
    Loaded,
    Marker,
    RunRecord,
    Secret,
    Start,
    keys,
    stamp,
)
from runstore.records.codec import parse, parse_attempt, to_body
from runstore.records.framing import frame, parse_pack, to_pack, unframe
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from tests.places import NONCE, prefix
from tests.verified import verified

texts = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
nonces = st.text("0123456789abcdef", min_size=32, max_size=32)
structures = st.builds("{}:{}".format, st.integers(1, 99), hexes)
ids = st.text("0123456789abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=64)
modes = st.sampled_from(["start", "retry", "fork", "import", "pull"])
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts
scalars |= st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)
blobs = st.builds(Blob, hexes, st.integers(0, 2**40), st.none())
large = st.builds(Blob, hexes, st.integers(0, 2**40), hexes)
holders = st.builds(
    Holder,
    names,
    st.none() | st.integers(1, 2**22),
    st.none() | st.integers(1, 2**40),
    st.none() | names,
    st.none() | names,
)
consumed = st.builds(
    Consumed,
    st.dictionaries(names, hexes, max_size=3),
    st.dictionaries(names, st.builds(Loaded, hexes, st.none() | names), max_size=2),
    st.dictionaries(names, hexes, max_size=2),
    st.dictionaries(names, hexes, max_size=2),
)
attempts = st.integers(1, 999_999)
code = st.none() | st.dictionaries(names, texts, min_size=1, max_size=2)
starts = st.builds(
    Start, names, names, attempts, nonces, names, holders, texts, consumed, code, run_nonce=nonces
)
ends = st.builds(
    End,
    names,
    names,
    attempts,
    nonces,
    names,
    st.sampled_from(["succeeded", "failed", "lost", "cancelled"]),
    consumed,
    st.none() | hexes,
    st.dictionaries(names, values | large, max_size=3),
    st.dictionaries(names, blobs, max_size=2),
    st.dictionaries(names, values, max_size=2),
    st.none() | st.fixed_dictionaries({"type": names, "message": texts}),
    st.none() | blobs,
    texts,
    texts,
    st.none() | holders,
    run_nonce=nonces,
)
parameters = st.dictionaries(names, values | large, max_size=3)
runs = st.builds(
    RunRecord,
    names,
    nonces,
    texts,
    st.just({"nodes": []}),
    structures,
    parameters.map(lambda p: {**p, "token": Secret("token")}) | parameters,
    st.dictionaries(names, texts, max_size=2),
    st.none() | st.fixed_dictionaries({"run_id": names, "pack": hexes}),
)
invocations = st.builds(
    Invocation,
    names,
    ids,
    modes,
    texts,
    st.none() | holders,
    st.lists(names, max_size=3).map(tuple),
    code,
    st.dictionaries(names, st.integers(0, 999), max_size=2),
    st.lists(names, max_size=2).map(tuple),
    st.none() | structures,
    st.none() | st.just({"nodes": []}),
    number=st.integers(1, 99),
    run_nonce=nonces,
)
markers = st.builds(Marker, texts, texts, st.booleans())
records = starts | ends | runs | invocations | markers


def framed(record) -> bytes:
    data, digest = frame(to_body(record))
    stamp(record, digest)
    return data


def fields(record) -> dict:
    # What is large or secret is said twice of one that was read.
    names = set(record.__struct_fields__) - {"large", "secrets"}
    return {name: getattr(record, name) for name in names}


def sealed(body: dict) -> bytes:
    return frame(orjson.dumps(body))[0]


DAG = {"nodes": [{"name": "a", "kind": "task"}, {"name": "b", "kind": "task", "after": ["a"]}]}
END = End(
    "r", "a", 1, "0" * 32, "i", "succeeded", Consumed({"x": "1" * 64}), outputs={"y": [1.0]},
    run_nonce=NONCE,
)  # fmt: skip
HOME = f"runs/r/{NONCE}"


def test_the_frame_is_what_the_format_says():
    data = framed(END)
    body = data[86:-1]
    digest = hashlib.sha256(body).hexdigest()
    assert data == b'{"sha256":"' + digest.encode() + b'","record":' + body + b"}"
    document = json.loads(data)
    assert document["sha256"] == digest == END.digest
    assert (document["record"]["format"], document["record"]["kind"]) == ("runstore/1", "end")
    assert unframe(data, "k") == (body, digest)
    assert b"\n" not in data


@given(records)
@example(Marker())
def test_every_kind_there_and_back(record):
    data = framed(record)
    back = parse(data, "k")
    assert type(back) is type(record)
    assert fields(back) == fields(record)
    assert framed(back) == data
    json.loads(data)


@given(records, st.dictionaries(st.text("XYZ", min_size=1), values, min_size=1, max_size=3))
def test_fields_it_does_not_know_are_ignored(record, unknown):
    body = orjson.loads(to_body(record))
    back = parse(sealed({**unknown, **body, **unknown}), "k")
    stamp(record, back.digest)
    assert fields(back) == fields(record)


@pytest.mark.parametrize("version", ["runstore/2", "runstore/10", "runstore", 1, None])
def test_another_major_version_is_refused_with_advice(version):
    body = {**orjson.loads(to_body(END)), "format": version}
    with pytest.raises(FormatVersionError, match=r"some/key.*upgrade"):
        parse(sealed(body), "some/key")


@given(records, st.data())
def test_any_changed_byte_is_found(record, data):
    whole = framed(record)
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    with pytest.raises(RecordDamagedError, match="some/key"):
        parse(whole[:at] + bytes([other]) + whole[at + 1 :], "some/key")


def test_every_byte_flipped_is_found():
    whole = framed(END)
    for at in range(len(whole)):
        for bit in (1, 32, 128):
            with pytest.raises(RecordDamagedError):
                parse(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :], "k")


def test_every_truncation_and_any_addition_is_found():
    whole = framed(END)
    for length in range(len(whole)):
        with pytest.raises(RecordDamagedError):
            parse(whole[:length], "k")
        with pytest.raises(RecordDamagedError):
            parse(whole[length + 1 :], "k")
    for other in (whole + b"\n", b" " + whole, whole + whole, whole + b"}"):
        with pytest.raises(RecordDamagedError):
            parse(other, "k")
    with pytest.raises(RecordDamagedError, match="is empty"):
        parse(b"", "k")


@pytest.mark.parametrize("junk", [None, 3, "text", ["a"], {"b": 1}, True])
@pytest.mark.parametrize("kind", ["start", "end", "run", "invocation"])
def test_a_mistyped_field_is_damage_and_no_crash(kind, junk):
    """A writer in another language may have bugs; readers name the record and go on."""
    record = {
        "start": Start(
            "r", "a", 1, "0" * 32, "i", Holder("h", 1), "t", Consumed(), run_nonce=NONCE
        ),
        "end": END,
        "run": RunRecord("r", NONCE, "t", {"nodes": []}, "1:" + "a" * 64, {"p": 1}, {"l": "x"}),
        "invocation": Invocation("r", "i", "retry", force={"a": 1}, run_nonce=NONCE),
    }[kind]
    store = Store(MemoryStorage("junk"))
    body = orjson.loads(to_body(record))
    for name in [*body, "large", "secrets", "artifacts", "log", "error", "dag", "origin", "code"]:
        if name in ("format", "kind") or type(body.get(name)) is type(junk):
            continue
        data = sealed({**body, name: junk})
        store.storage._objects = {  # type: ignore[attr-defined]
            "runs/r/run.json": framed(RunRecord("r", NONCE, "t", DAG, "1:" + "a" * 64)),
            f"{HOME}/attempts/a.000001.end.json": framed(END),
        }
        key = {
            "run": "runs/r/run.json",
            "invocation": f"{HOME}/invocations/i.json",
        }.get(kind, f"{HOME}/attempts/a.000001.{kind}.json")
        if kind == "start":
            del store.storage._objects[f"{HOME}/attempts/a.000001.end.json"]  # type: ignore[attr-defined]
        store.storage._objects[key] = data  # type: ignore[attr-defined]
        try:
            run = store.get_run("r")
            run.history()
            run.plan()
            list(verified(run))
        except (DamagedError, ValueError):
            if kind != "run" and name != "dag":
                raise


def test_key_and_path_must_agree():
    """A record under a name that is not its own is damage, wherever it came from."""
    storage = MemoryStorage("moved")
    run = Store(storage).create_run(Dag([]), run_id="r")
    storage.create(prefix(storage) + "attempts/b.000001.end.json", framed(END))
    storage.create(prefix(storage) + "attempts/a.000002.end.json", framed(END))
    history = run.history()
    assert sorted(each.key for each in history.damaged) == [
        f"{run.prefix}attempts/a.000002.end.json",
        f"{run.prefix}attempts/b.000001.end.json",
    ]
    assert not history.ends("a")
    problems = {key: problem for key, problem in verified(run) if problem}
    assert set(problems) == {each.key for each in history.damaged}


@pytest.mark.parametrize("attempt", [0, -1, True, 1.5, "1"])
def test_an_attempt_needs_a_number(attempt):
    body = {**orjson.loads(to_body(END)), "attempt": attempt}
    with pytest.raises(RecordDamagedError):
        parse_attempt(sealed(body), "k")


def test_key_of_long_path():
    assert len(keys.attempt_key("r", "x" * 500, 1, "end").rpartition("/")[2]) < 130


def test_attempt_is_neither_run_nor_marker():
    with pytest.raises(RecordDamagedError, match="neither"):
        parse_attempt(framed(Marker("t", "v")), "k")
    with pytest.raises(RecordDamagedError):
        parse(frame(b"[1]")[0], "k")
    with pytest.raises(RecordDamagedError):
        parse(frame(b"{")[0], "k")
    assert parse_pack(to_pack("r", NONCE, [])[0], "k")[:4] == ("r", NONCE, [], [])
