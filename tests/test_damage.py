"""Damage one file of a run at a time, on disk: it is named, never believed, and heals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from runstore import Attempt, Map, open_store, retry, sequence, start, task
from runstore.errors import (
    BlobDamagedError,
    BlobMissingError,
    RecordDamagedError,
    RunNotFailedError,
)
from runstore.plan import Action, Reason
from runstore.plan.history import Damaged
from runstore.records import Start
from tests.places import home
from tests.verified import verified

BIG = 20_000
calls: list[str] = []


def items():
    calls.append("items")
    return ["a", "b"]


def save(attempt: Attempt, item):
    calls.append(f"save {item}")
    print(f"saving {item}")
    attempt.save_bytes("file.txt", f"{item}\n".encode())
    return item * BIG


def collect(attempt: Attempt, large, tmp):
    calls.append("collect")
    names = attempt.load("mp[*]/file.txt", to=tmp)
    return [len(each) for each in large] + [len(names)]


def shaky(sizes, tmp):
    calls.append("shaky")
    if Path(tmp, "broken").exists():
        raise RuntimeError("not yet")
    return sum(sizes)


PIPELINE = sequence(
    task(items, returns="items"),
    Map(name="mp", over="items", as_="item", body=sequence(task(save, returns="large"))),
    task(collect, returns="sizes"),
    task(shaky, returns="total"),
)
TOTAL = 2 * BIG + 2


@pytest.fixture
def finished(tmp_path):
    """A run in which every step but the last one, which failed, succeeded; a function that makes
    a fresh copy of its store."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    (tmp / "broken").touch()
    result = start(
        PIPELINE,
        {"tmp": str(tmp), "unused": "u" * BIG},
        store=open_store(tmp_path / "store", durable=False),
        run_id="r",
        environment={},
    )
    assert result.status == "failed"
    (tmp / "broken").unlink()
    count = iter(range(1000))

    def copy(*, packs: bool) -> Path:
        to = tmp_path / f"copy{next(count)}"
        shutil.copytree(tmp_path / "store", to)
        if not packs:
            shutil.rmtree(home(to) / "packs")
        calls.clear()
        return to

    return copy


def flip(data: bytes) -> bytes:
    at = len(data) * 2 // 3
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


