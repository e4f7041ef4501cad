"""What the library executes without a pipeline: only what this user recorded here, or allows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore.dag import Dag, Task
from runstore.errors import RecordedCodeError, RefusedError, RunstoreError
from runstore.store import Run, Store
from runstore.transfer import Arrival, export_run, import_run, transfer_run
from tests.places import home
from tests.transfer.lives import files, reframed

MARK = "tests_recorded_code_mark"


def pipeline(word: str = "theirs") -> Dag:
    return Dag(
        [
            Task(name="say", type="shell", config={"command": f"echo {word}"}),
            Task(name="fail", type="shell", config={"command": "exit 1"}, after=("say",)),
        ]
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run that failed, made here."""
    store = tmp_path / "store"
    assert runstore.start(pipeline(), store=store, run_id="r", environment={}).status == "failed"
    return store


def forge(root: Path, change: Callable[[dict[str, Any]], Any], run: str = "r") -> None:
    for file in (home(root, run) / "invocations").iterdir():
        file.write_bytes(reframed(file.read_bytes(), change))


def latest(root: Path, run: str = "r") -> dict[str, Any]:
    """Its latest invocation, raw."""
    found = [
        json.loads(file.read_bytes())["record"]
        for file in (home(root, run) / "invocations").iterdir()
    ]
    return max(found, key=lambda one: (one["number"], one["id"]))


def refused(root: Path, run: str = "r", **options: Any) -> str:
    """What both say; neither writes anything."""
    before = files(root)
    for verb in (runstore.retry, runstore.fork):
        with pytest.raises(RecordedCodeError) as caught:
            verb(run, store=root, **options)
        assert isinstance(caught.value, RefusedError | PermissionError)
        assert caught.value.run_id == run  # type: ignore[attr-defined]
    assert files(root) == before
    return str(caught.value)


def said(run: Run, path: str = "say") -> bytes:
    return run.logs(path)


def test_one_s_own_run_needs_no_pipeline(root: Path) -> None:
    again = runstore.retry("r", store=root, force=["say"])
    assert (again.ran, said(again.run)) == (("say", "fail"), b"theirs\n")
    assert latest(root)["code"] == {"recorded": True}
    forked = runstore.fork("r", store=root, new_run_id="f")
    assert forked.ran == ("fail",)
    assert runstore.retry("f", store=root, force=["say"]).ran == ("say", "fail")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": {"host": "elsewhere", "user": "me"}}, "a start by me on elsewhere"),
        ({"by": None}, "its latest invocation is a start"),
        ({"mode": "import", "source": {"file": "/x\n\x1b[2J.json"}}, r"an import of '/x\n\x1b[2J"),
        ({"mode": "pull", "source": {"store": "s3://b"}}, "a pull of s3://b by"),
        ({"mode": "push"}, "a push by"),
    ],
    ids=["host", "nobody", "import", "pull", "unknown mode"],
)
def test_the_latest_invocation_decides(root: Path, change: dict, message: str) -> None:  # type: ignore[type-arg]
    forge(root, lambda body: body.update(change))
    told = refused(root)
    assert message in told
    assert "\n" not in told
    with pytest.raises(RecordedCodeError) as caught:
        runstore.retry("r", store=root)
    assert caught.value.invocation == latest(root)["id"]
    assert runstore.retry("r", store=root, recorded_code=True, force=["say"]).ran[0] == "say"
    assert runstore.retry("r", store=root, force=["say"]).ran[0] == "say", "it was said"


def test_a_pipeline_of_one_s_own_is_no_word_for_that_of_others(root: Path) -> None:
    forge(root, lambda body: body["by"].update(user="somebody"))
    named = runstore.retry("r", pipeline("mine"), store=root, force=["say"])
    assert said(named.run) == b"mine\n"
    assert latest(root)["by"]["user"] != "somebody"
    assert "the DAG of the run itself was made by others" in refused(root)
    forked = runstore.fork("r", pipeline("mine"), store=root, new_run_id="f")
    assert said(runstore.retry("f", store=root, force=["say"]).run) == b"mine\n"
    assert forked.run_id == "f"


def test_a_fork_that_was_put_together_by_hand_is_none_of_one_s_own(root: Path) -> None:
    forge(root, lambda body: body["by"].update(user="somebody"))
    store = Store(runstore.open_store(root).storage)
    run = store.fork_run(store.get_run("r"), run_id="f")
    assert "no invocation says who made it" in refused(root, "f")
    run.begin("fail").fail("x")
    assert "was made by others" in refused(root, "f")


def test_damaged_missing_and_exported(root: Path, tmp_path: Path) -> None:
    export_run(runstore.open_store(root).get_run("r"), tmp_path / "r.json")
    for verb in (runstore.retry, runstore.fork):
        with pytest.raises(RecordedCodeError, match="exported file"):
            verb("r", store=tmp_path / "r.json")
    assert runstore.retry("r", store=root).ran == ("fail",)
    (file, *_) = sorted((home(root) / "invocations").iterdir())
    kept = file.read_bytes()
    file.write_bytes(kept[:-9])
    assert "is damaged, so it is not known" in refused(root)
    file.write_bytes(kept)
    assert runstore.retry("r", store=root).ran == ("fail",)
    for file in (home(root) / "invocations").iterdir():
        file.unlink()
    assert "no invocation says who made it" in refused(root)


@pytest.mark.parametrize("how", ["import", "pull"])
def test_what_comes_back_asks(root: Path, tmp_path: Path, how: str) -> None:
    target = tmp_path / "target"
    if how == "import":
        export_run(runstore.open_store(root).get_run("r"), tmp_path / "r.json")
        import_run(runstore.open_store(target), tmp_path / "r.json")
    else:
        source = runstore.open_store(root)
        transfer_run(
            source, "r", runstore.open_store(target), arrival=Arrival("pull", {"store": "x"})
        )
    assert f"its latest invocation is a{'n' * (how == 'import')} {how} of " in refused(target)
    assert runstore.fork("r", store=target, new_run_id="f", recorded_code=True).ran == ("fail",)
    assert runstore.retry("f", store=target).ran == ("fail",)
    refused(target)
    assert runstore.retry("r", pipeline(), store=target).ran == ("fail",)


def test_nothing_is_imported_before_it_is_decided(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{MARK}.py").write_text("def f(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    dag = Dag([Task(name="a", config={"callable": f"{MARK}:f"})])
    store = runstore.open_store(root)
    store.create_run(dag, run_id="n")  # and nobody says who it was
    for verb in (runstore.retry, runstore.fork):
        for options in ({}, {"processes": True}):
            with pytest.raises(RecordedCodeError):
                verb("n", store=store, **options)
    assert MARK not in sys.modules
    assert runstore.retry("n", store=store, recorded_code=True).status == "succeeded"
    assert MARK in sys.modules


def test_the_error_can_be_caught_as_what_it_is() -> None:
    for kind in (RunstoreError, RefusedError, PermissionError):
        assert issubclass(RecordedCodeError, kind)
