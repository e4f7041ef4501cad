"""plan, ls, show, logs, verify: of whole runs, and that damage is never fatal."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from runstore.cli.render.collapse import Fold, fold
from tests.cli.conftest import Shell
from tests.places import home


def test_plan_says_what_is_left_and_why(once: Shell) -> None:
    code, out, err = once("plan", "bad")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["path", "action", "reason", "evidence"]
    assert "  mp[1]/work  RUN     failed: ValueError: item 1 is bad  attempt 1 failed" in lines
    assert lines[-1] == "run bad: pending; steps: 3 SKIP, 1 RUN, 1 WAIT; 1 step can run now"
    steps = {step["path"]: step for step in once.json("plan", "bad")["steps"]}
    assert steps["mp[1]/work"]["action"] == "RUN"
    assert steps["mp[1]/work"]["evidence"]["outcome"] == "failed"


def test_json_is_alone_on_stdout_though_the_file_prints(once: Shell) -> None:
    once.write("loud.py", "print('loud')\n" + (once.folder / "p.py").read_text())
    assert once.json("plan", "good", "loud.py")["status"] == "succeeded"


def test_many_equal_items_are_one_line(shell: Shell) -> None:
    assert shell("run", "p.py", "--run-id", "r", "-p", "n=100", BREAK="50")[0] == 1
    _, out, _ = shell("plan", "r")
    assert "  mp[*]        SKIP    99 items done" in out.splitlines()
    assert "  mp[50]/work  RUN" in out
    assert len(out.splitlines()) < 9
    assert "mp[99]/work" in shell("plan", "r", "--all")[1]
    _, out, _ = shell("show", "r")
    assert "99 items done" in out
    assert "ValueError: item 50 is bad" in out


def test_folding_is_by_item() -> None:
    def given(*rows: tuple[str, str | None]) -> list[str | Fold]:
        return list(fold((path, state, path) for path, state in rows))

    items = [(f"m[{i}]/{name}", "done") for i in range(30) for name in "ab"]
    assert given(("m", "x"), *items) == ["m", Fold("m", 30, "done")]
    items[3] = (items[3][0], None)
    assert given(*items) == [Fold("m", 29, "done"), "m[1]/a", "m[1]/b"]
    assert len(given(*items[:20])) == 20
    inner = [(f'o["a/b"]/m[{i}]/x', "done") for i in range(21)]
    assert given(*inner, ('o["c"]/m[1]/x', "done")) == [
        Fold('o["a/b"]/m', 21, "done"),
        'o["c"]/m[1]/x',
    ]


def test_ls(once: Shell) -> None:
    code, out, err = once("ls")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["run", "good", "bad"]
    assert "team=x" in out
    runs = {run["run_id"]: run for run in once.json("ls", "-l")["runs"]}
    assert runs["good"]["status"] == "succeeded"
    assert runs["bad"]["status"] == "failed"
    assert runs["bad"]["labels"] == {"team": "x"}


def test_show(once: Shell) -> None:
    code, out, err = once("show", "bad")
    assert (code, err) == (0, "")
    for part in (
        "parameters  n = 3",
        "labels      team = x",
        "ValueError: item 1 is bad",
        "start ",
    ):
        assert part in out
    shown = once.json("show", "bad")
    failed = [each for each in shown["attempts"] if each["outcome"] == "failed"]
    assert [each["path"] for each in failed] == ["mp[1]/work"]
    assert failed[0]["error"]["type"] == "ValueError"
    assert shown["invocations"][0]["code"]["pipeline"] == str(once.folder / "p.py")


def test_show_lists_artifacts(shell: Shell) -> None:
    shell.write("s.yaml", 'steps: [{name: a, command: "echo hello > a.csv", save: "*.csv"}]')
    shell("run", "s.yaml", "--run-id", "r")
    assert "a.csv" in shell("show", "r")[1]
    artifacts = shell.json("show", "r")["attempts"][0]["artifacts"]
    assert artifacts["a.csv"]["sha256"] == hashlib.sha256(b"hello\n").hexdigest()


def test_verify(once: Shell) -> None:
    code, out, err = once("verify", "good")
    assert (code, err) == (0, "")
    assert "objects checked, all as written" in out


@pytest.mark.parametrize("how", ["cut", "empty", "changed", "newer"])
def test_a_damaged_record_is_said_and_not_fatal(shell: Shell, how: str) -> None:
    shell("run", "p.py", "--run-id", "r", BREAK="1")
    shutil.rmtree(shell.file("r/packs"))
    record = shell.file("r/attempts/make.000001.end.json")
    record.write_bytes(_spoilt(record, how))
    code, out, err = shell("verify", "r")
    assert code == 3
    assert "make.000001.end.json" in out
    assert "1 object of" in err
    for verb in (("plan", "r"), ("show", "r")):
        code, out, err = shell(*verb)
        assert code == 3
        assert "make" in out
        assert "error: 1 object is damaged, and counted as not succeeded" in err
        assert "make.000001.end.json" in err
    code, out, _ = shell("plan", "r", "--format", "json")
    assert code == 3
    assert '"path": "make",\n   "kind": "task",\n   "action": "RUN"' in out
    code, out, _ = shell("retry", "r")
    assert code == 0
    assert "total = 6" in out


def _spoilt(record: Path, how: str) -> bytes:
    data = record.read_bytes()
    if how == "cut":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "changed":
        return data.replace(b"succeeded", b"Succeeded")
    body = data[86:-1].replace(b"runstore/1", b"runstore/2")
    return b'{"sha256":"%s","record":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


def test_a_damaged_blob_and_a_missing_one(shell: Shell) -> None:
    shell.write(
        "s.yaml", 'steps: [{name: a, command: "echo hello; echo x > a.csv", save: "*.csv"}]'
    )
    shell("run", "s.yaml", "--run-id", "r")
    one, other = sorted((home(shell.folder / ".runstore") / "blobs").rglob("*/*/*"))
    one.write_bytes(b"other")
    other.unlink()
    code, out, _ = shell("verify", "r")
    assert code == 3
    assert one.name in out
    assert other.name in out


def test_one_damaged_run_leaves_the_others_listed(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "a")
    shell("run", "p.py", "--run-id", "b" * 200)
    shell.file("b*/run.json").write_bytes(b"{")
    code, out, err = shell("ls", "-l")
    assert code == 3
    assert "a  " in out
    assert "damaged" in out
    assert "run.json is not in the framing" in err
    assert "run.json is not in the framing" in shell.refused(3, "plan", "b" * 200)


def test_a_store_of_a_newer_format_is_refused(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "a")
    marker = shell.folder / ".runstore/runstore.json"
    marker.write_bytes(_spoilt(marker, "newer"))
    assert "upgrade runstore" in shell.refused(3, "ls")
    assert "upgrade runstore" in shell.refused(3, "run", "p.py")


def test_logs_without_a_path_says_how_to_get_the_list(once: Shell) -> None:
    assert "`runstore show good` lists them" in once.refused(2, "logs", "good")