HARMS = {"flip": flip, "cut": lambda data: data[: len(data) // 2], "empty": lambda _: b""}


def files(root: Path) -> list[str]:
    found = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return sorted(name for name in found if name != "runstore.json")


def again(root: Path):
    calls.clear()
    store = open_store(root, durable=False)
    try:
        return retry("r", PIPELINE, store=store, takeover="all")
    except RunNotFailedError:
        return None


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("packs", [True, False])
def test_each_file_in_turn(finished, packs, harm):
    names = files(finished(packs=packs))
    assert len(names) == 1 + 1 + 10 + 7 + packs, names
    for name in names:
        root = finished(packs=packs)
        path = root / name
        path.write_bytes(HARMS[harm](path.read_bytes()))
        store = open_store(root)
        if name.endswith("run.json"):
            with pytest.raises(RecordDamagedError, match=r"runs/r/run\.json"):
                store.get_run("r")
            assert list(store.run_ids()) == ["r"]
            continue
        run = store.get_run("r")
        assert [key for key, problem in verified(run) if problem] == [name]
        history = run.history()
        plan = run.plan(PIPELINE)
        by_path = {step.path: step for step in plan.steps}
        damaged = {each.key for each in history.damaged}
        read_from_pack = packs and "/attempts/" in name
        unread = "/blobs/" in name or read_from_pack
        assert damaged == (set() if unread else {name}), name
        for path, attempts in history.attempts.items():
            for attempt in attempts:
                if type(attempt) is Damaged:
                    assert attempt.key == name
                    assert by_path[path].action is not Action.SKIP
                    assert by_path[path].reason is Reason.OUTPUT_MISSING
        assert sum(map(len, history.attempts.values())) == 5
        result = again(root)
        assert result is not None
        assert result.status == "succeeded", name
        assert result.plan.values["total"] == TOTAL
        assert [key for key, problem in verified(store.get_run("r")) if problem] in ([name], [])


@pytest.mark.parametrize("harm", [*HARMS, "gone"])
def test_a_damaged_end_runs_its_step_again_and_no_other(finished, harm):
    for step, called in {
        "items": "items",
        "mp_i_qb_q_j.save": "save b",
        "collect": "collect",
    }.items():
        root = finished(packs=False)
        path = home(root) / f"attempts/{step}.000001.end.json"
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(HARMS[harm](path.read_bytes()))
        result = again(root)
        assert result is not None
        assert result.status == "succeeded"
        assert calls == [called, "shaky"], "the same result again leaves what follows alone"


@pytest.mark.parametrize("harm", [*HARMS, "gone"])
def test_a_blob_that_a_step_needs_is_made_again_by_its_producer(finished, harm):
    root = finished(packs=True)
    run = open_store(root).get_run("r")
    end = run.history().ends('mp["a"]/save')[0]
    for blob in (end.outputs["large"], end.artifacts["file.txt"]):
        root = finished(packs=True)
        path = home(root) / f"blobs/sha256/{blob.sha256[:2]}/{blob.sha256}"
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(HARMS[harm](path.read_bytes()))
        run = open_store(root).get_run("r")
        assert [key for key, problem in verified(run) if problem] == [str(path.relative_to(root))]
        # What is left may load it, for all that is known; that it is damaged nobody has seen yet.
        result = again(root)
        assert result is not None
        assert result.status == "succeeded"
        assert calls == (["save a", "shaky"] if harm == "gone" else ["shaky"])
        # Now somebody does need it.
        if harm == "gone":
            path.unlink()
        for _ in range(2):
            calls.clear()
            result = retry("r", PIPELINE, store=root, force=["collect"])
            if result.status == "succeeded":
                break
        assert result.status == "succeeded"
        assert "save a" in calls
        assert "save b" not in calls
        assert calls[-1] == "collect"
        assert not [key for key, problem in verified(result.run) if problem], "it was repaired"


def test_reading_a_damaged_blob_names_it(finished):
    root = finished(packs=True)
    run = open_store(root).get_run("r")
    end = run.history().ends('mp["a"]/save')[0]
    assert end.log is not None
    for blob in (end.outputs["large"], end.log):
        path = home(root) / f"blobs/sha256/{blob.sha256[:2]}/{blob.sha256}"
        whole = path.read_bytes()
        path.write_bytes(flip(whole))
        with pytest.raises(BlobDamagedError, match=blob.sha256):
            run.blobs.read(blob)
        path.unlink()
        with pytest.raises(BlobMissingError, match=blob.sha256):
            run.blobs.read(blob)
        path.write_bytes(whole)
    assert run.logs('mp["a"]/save') == b"saving a\n"


def hungry(unused):
    return len(unused)


def test_a_large_parameter_that_is_lost_cannot_be_made_again(tmp_path):
    """Nothing makes a parameter: the run says so, and ends."""
    pipeline = sequence(task(items, returns="items"), task(hungry, returns="n"))
    store = open_store(tmp_path / "store")
    result = start(pipeline, {"unused": "u" * BIG}, store=store, run_id="r", environment={})
    assert result.status == "succeeded"
    (blob,) = home(tmp_path / "store").glob("blobs/sha256/*/*")
    whole = blob.read_bytes()
    for broken in (b"", None):
        blob.unlink()
        if broken is not None:
            blob.write_bytes(broken)
        result = retry("r", pipeline, store=store, force=["hungry"])
        assert result.status == "failed"
        assert any(blob.name in warning for warning in result.warnings)
        blob.write_bytes(whole)
    assert retry("r", pipeline, store=store, force=["hungry"]).status == "succeeded"


@pytest.mark.parametrize("name", ["short", "long-" * 30])
def test_a_damaged_start_waits_until_it_is_given_up(tmp_path, name):
    """Somebody began; nothing says who. Also where the key no longer tells the path."""
    pipeline = sequence(task(items, name=name, returns="items"))
    store = open_store(tmp_path / "store")
    run = store.create_run(pipeline, run_id="r")
    run.begin(name)
    (path,) = (home(tmp_path / "store") / "attempts").iterdir()
    path.write_bytes(flip(path.read_bytes()))
    (step,) = store.get_run("r").plan().steps
    assert (step.action, step.reason) == (Action.WAIT, Reason.IN_PROGRESS)
    calls.clear()
    result = retry("r", pipeline, store=store)
    assert (result.status, calls) == ("waiting", [])
    assert any("--takeover all" in warning for warning in result.warnings)
    result = retry("r", pipeline, store=store, takeover="all")
    assert (result.status, calls) == ("succeeded", ["items"])
    assert not [a for a in result.run.history().attempts[name] if type(a) is Start]


def test_strange_files_in_a_run_are_found_and_harm_nothing(finished):
    root = finished(packs=True)
    (home(root) / "attempts/notes.txt").write_text("hello")
    (home(root) / "attempts/.tmp-1-2").write_text("half")
    (home(root) / "attempts/UPPER.json").write_text("{}")
    os.link(root / "runstore.json", home(root) / "invocations/other.json")
    run = open_store(root).get_run("r")
    problems = sorted(key for key, problem in verified(run) if problem)
    names = ["attempts/notes.txt", "invocations/other.json"]
    assert problems == [f"{run.prefix}{name}" for name in names]
    assert run.plan(PIPELINE).status == "pending"
    result = again(root)
    assert result is not None
    assert result.status == "succeeded"


def test_an_unreadable_object_is_not_taken_for_damage(finished, monkeypatch):
    """What could not be read is not known: a retry that guessed would run a success again."""
    root = finished(packs=False)
    path = home(root) / "attempts/collect.000001.end.json"
    path.unlink()
    path.symlink_to("/proc/self/mem")  # open(2) works, read(2) gives EIO
    with pytest.raises(OSError, match=r"collect\.000001\.end\.json"):
        again(root)
    assert calls == []
