"""Fields of the format that runstore itself does not fill in yet (FORMAT.md, section 5): what an
executor or a later version wrote there goes wherever the run goes, and every end says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runstore import Dag, Task
from runstore.dag.structure import digest
from runstore.records import Consumed, End, Holder, RunRecord, Start
from runstore.records.codec import to_body
from runstore.records.framing import frame
from runstore.records.keys import attempt_key
from runstore.store import Run, Store, open_store
from runstore.store.token import to_token
from runstore.transfer import export_run, import_run, transfer_run
from runstore.upkeep import pack_run
from tests.places import home
from tests.transfer.lives import memory

NONCE, RUN_NONCE, CODE = "1" * 32, "2" * 32, "c" * 64
TIME = "2026-01-01T00:00:00.000Z"
BY = Holder("elsewhere", 1, 1, "boot", "pod", "mark", "eve")
DAG = Dag([Task(name=name) for name in ("ends", "lost", "open")])


def made(store: Store) -> Run:
    """A run that says where it came from, with three attempts whose starts say all they can."""
    record = RunRecord(
        "r", RUN_NONCE, TIME, DAG.to_json(), digest(DAG), source={"url": "gs://bucket/runs"}
    )
    store.storage.create("runs/r/run.json", frame(to_body(record))[0])
    run = store.get_run("r")
    run.begin_invocation("start")
    assert run.invocation is not None
    for name in ("ends", "lost", "open"):
        start = Start(
            "r", name, 1, NONCE, run.invocation, BY, TIME, Consumed(), {"git": "abc"},
            code_digest=CODE, try_=2, of=5, run_nonce=RUN_NONCE,
        )  # fmt: skip
        key = attempt_key(run.prefix, name, 1, "start")
        store.storage.create(key, frame(to_body(start))[0])
    return run


def bodies(folder: Path, kind: str) -> dict[str, dict[str, object]]:
    found = (json.loads(file.read_bytes())["record"] for file in folder.glob(f"*.{kind}.json"))
    return {body["path"]: body for body in found}


def said(body: dict[str, object]) -> tuple[object, ...]:
    return body["code_digest"], body["try"], body["of"]


def test_every_end_says_it_whoever_ends_the_attempt(tmp_path: Path) -> None:
    run = made(open_store(str(tmp_path / "s")))
    starts = {start.path: start for start in run.history().open()}
    run.writer.end_for(starts["ends"], "failed", "Error", "by who watched it")
    run.take_over(run.history(paths=["lost"]), "all")
    ends = bodies(home(tmp_path / "s") / "attempts", "end")
    assert {path: (body["outcome"], *said(body)) for path, body in ends.items()} == {
        "ends": ("failed", CODE, 2, 5),
        "lost": ("lost", CODE, 2, 5),
    }


def test_a_token_takes_it_to_another_process(tmp_path: Path) -> None:
    run = made(open_store(str(tmp_path / "s")))
    folder = home(tmp_path / "s") / "attempts"
    claimed = next(start for start in run.history().open() if start.path == "open")
    token = to_token(claimed, Consumed(), (), {})
    open_store(str(tmp_path / "s")).get_run("r").attempt_of(token).succeed()
    assert said(bodies(folder, "end")["open"]) == (CODE, 2, 5)


def exported(run: Run, there: Store, folder: Path) -> Run:
    export_run(run, folder / "r.json")
    return import_run(there, folder / "r.json")


def pushed(run: Run, there: Store, _: Path) -> Run:
    transfer_run(Store(run.storage), "r", there)
    return there.get_run("r")


def packed(run: Run, there: Store, _: Path) -> Run:
    pack_run(run)
    transfer_run(Store(run.storage), "r", there)
    for key in [key for key in there.storage.list(run.prefix) if "/attempts/" in key]:
        del there.storage._objects[key]  # type: ignore[attr-defined]
    return there.get_run("r")


@pytest.mark.parametrize("way", [exported, pushed, packed])
def test_it_goes_along(way: Callable[[Run, Store, Path], Run], tmp_path: Path) -> None:
    run = made(memory())
    run.writer.end_for(
        next(s for s in run.history().open() if s.path == "ends"), "failed", "E", "x"
    )
    arrived = way(run, memory(), tmp_path)
    assert arrived.record.source == {"url": "gs://bucket/runs"}
    history = arrived.history()
    for path in ("ends", "lost", "open"):
        latest = history.latest(path)
        assert isinstance(latest, Start | End)
        assert (latest.code_digest, latest.try_, latest.of) == (CODE, 2, 5), path
    opened = history.latest("open")
    assert isinstance(opened, Start)
    assert (opened.by.user, opened.by.mark, opened.code) == ("eve", "mark", {"git": "abc"})
