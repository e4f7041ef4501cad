"""A value in a codec that this version does not know: refused when it is read, and never guessed;
nothing else about the run depends on it (FORMAT.md, section 5)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import runstore
from runstore import Dag, retry
from runstore.errors import CodecError
from runstore.records import Blob, End
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from tests.cli.conftest import Shell
from tests.verified import verified

BYTES = b'["looks", "like", "json"]'
SHA256 = hashlib.sha256(BYTES).hexdigest()
DIGEST = hashlib.sha256(
    b'runstore/value/1\n{"codec":"npy","sha256":"%b"}' % SHA256.encode()
).hexdigest()

GIVES = {"name": "gives", "kind": "task", "returns": ["x"],
         "config": {"callable": "tests.store.test_codec:never"}}  # fmt: skip
BODY = {"nodes": [{"name": "in", "kind": "task", "returns": ["y"]}]}
READERS = {
    "task": {"name": "use", "kind": "task", "params": ["x"],
             "config": {"callable": "tests.store.test_codec:never"}},
    "map": {"name": "use", "kind": "map", "over": "x", "as": "i", "body": BODY},
    "conditional": {"name": "use", "kind": "conditional", "on": "x", "default": "no",
                    "branches": {"no": BODY}},
}  # fmt: skip


def never(x):
    raise AssertionError(f"it was given {x!r}")


def put(run: Run, path: str, name: str) -> End:
    """What a later version records of a value in a codec."""
    run.blobs.put(BYTES)
    attempt = run.begin(path)
    start = attempt.start
    end = End(
        "r", path, 1, start.nonce, start.invocation, "succeeded", start.consumed, start.digest,
        {name: Blob(SHA256, len(BYTES), DIGEST, "npy")}, run_nonce=run.record.nonce,
    )  # fmt: skip
    run.writer.end(end)
    return end


def made(store: Store, kind: str) -> Run:
    dag = Dag.from_json({"nodes": [GIVES, {**READERS[kind], "after": ["gives"]}]})
    run = store.create_run(dag, run_id="r")
    run.begin_invocation("start")
    put(run, "gives", "x")
    return store.get_run("r")


@pytest.mark.parametrize("kind", READERS)
def test_it_is_refused_when_it_is_read_and_the_plan_says_so(kind):
    run = made(Store(MemoryStorage(kind)), kind)
    with pytest.raises(CodecError, match=r"'x' .* codec 'npy'.*upgrade") as caught:
        run.values()
    assert caught.value.codec == "npy"
    plan = run.plan()
    assert plan["gives"].action == "SKIP"
    use = plan["use"]
    if kind == "task":
        assert use.action == "RUN"
        with pytest.raises(CodecError, match=r"'x', which use reads, .* 'npy'"):
            run.materialise(use.work.params, "use")
        assert use.work.consumed.params == {"x": DIGEST}
    else:
        assert use.action == "FAILED"
        assert "'x'" in use.detail
        assert "'npy'" in use.detail
        assert not [step for step in plan.steps if "in" in step.path and step.action == "RUN"]
        assert plan.status == "failed"
    assert not run.history().damaged
    assert not run.history().missing


def test_a_loop_does_not_go_on_past_it():
    body = {"nodes": [{"name": "in", "kind": "task", "returns": ["done"]}]}
    loop = {"name": "lp", "kind": "loop", "until": "done", "as": "i", "max_iterations": 5,
            "body": body}  # fmt: skip
    run = Store(MemoryStorage("loop")).create_run(Dag.from_json({"nodes": [loop]}), run_id="r")
    put(run, "lp@0/in", "done")
    plan = run.plan()
    assert plan["lp"].action == "FAILED"
    assert "'npy'" in plan["lp"].detail
    assert [step.path for step in plan.steps] == ["lp", "lp@0/in"]


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_step_that_reads_it_does_not_run(tmp_path, processes):
    run = made(runstore.open_store(tmp_path), "task")
    result = retry("r", run.dag, store=tmp_path, processes=processes)
    assert result.status == "failed"
    assert not result.ran
    assert any("use cannot run" in each and "'npy'" in each for each in result.warnings)
    assert "use" not in run.history().attempts


def test_it_goes_along_unread(tmp_path):
    store = runstore.open_store(tmp_path / "s")
    run = made(store, "map")
    whole = {key.rpartition("/")[2]: store.storage.read(key) for key in store.storage.list("runs/")}
    export_run(run, tmp_path / "r.json")
    for there in (Store(MemoryStorage("imported")), Store(MemoryStorage("pushed"))):
        if there.url.endswith("imported"):
            import_run(there, tmp_path / "r.json")
        else:
            transfer_run(store, "r", there)
        copied = {k.rpartition("/")[2]: there.storage.read(k) for k in there.storage.list("runs/")}
        assert {name: copied[name] for name in whole} == whole
        again = there.get_run("r")
        end = again.read_end("gives", 1)
        assert end.outputs == {"x": Blob(SHA256, len(BYTES), DIGEST, "npy")}
        assert [problem for _, problem in verified(again) if problem] == []
        assert again.plan()["use"].action == "FAILED"
    fork = store.fork_run(run, run_id="f")
    assert fork.blobs.read(Blob(SHA256, len(BYTES))) == BYTES
    assert fork.history().adopted["gives"].outputs["x"].codec == "npy"


def test_the_commands_show_the_run_and_not_the_value(tmp_path: Path):
    made(runstore.open_store(tmp_path / ".runstore"), "map")
    shell = Shell(tmp_path)
    for words in (("show", "r"), ("ls", "-l"), ("verify", "r"), ("plan", "r"),
                  ("export", "r", "-o", "out.json"), ("plan", "out.json")):  # fmt: skip
        code, out, err = shell(*words)
        assert code in (0, 1), (words, code, out, err)
        assert "looks" not in out
    code, out, _ = shell("plan", "r")
    assert "npy" in out
