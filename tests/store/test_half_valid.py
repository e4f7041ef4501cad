"""Records that are whole and half valid: one field of another type is damage, never a surprise."""

from __future__ import annotations

import orjson
import pytest

from runstore import Dag, Task
from runstore.errors import RecordDamagedError
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
)
from runstore.records.codec import parse, to_body
from runstore.records.framing import frame
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from tests.places import NONCE, prefix

HEX = "a" * 64
STRUCTURE = f"1:{HEX}"
BY = Holder("h", 1, 2, "boot", "pod", "mark", "user")
CONSUMED = Consumed({"p": HEX}, {"f": Loaded(HEX, "up")}, {"r": HEX}, {"e": HEX})
ERROR = {"type": "E", "message": "m", "traceback": "t"}
END = End(
    "r", "a", 1, "0" * 32, "i", "failed", CONSUMED, HEX, {"x": 1, "big": Blob(HEX, 1, HEX, "npy")},
    {"f": Blob(HEX, 1, executable=True)}, {"m": 1}, ERROR, Blob(HEX, 1), "t", "t", BY,
    code_digest=HEX, try_=1, of=2, run_nonce=NONCE,
)  # fmt: skip
START = Start(
    "r", "a", 1, "0" * 32, "i", BY, "t", CONSUMED, {"sha": "x"}, code_digest=HEX, try_=1, of=2,
    run_nonce=NONCE,
)  # fmt: skip
RUN = RunRecord(
    "r", "0" * 32, "t", {"nodes": []}, STRUCTURE,
    {"p": 1, "big": Blob(HEX, 1, HEX), "s": Secret("s")}, {"l": "x"},
    {"run_id": "o", "pack": HEX}, source={"url": "u"},
)  # fmt: skip
INVOCATION = Invocation(
    "r", "i", "start", "t", BY, ("run",), {"c": 1}, {"a": 1}, ("p",), STRUCTURE, {"nodes": []},
    source={"file": "f"}, number=2, run_nonce=NONCE,
)  # fmt: skip
CONSUMED_FIELDS = [
    "consumed", "consumed.params", "consumed.params.p", "consumed.results", "consumed.results.r",
    "consumed.ends", "consumed.ends.e", "consumed.artifacts", "consumed.artifacts.f",
    "consumed.artifacts.f.sha256", "consumed.artifacts.f.from",
]  # fmt: skip
BY_FIELDS = ["host", "boot", "pod", "mark", "user"]
FIELDS = {
    END: [
        "nonce", "run_nonce", "code_digest", "invocation", "start", "began", "ended", "outcome",
        "outputs", "metrics", "error", "error.type", "error.message", "error.traceback", "log",
        "log.sha256", "large", "large.big", "large.big.sha256", "large.big.value",
        "large.big.codec", "artifacts", "artifacts.f", "artifacts.f.sha256",
        "artifacts.f.executable",
        *(f"ended_by.{name}" for name in BY_FIELDS), *CONSUMED_FIELDS,
    ],
    START: ["nonce", "run_nonce", "code_digest", "invocation", "time", "code", *CONSUMED_FIELDS,
            *(f"by.{name}" for name in BY_FIELDS)],
    RUN: [
        "run_id", "nonce", "created", "dag", "structure", "parameters", "large", "large.big.value",
        "secrets", "labels", "labels.l", "origin", "origin.run_id", "origin.pack", "source",
        "source.url",
    ],
    INVOCATION: ["run_id", "run_nonce", "source", "source.file", "id", "mode", "time", "command",
                 "code", "force", "ignored", "structure", "dag",
                 *(f"by.{name}" for name in BY_FIELDS)],
    Marker("t", "v"): ["created", "version"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("record", "field"),
    [(record, field) for record, fields in FIELDS.items() for field in fields],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_number_where_there_is_none(record, field):
    whole = orjson.loads(to_body(record))
    parse(frame(orjson.dumps(whole))[0], "k")
    at, (*folders, name) = whole, field.split(".")
    for folder in folders:
        at = at[folder]
    assert name in at
    at[name] = 5
    with pytest.raises(RecordDamagedError, match="record k"):
        parse(frame(orjson.dumps(whole))[0], "k")


@pytest.mark.parametrize("field", ["pid", "pid_start"])
@pytest.mark.parametrize("value", ["1", [1], True, 1.5])
def test_a_process_is_a_number(field, value):
    whole = orjson.loads(to_body(START))
    whole["by"][field] = value
    with pytest.raises(RecordDamagedError):
        parse(frame(orjson.dumps(whole))[0], "k")


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (record, field, value)
        for record, field in ((START, "try"), (START, "of"), (END, "try"), (INVOCATION, "number"))
        for value in (0, -1, 2**31, "1", True, 1.5)
    ],
)
def test_tries_and_invocations_are_counted_from_one(record, field, value):
    whole = orjson.loads(to_body(record))
    whole[field] = value
    with pytest.raises(RecordDamagedError):
        parse(frame(orjson.dumps(whole))[0], "k")


@pytest.mark.parametrize(("field", "value"), [("secrets", "key"), ("secrets", [1])])
def test_names_are_a_list_of_texts(field, value):
    whole = orjson.loads(to_body(RUN))
    whole[field] = value
    with pytest.raises(RecordDamagedError):
        parse(frame(orjson.dumps(whole))[0], "k")


def test_a_blob_is_found_missing_however_the_record_spells_it():
    """The naming of blobs is taken from what was read, not from how it was written."""
    storage = MemoryStorage("spelt")
    run = Store(storage).create_run(Dag([Task(name="a", returns=("x",))]), run_id="r")
    end = End(
        "r", "a", 1, "0" * 32, "i", "succeeded", Consumed(), outputs={"x": Blob(HEX, 1, HEX)},
        run_nonce=run.record.nonce,
    )  # fmt: skip
    spaced = to_body(end).replace(b'"sha256":', b'"sha256" : ')
    storage.create(prefix(storage) + "attempts/a.000001.end.json", frame(spaced)[0])
    assert run.history().missing == {HEX}


@pytest.mark.parametrize("nothing", [None, {}], ids=["null", "empty"])
@pytest.mark.parametrize(
    "field",
    ["outputs", "large", "artifacts", "metrics", "error", "log", "ended_by", "consumed",
     "consumed.params", "consumed.artifacts", "consumed.results", "consumed.ends"],
)  # fmt: skip
def test_what_is_null_or_empty_is_absent(field, nothing):
    whole = orjson.loads(to_body(END))
    at, (*folders, name) = whole, field.split(".")
    for folder in folders:
        at = at[folder]
    del at[name]
    absent = parse(frame(orjson.dumps(whole))[0], "k")
    at[name] = nothing
    given = parse(frame(orjson.dumps(whole))[0], "k")
    names = set(END.__struct_fields__) - {"digest"}
    assert {n: getattr(given, n) or None for n in names} == {
        n: getattr(absent, n) or None for n in names
    }
