"""An attempt that another process ends, and what it knows of it; logs, wherever they come from."""

from __future__ import annotations

import hashlib

import pytest

from runstore import Dag, Task, fork, sequence, start, task
from runstore.errors import (
    AttemptEndedError,
    InputError,
    ParameterError,
    RefusedError,
    StorageError,
)
from runstore.records import Consumed
from runstore.storage.memory import MemoryStorage
from runstore.store import Store

DAG = Dag([Task(name="a", returns=("x",)), Task(name="b", params=("x",), after=("a",))])


def new(name, run_id="r"):
    return Store(MemoryStorage(name)).create_run(DAG, run_id=run_id)


def test_it_checks_what_is_returned_and_has_no_inputs():
    run = new("returns")
    run.begin("a").succeed({"x": 1})
    token = run.begin("b").token
    again = Store(run.storage).get_run("r").attempt_of(token)
    with pytest.raises(RefusedError, match="inputs are not known"):
        again.params()
    with pytest.raises(RefusedError, match="inputs are not known"):
        again.load("*")
    with pytest.raises(ParameterError, match="b returned 'y'"):
        again.succeed({"y": 1})
    assert again.succeed().outcome == "succeeded"
    with pytest.raises(RefusedError, match="inputs are not known"):
        run.begin("b", number=2, consumed=Consumed()).params()


def test_what_was_saved_and_loaded_goes_along_with_it():
    run = new("files")
    first = run.begin("a")
    first.save_bytes("f.txt", b"one")
    first.succeed({"x": 1})
    second = run.begin(run.step("b"))
    second.load("f.txt")
    second.save_bytes("g.txt", b"by who began it")
    other = Store(run.storage).get_run("r").attempt_of(second.token)
    other.save_bytes("h.txt", b"by who ends it")
    end = other.succeed()
    assert set(end.artifacts) == {"g.txt", "h.txt"}
    assert end.artifacts["g.txt"].sha256 == hashlib.sha256(b"by who began it").hexdigest()
    assert set(end.consumed.artifacts) == {"f.txt"}
    assert run.read_end("b", 1).artifacts == end.artifacts
    assert run.plan().status == "succeeded"
    # The file that it loaded is another one now, though the value is the same.
    again = run.begin("a", number=2, consumed=Consumed())
    again.save_bytes("f.txt", b"two")
    again.succeed({"x": 1})
    assert run.plan()["b"].reason == "stale"


def test_a_token_of_another_run_is_refused():
    token = new("one").begin("a").token
    with pytest.raises(InputError, match="run 'r', and this is run 'q'"):
        new("two", "q").attempt_of(token)


def tokens():
    token = new("bad").begin("a").token
    yield from ("", "{}", "[]", "5", "no", '"text"', token[:-1], None, 5)
    for field in ("path", "nonce", "invocation", "time", "start", "run_id"):
        yield token.replace(f'"{field}":"', f'"{field}":5,"was":"')
    yield token.replace('"attempt":1', '"attempt":0')
    yield token.replace('"attempt":1', '"attempt":true')
    for field in ("nonce", "start", "run_nonce"):
        yield token.replace(f'"{field}":"', f'"{field}":"G')
    yield token.replace('"code_digest":null', '"code_digest":"abc"')
    for tries in ("[0,1]", "[1]", "[1,2,3]", "[true,1]", "[1,2147483648]", "5"):
        yield token.replace('"tries":[null,null]', f'"tries":{tries}')
    yield token.replace('"consumed":{}', '"consumed":{"params":{"x":1}}')
    yield token.replace('"consumed":{}', '"consumed":[1]')
    yield token.replace('"returns":["x"]', '"returns":[5]')
    yield token.replace('"returns":["x"]', '"returns":5')
    yield token.replace('"artifacts":{}', '"artifacts":5')
    yield token.replace('"artifacts":{}', '"artifacts":{"f":5}')
    yield token.replace('"artifacts":{}', '"artifacts":{"f":{"sha256":"no","size":1}}')


@pytest.mark.parametrize("token", list(tokens()))
def test_what_is_no_token(token):
    with pytest.raises(InputError, match=r"Attempt\.token"):
        new(f"no token {token!r}").attempt_of(token)


def says():
    print("it was me")
    return 1


def test_the_log_of_what_a_fork_took_over():
    store = Store(MemoryStorage("logs"))
    pipeline = sequence(task(says, returns="x"), task(says, name="quiet", returns="y"))
    start(pipeline, store=store, run_id="r", environment={})
    run = fork("r", pipeline, store=store, new_run_id="f").run
    assert run.logs("says") == run.logs("says", 0) == b"it was me\n"
    assert run.recorded("says").run_id == "r"
    with pytest.raises(RefusedError, match="no attempt 1 at 'says'; it has 0"):
        run.logs("says", 1)
    with pytest.raises(RefusedError, match="no attempt at 'nowhere'"):
        run.logs("nowhere")
    open_ = new("open")
    open_.begin("a")
    with pytest.raises(RefusedError, match="in progress"):
        open_.logs("a")


class Packless(MemoryStorage):
    def create(self, key, data, *, repair=False):
        if "/packs/" in key:
            raise StorageError("no packs today")
        super().create(key, data, repair=repair)


def test_packing_never_comes_in_the_way_of_an_attempt(monkeypatch):
    monkeypatch.setattr("runstore.store.writer._PACK_BYTES", 1)
    run = Store(Packless("no packs")).create_run(DAG, run_id="r")
    run.writer.pack.begin()
    run.begin("a").succeed({"x": 1})
    run.begin("b").succeed()
    assert run.writer.pack.full
    assert len(run.writer.pack.records) == 4
    with pytest.raises(StorageError, match="no packs"):
        run.writer.pack.write()
    assert not run.writer.pack.full
    assert run.plan().status == "succeeded"


def test_a_damaged_pack_of_the_same_name_is_made_good():
    run = new("same name")
    run.writer.pack.begin()
    run.begin("a").succeed({"x": 1})
    run.begin("b").succeed()
    kept = run.writer.pack.records
    key = run.writer.pack.write()
    whole = run.storage.read(key)
    run.storage._objects[key] = b"damaged"
    run.writer.pack.add(kept)
    assert run.writer.pack.write() == key
    assert run.storage.read(key) == whole
    with pytest.raises(AttemptEndedError):
        run.begin("b")
