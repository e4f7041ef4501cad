"""What is said of damage is true: what is lost with it, what can be done, and that this does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.places import home


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A run whose middle item failed twice."""
    shell = Shell(tmp_path_factory.mktemp("damaged"))
    shell.write("p.py", PIPELINE)
    assert shell("run", "p.py", "--run-id", "r", BREAK="1")[0] == 1
    assert shell("retry", "r", "--force", "make", BREAK="1")[0] == 1
    return shell


@pytest.fixture
def store(made: Shell, tmp_path: Path) -> Shell:
    """A copy of it, to be damaged; its records are in no pack."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True)
    shell = Shell(tmp_path)
    shutil.rmtree(at(shell) / "packs")
    return shell


PIPELINE = """
import os
from runstore import Dag, Map, task

def make():
    return [0, 1, 2]

def work(item):
    print("at work on", item)
    if item == int(os.environ.get("BREAK", "-1")):
        raise ValueError("bad")
    return "x" * 20_000

pipeline = Dag([
    task(make, returns="items"),
    Map(name="mp", after=["make"], over="items", as_="item",
        body=Dag([task(work, returns="large")])),
])
"""
ITEM = "attempts/mp_i1_j.work"


def empty(shell: Shell, *names: str) -> list[str]:
    """Empty these files of the run. Their keys."""
    root = shell.folder / ".runstore"
    folder = home(root)
    paths = [root / "runs/r" / name if name == "run.json" else folder / name for name in names]
    for path in paths:
        assert path.stat().st_size
        path.write_bytes(b"")
    return [str(path.relative_to(root)) for path in paths]


def at(shell: Shell) -> Path:
    """Where the objects of the run are."""
    return home(shell.folder / ".runstore")


def files(shell: Shell) -> dict[str, bytes]:
    root = shell.folder / ".runstore"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def problems(shell: Shell, *words: str) -> dict[str, dict[str, str]]:
    code, out, err = shell("verify", "r", "--format", "json", *words)
    assert code == 3, err
    return {each["key"]: each for each in json.loads(out)["problems"]}


def test_without_its_run_record_all_else_is_checked_and_read(store: Shell) -> None:
    run, end = empty(store, "run.json", "attempts/make.000002.end.json")
    code, out, err = store("verify", "r")
    assert code == 3
    assert [line.split()[1] for line in out.splitlines()] == [run, end]
    assert "2 objects of" in err
    assert "restore it from a copy; without it the run cannot go on" in out
    assert "its step can run again" not in out
    code, out, err = store("show", "r")
    assert code == 3
    assert "runstore retry r --force make" in out, "the invocations"
    assert "ValueError: bad" in out, "the attempts"
    assert run in err
    code, out, err = store("show", "r", "--format", "json")
    assert code == 3
    assert {each["key"] for each in json.loads(out)["damaged"]} == {run, end}
    code, out, err = store("logs", "r", "mp[1]/work")
    assert (code, out) == (0, "at work on 1\n")
    assert f"warning: record {run} is empty" in err
    before = files(store)
    for verb in ("plan", "retry", "fork", "diff"):
        sentence = store.refused(3, verb, "r", "p.py")
        assert "its step can run again" not in sentence
        assert "runstore show r" in sentence
    assert "without it the run cannot go on" in store("ls")[2]
    assert files(store) == before


def test_an_artifact_of_a_run_without_its_record(shell: Shell) -> None:
    shell.write("s.yaml", 'steps: [{name: a, command: "echo hello > a.csv", save: "*.csv"}]')
    assert shell("run", "s.yaml", "--run-id", "r")[0] == 0
    assert shell("fork", "r", "--run-id", "f")[0] == 0
    for run in ("r", "f"):
        (shell.folder / f".runstore/runs/{run}/run.json").write_bytes(b"{")
        assert shell("get", run, "a.csv", "-o", "-")[:2] == (0, "hello\n")
        code, out, _ = shell("verify", run)
        assert code == 3
        assert len(out.splitlines()) == 1, "what a fork took over is no damage"


@pytest.mark.parametrize("harm", [b"", b"{", b'{"sha256":"' + b"0" * 64 + b'","record":{}}'])
def test_the_marker_is_checked(store: Shell, harm: bytes) -> None:
    marker = store.folder / ".runstore/runstore.json"
    whole = marker.read_bytes()
    marker.write_bytes(harm)
    (found,) = problems(store).values()
    assert found["key"] == "runstore.json"
    assert "remove it" in found["advice"]
    marker.unlink()
    code, _, err = store("verify", "r")
    assert code == 0, "runs that were copied together have none"
    assert err == "note: no runstore.json: the next run makes one\n"
    assert store("run", "p.py")[0] == 0
    assert marker.read_bytes()[:11] == whole[:11], "as it was said: the next run makes one"


def test_a_superseded_end_decides_nothing(store: Shell) -> None:
    (key,) = empty(store, f"{ITEM}.000001.end.json")
    code, out, err = store("plan", "r")
    assert code == 0
    assert "warning: 1 object is damaged, and nothing rests on it" in err
    assert "counted as not succeeded" not in err
    assert "superseded by attempt 2" in err
    assert "superseded by attempt 2" in problems(store)[key]["advice"]
    assert store("show", "r")[0] == 3
    assert "mp[1]/work  RUN" in out


def test_a_deciding_end_runs_again(store: Shell) -> None:
    (key,) = empty(store, "attempts/make.000002.end.json")
    code, _, err = store("plan", "r")
    assert code == 3
    assert "error: 1 object is damaged, and counted as not succeeded" in err
    assert "let `runstore retry r` run its step again" in problems(store)[key]["advice"]
    assert store("retry", "r")[0] == 0
    assert "superseded by attempt 3" in problems(store)[key]["advice"]


def test_a_start_of_an_attempt_that_ended_is_harmless(store: Shell) -> None:
    (key,) = empty(store, "attempts/make.000002.start.json")
    code, _, err = store("plan", "r")
    assert code == 0
    assert "warning: 1 object is damaged, and nothing rests on it" in err
    for advice in (problems(store)[key]["advice"], err):
        assert "harmless: its attempt has ended" in advice
    assert "runstore retry" not in store("verify", "r")[1]


def test_a_superseded_start_whose_attempt_has_no_end(store: Shell) -> None:
    (at(store) / f"{ITEM}.000001.end.json").unlink()
    (key,) = empty(store, f"{ITEM}.000001.start.json")
    code, _, err = store("plan", "r")
    assert code == 3
    for advice in (problems(store)[key]["advice"], err):
        assert "its attempt has no end: a plan would wait for it" in advice
        assert "harmless" not in advice


def test_a_start_of_an_attempt_in_progress(store: Shell) -> None:
    (at(store) / f"{ITEM}.000002.end.json").unlink()
    (key,) = empty(store, f"{ITEM}.000002.start.json")
    assert "runstore retry --takeover all r" in problems(store)[key]["advice"]
    before = files(store)
    code, out, _ = store("plan", "r")
    assert code == 3
    assert "WAIT    in progress elsewhere" in out
    assert "runstore retry --takeover all r" in out
    assert "RUN     lost" in store("plan", "r", "--takeover", "all")[1]
    assert files(store) == before
    assert store("retry", "--takeover", "all", "r")[0] == 0


def test_an_invocation(store: Shell) -> None:
    first, second = sorted((at(store) / "invocations").iterdir())
    assert second.name.endswith("-force.json")
    names = [f"invocations/{each.name}" for each in (first, second)]
    plain, forced = (problems(store)[key]["advice"] for key in empty(store, *names))
    assert "--force" not in plain
    assert "harmless" not in plain
    assert "--keep-unchanged" in plain
    assert "forgotten" in forced
    assert "retry" not in plain + forced


def test_an_emptied_pack_is_one_file_and_decides_nothing(store: Shell) -> None:
    assert store("pack", "r")[0] == 0
    plan = store("plan", "r")[1]
    pack = store.file("r/packs/*")
    (key,) = empty(store, f"packs/{pack.name}")
    code, out, err = store("plan", "r")
    assert (code, out) == (0, plan)
    assert "warning: 1 object is damaged" in err
    assert err.count(key) == 1
    assert "counted" not in err
    (found,) = problems(store).values()
    assert found["problem"] == f"record {key} is empty"
    assert "remove it, and `runstore pack r` makes one" in found["advice"]
    pack.unlink()
    assert store("pack", "r")[0] == 0
    assert store("verify", "r")[0] == 0


def test_a_damaged_pack_with_the_only_copy_of_a_success_is_not_to_be_removed(
    store: Shell,
) -> None:
    assert store("pack", "r")[0] == 0
    (at(store) / "attempts/make.000002.end.json").unlink()
    pack = store.file("r/packs/*")
    data = pack.read_bytes()
    where = data.index(b"ValueError")  # in the record of another step
    pack.write_bytes(data[:where] + b"v" + data[where + 1 :])
    (found,) = problems(store).values()
    code, out, err = store("plan", "r")
    assert code == 3
    assert out.splitlines()[1].split()[:2] == ["make", "SKIP"], "it is read from the pack"
    for advice in (found["advice"], err):
        assert "records in it alone are read from it as far as they are whole" in advice
        assert "harmless" not in advice
        assert "remove" not in advice
    pack.unlink()
    assert store("plan", "r")[1].splitlines()[1].split()[:2] == ["make", "RUN"], (
        "that is what removing it would do"
    )


def test_a_damaged_pack_beside_a_gap_or_a_damaged_record(store: Shell) -> None:
    assert store("pack", "r")[0] == 0
    pack = store.file("r/packs/*")
    pack.write_bytes(pack.read_bytes()[:100])
    key = str(pack.relative_to(store.folder / ".runstore"))
    assert "remove it" in problems(store)[key]["advice"]
    record = at(store) / "attempts/make.000001.start.json"
    whole = record.read_bytes()
    record.write_bytes(b"")
    assert "remove" not in problems(store)[key]["advice"]
    assert "remove" not in store("plan", "r")[2], "a record that a plan does not read"
    record.write_bytes(whole)
    assert "remove it" in store("plan", "r")[2]
    for name in ("make.000001.start.json", "make.000001.end.json"):
        (record.parent / name).unlink()
    assert "remove" not in problems(store)[key]["advice"]


def test_a_loose_record_that_a_pack_holds(store: Shell) -> None:
    assert store("pack", "r")[0] == 0
    (key,) = empty(store, "attempts/make.000002.end.json")
    assert "a pack holds the same" in problems(store)[key]["advice"]
    assert store("plan", "r")[2] == ""


def test_blobs_are_told_apart(shell: Shell) -> None:
    shell.write("p.py", PIPELINE.replace("def make()", "def make(big)"))
    shell.write("big.json", json.dumps({"big": "b" * 20_000}))
    assert shell("run", "p.py", "--run-id", "r", "--params-file", "big.json")[0] == 0
    for blob in (at(shell) / "blobs").rglob("*/*/*"):
        blob.unlink()
    told = {each["advice"].partition(": ")[2]: each["state"] for each in problems(shell).values()}
    left_out = json.loads(shell("verify", "r", "--format", "json")[1])["left_out"]
    assert left_out == 3, "the logs"
    assert set(told.values()) == {"missing"}
    assert "`runstore fork --param big=VALUE r`" in told
    assert any(text.startswith("`runstore retry --force 'mp[") for text in told)
    assert not any("nothing reads it but people" in text for text in told)


def test_what_cannot_be_read_is_not_called_damaged(store: Shell) -> None:
    end = at(store) / "attempts/make.000002.end.json"
    end.unlink()
    end.symlink_to(end)  # as root nothing is forbidden: this is what cannot be read by anybody
    (other,) = empty(store, f"{ITEM}.000001.end.json")
    found = problems(store)
    key = str(end.relative_to(store.folder / ".runstore"))
    assert found.keys() == {key, other}
    unreadable = found[key]
    assert unreadable["state"] == "unreadable"
    assert "Too many levels of symbolic links" in unreadable["problem"]
    out, err = store("verify", "r")[1:]
    assert "copy" not in err + next(line for line in out.splitlines() if "symbolic" in line)


def test_json_of_what_is_whole(made: Shell) -> None:
    document = made.json("verify", "r")
    assert document["problems"] == []
    assert document["checked"] == len(files(made))


def test_a_damaged_log_is_damage_and_the_traceback_is_told(store: Shell) -> None:
    for blob in (at(store) / "blobs").rglob("*/*/*"):
        if blob.read_bytes() == b"at work on 1\n":
            blob.write_bytes(b"other")
    (found,) = problems(store).values()
    assert "nothing reads it but people" in found["advice"]
    code, out, err = store("logs", "r", "mp[1]/work")
    assert (code, out) == (3, "")
    assert "ValueError: bad" in err
    assert "does not match its digest" in err
