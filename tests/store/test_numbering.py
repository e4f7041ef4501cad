"""Which invocation is the latest is said by numbers, never by a clock (FORMAT.md, section 5)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task
from runstore.errors import RefusedError
from runstore.records import MAX_COUNT
from runstore.store import Run, Store
from runstore.transfer import transfer_run
from tests.cli import inside
from tests.places import home
from tests.transfer.lives import memory, reframed

HOUR = 3600 * 10**9
OLD = Dag([Task(name="a", type="shell", config={"command": "exit 1"})])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock that ids are made by, to some nanoseconds."""

    def put(at: int) -> None:
        monkeypatch.setattr("runstore.store.ids.time.time_ns", lambda: at)

    return put


def recorded(root: Path) -> list[tuple[int, str, str]]:
    """Number, id and mode of each invocation, raw."""
    found = (
        json.loads(file.read_bytes())["record"] for file in (home(root) / "invocations").iterdir()
    )
    return sorted((one["number"], one["id"], one["mode"]) for one in found)


def test_a_clock_that_is_wrong_makes_no_invocation_the_latest(
    tmp_path: Path, clock: Callable[[int], None]
) -> None:
    root = tmp_path / "store"
    times = [100 * HOUR, 3 * HOUR, 50 * HOUR, 2 * HOUR]
    clock(times[0])
    runstore.start(OLD, store=root, run_id="r", environment={})
    for at in times[1:]:
        clock(at)
        runstore.retry("r", OLD, store=root)
    numbers = recorded(root)
    assert [number for number, _, _ in numbers] == [1, 2, 3, 4]
    assert [id_ for _, id_, _ in numbers] != sorted(id_ for _, id_, _ in numbers)
    latest = runstore.open_store(root).get_run("r").history().latest_invocation
    assert latest is not None
    assert (latest.number, latest.id) == numbers[-1][:2]


def test_a_retry_takes_the_pipeline_of_the_highest_number(
    tmp_path: Path, clock: Callable[[int], None]
) -> None:
    # The host of the old pipeline was ahead.
    for name in ("old", "new"):
        (tmp_path / f"{name}.py").write_text(
            "import runstore\n"
            f"def a(): return 1 / 0 if {name!r} == 'old' else {name!r}\n"
            "pipeline = runstore.sequence(runstore.task(a, returns='x'))\n"
        )
    clock(100 * HOUR)
    store = ("--store", str(tmp_path / "s"))
    assert inside.call("run", str(tmp_path / "old.py"), "--run-id", "r", *store) == 1
    clock(2 * HOUR)
    assert inside.call("retry", "r", str(tmp_path / "new.py"), *store) == 0
    clock(HOUR)
    assert inside.call("retry", "r", "--force", "a", *store) == 0
    assert runstore.open_store(tmp_path / "s").get_run("r").values() == {"x": "new"}


def test_copies_that_numbered_alike_merge_and_agree_on_the_latest(
    clock: Callable[[int], None],
) -> None:
    clock(5 * HOUR)
    dag = Dag([Task(name=name) for name in "abc"])
    here, there = memory(), memory()
    run = here.create_run(dag, run_id="r")
    run.begin_invocation("start")
    transfer_run(here, "r", there)
    made = []
    for store, at, path in ((here, 9 * HOUR, "a"), (there, 7 * HOUR, "b")):
        clock(at)
        again = store.get_run("r")
        made.append(again.begin_invocation("retry"))
        again.begin(path).succeed()
    assert [one.number for one in made] == [2, 2]
    transfer_run(here, "r", there)
    transfer_run(there, "r", here)
    for store in (here, there):
        history = store.get_run("r").history()
        assert set(history.paths()) == {"a", "b"}
        assert history.latest_invocation is not None
        assert history.latest_invocation.id == max(one.id for one in made)
        following = store.get_run("r")
        assert following.begin_invocation("retry").number == 3


def test_after_the_last_number_there_is_none(tmp_path: Path) -> None:
    root = tmp_path / "store"
    run = runstore.open_store(root).create_run(OLD, run_id="r")
    run.begin_invocation("start")
    (file,) = (home(root) / "invocations").iterdir()
    file.write_bytes(reframed(file.read_bytes(), lambda body: body.update(number=MAX_COUNT)))
    before = recorded(root)
    again: Run = Store(run.storage).get_run("r")
    with pytest.raises(RefusedError, match="fork it"):
        again.begin_invocation("retry")
    with pytest.raises(RefusedError, match="fork it"):
        again.begin("a")
    assert recorded(root) == before
    assert not (home(root) / "attempts").exists()
