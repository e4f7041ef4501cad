"""Two truths of one attempt, and records of another run: damage to whoever reads, and never
silently one of the two. Forged on a raw disk, with digests that hold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import runstore
from runstore.errors import RecordDamagedError
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store
from runstore.transfer import export_run, transfer_run
from tests.cli.conftest import Shell
from tests.places import home
from tests.verified import verified

DAG = runstore.Dag.from_json(
    {
        "nodes": [
            {"name": "a", "kind": "task", "returns": ["x"]},
            {"name": "c", "kind": "task", "after": ["a"], "params": ["x"], "returns": ["z"]},
        ]
    }
)
C = "attempts/c.000001"


def framed(body: bytes) -> bytes:
    return b'{"sha256":"%b","record":%b}' % (hashlib.sha256(body).hexdigest().encode(), body)


def body_of(file: Path) -> dict:
    return json.loads(file.read_bytes())["record"]


def forged(file: Path, **changes: object) -> bytes:
    return framed(json.dumps(body_of(file) | changes, separators=(",", ":")).encode())


def put_pack(at: Path, *records: bytes) -> str:
    """A pack of these, in the exact framing; its key below the run."""
    head = json.dumps(
        {
            "format": "runstore/1", "kind": "pack", "run_id": "r", "run_nonce": at.name,
            "lengths": [len(each) for each in records],
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip
    data = framed(head[:-1] + b',"records":[' + b",".join(records) + b"]}")
    name = f"packs/{data[11:75].decode()}.json"
    (at / "packs").mkdir(exist_ok=True)
    (at / name).write_bytes(data)
    return name


def made(folder: Path) -> Path:
    """A run of which all has succeeded, in no pack; and a namesake that was there before it."""
    store = runstore.open_store(folder, durable=False)
    before = store.create_run(DAG, run_id="r")
    before.begin("a").succeed({"x": 0})
    before.begin("c").succeed({"z": 0})
    shutil.copytree(home(folder), folder.parent / "before")
    shutil.rmtree(folder / "runs")
    run = store.create_run(DAG, run_id="r")
    run.begin("a").succeed({"x": 1})
    run.begin("c").succeed({"z": 2})
    return home(folder)


# -- the cases: each gives the keys, below the run, that `verify` is to name --------------------


def loose_digest(at: Path) -> str:
    end = at / f"{C}.end.json"
    end.write_bytes(forged(end, start="0" * 64, outputs={"z": "forged"}))
    return f"{C}.end.json"


def loose_nonce(at: Path) -> str:
    end = at / f"{C}.end.json"
    end.write_bytes(forged(end, nonce="f" * 32, outputs={"z": "forged"}))
    return f"{C}.end.json"


def packed_digest(at: Path) -> str:
    """The pack alone has the attempt: an end, and another start."""
    end, start = at / f"{C}.end.json", at / f"{C}.start.json"
    name = put_pack(at, end.read_bytes(), forged(start, nonce="f" * 32))
    end.unlink()
    start.unlink()
    return name


def packed_nonce(at: Path) -> str:
    end, start = at / f"{C}.end.json", at / f"{C}.start.json"
    name = put_pack(at, start.read_bytes(), forged(end, nonce="f" * 32))
    end.unlink()
    start.unlink()
    return name


def packed_end_and_loose_start(at: Path) -> str:
    end = at / f"{C}.end.json"
    name = put_pack(at, forged(end, start="0" * 64))
    end.unlink()
    return name


def packed_start_and_loose_end(at: Path) -> str:
    start = at / f"{C}.start.json"
    name = put_pack(at, forged(start, time="2000-01-01T00:00:00Z"))
    start.unlink()
    return name


def pack_and_loose(at: Path) -> str:
    """What a full history of a bucket does not see."""
    end, start = at / f"{C}.end.json", at / f"{C}.start.json"
    return put_pack(at, start.read_bytes(), forged(end, outputs={"z": "forged"}))


def pack_and_loose_start(at: Path) -> str:
    """The end in the pack is that of the start there, and not of the one that stands loose."""
    end, start = at / f"{C}.end.json", at / f"{C}.start.json"
    other = forged(start, nonce="e" * 32)
    name = put_pack(at, other, forged(end, nonce="e" * 32, start=other[11:75].decode()))
    end.unlink()
    return name


def two_packs(at: Path) -> str:
    end, start = at / f"{C}.end.json", at / f"{C}.start.json"
    names = [
        put_pack(at, start.read_bytes(), end.read_bytes()),
        put_pack(at, start.read_bytes(), forged(end, outputs={"z": "forged"})),
    ]
    end.unlink()
    return max(names)


def two_open_starts(at: Path) -> str:
    (at / f"{C}.end.json").unlink()
    return put_pack(at, forged(at / f"{C}.start.json", nonce="e" * 32))


def namesake_loose(at: Path) -> str:
    name = f"{C}.end.json"
    (at / name).write_bytes((at.parents[2].parent / "before" / name).read_bytes())
    return name


def namesake_packed(at: Path) -> str:
    before = at.parents[2].parent / "before"
    (at / f"{C}.end.json").unlink()
    (at / f"{C}.start.json").unlink()
    return put_pack(at, *((before / f"{C}.{kind}.json").read_bytes() for kind in ("start", "end")))


CASES = [
    loose_digest, loose_nonce, packed_digest, packed_nonce, packed_end_and_loose_start,
    packed_start_and_loose_end, pack_and_loose, pack_and_loose_start, two_packs, two_open_starts,
    namesake_loose, namesake_packed,
]  # fmt: skip


READ_IN_FULL = [loose_digest, loose_nonce, packed_start_and_loose_end, pack_and_loose]
"""A partial history reads the latest end at each path, and nothing beside it."""


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, Callable[[Path], str]]:
    at = made(tmp_path / "s")
    forge: Callable[[Path], str] = request.param
    return at, f"runs/r/{at.name}/{forge(at)}", forge


def opened(at: Path) -> Run:
    return runstore.open_store(at.parents[2], durable=False).get_run("r")


def test_it_is_damage_in_a_history_and_no_step_is_skipped_on_it(case):
    at, _, forge = case
    run = opened(at)
    read = [run.history()]
    if forge not in READ_IN_FULL:
        read.append(run.history(["c"]))
    assert read[0].damaged
    for history in read:
        plan = run.plan(history=history)
        assert plan["a"].action == "SKIP"
        assert plan["c"].action != "SKIP"
        assert "z" not in plan.values
    # Which of them is read first means nothing.
    copy = MemoryStorage("turned")
    for key in sorted(run.storage.list(""), reverse=True):
        copy.create(key, run.storage.read(key))
    turned = Store(copy).get_run("r")
    assert turned.history().damaged
    assert turned.plan()["c"].action != "SKIP"


def test_verify_names_it(case):
    at, key, _ = case
    run = opened(at)
    wrong = {name: problem for name, problem in verified(run) if problem}
    assert set(wrong) == {key} or (len(wrong) == 1 and "/packs/" in next(iter(wrong)))
    turned = list(run.storage.list(""))[::-1]
    run.storage.list = lambda prefix, **_: iter([k for k in turned if k.startswith(prefix)])
    assert len([problem for _, problem in verified(run) if problem]) == 1


def test_it_is_neither_exported_nor_moved(case, tmp_path):
    at, _, _ = case
    run = opened(at)
    with pytest.raises(RecordDamagedError):
        export_run(run, tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
    there = Store(MemoryStorage("there"))
    with pytest.raises(RecordDamagedError):
        transfer_run(Store(run.storage), "r", there)
    assert list(there.run_ids()) == []
    # Nor where the source is asked nothing twice.
    far = MemoryStorage("far")
    for key in run.storage.list(""):
        far.create(key, run.storage.read(key))
    far.url = "s3://far"
    with pytest.raises(RecordDamagedError):
        transfer_run(Store(far), "r", there)
    assert list(there.run_ids()) == []


def test_the_commands_tell_and_a_retry_makes_it_again(case, tmp_path):
    at, key, _ = case
    shell = Shell(tmp_path)
    url = str(at.parents[2])
    for verb in ("show", "plan", "verify"):
        code, out, err = shell(verb, "r", "--store", url)
        assert code == 3, (verb, out, err)
        assert "c.000001" in out + err or key in out + err
        assert "forged" not in out
    run = opened(at)
    history = run.history()
    run.begin_invocation("retry", history=history)
    run.take_over(history, "all", ["a", "c"])
    run.begin(run.plan()["c"]).succeed({"z": 2})
    assert opened(at).plan().status == "succeeded"
    # Of a run whose own record is gone, too.
    (at.parent / "run.json").write_bytes(b"{")
    code, out, _ = shell("verify", "r", "--store", url)
    assert code == 3
    assert key.rpartition("/")[2][:9] in out


def test_an_invocation_of_a_namesake_is_damage(tmp_path):
    at = made(tmp_path / "s")
    (file,) = (tmp_path / "before/invocations").iterdir()
    shutil.copy(file, at / "invocations" / file.name)
    key = f"runs/r/{at.name}/invocations/{file.name}"
    run = opened(at)
    assert [each.key for each in run.history().damaged] == [key]
    assert [name for name, problem in verified(run) if problem] == [key]
    assert file.stem not in run.history().invocations
    with pytest.raises(RecordDamagedError):
        export_run(run, tmp_path / "r.json")
