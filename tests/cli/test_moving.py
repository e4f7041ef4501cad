"""export, import, pull, push, and an exported file in place of a store."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PIPELINE, Shell
from tests.servers import server

SAVES = """
steps:
  - {name: a, command: "echo hello > a.csv; echo log", save: "*.csv"}
  - {name: b, command: "cat a.csv > b.txt; test -z $BREAK", after: a, load: "*.csv", save: b.txt}
"""


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A failed run, and exported files of it."""
    made = Shell(tmp_path_factory.mktemp("moving"))
    made.write("p.py", PIPELINE)
    made.write("s.yaml", SAVES)
    assert made("run", "p.py", "--run-id", "bad", BREAK="1")[0] == 1
    assert made("run", "s.yaml", "--run-id", "saves", BREAK="1")[0] == 1
    code, out, err = made("export", "bad", "-o", "run.json")
    assert code == 0
    assert err == (
        "note: left out 3 blobs (files that steps saved, and logs): --artifacts takes them along, "
        "--artifacts=needed those that a step to run may load\n"
    )
    assert re.fullmatch(r"run bad: \d+ records, 0 blobs, \d.* in run.json\n", out)
    return made


def test_an_exported_file_is_store_and_run_at_once(moved: Shell, tmp_path: Path) -> None:
    elsewhere = Shell(tmp_path)
    file = str(moved.folder / "run.json")
    for verb in ("plan", "show", "verify"):
        told = elsewhere(verb, file)
        assert told[0] == 0
        assert elsewhere(verb, "bad", "--store", file) == told
        if verb != "verify":
            assert moved(verb, "bad") == told
    assert "3 blobs are not in this file" in told[1]
    assert elsewhere("ls", "--store", file)[1].splitlines()[1].split()[0] == "bad"
    code, out, err = elsewhere("logs", file, "mp[1]/work")
    assert (code, out) == (0, "")
    assert "its log is not here (left out by an export, perhaps)" in err
    assert "ValueError: item 1 is bad" in err
    elsewhere.write("p.py", PIPELINE)
    assert elsewhere("diff", file, "p.py")[:2] == (0, "")
    assert not (tmp_path / ".runstore").exists()
    for words in (["retry", file], ["fork", file], ["pack", file]):
        assert "runstore import" in elsewhere.refused(2, *words)
    assert "runstore import" in elsewhere.refused(2, "run", "p.py", "--store", file)
    assert "read-only" in elsewhere.refused(2, "gc", "--store", file)


def test_a_file_that_is_no_export_is_refused(moved: Shell, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("x.json", '{"nodes": []}')
    data = (moved.folder / "run.json").read_bytes()
    (tmp_path / "cut.json").write_bytes(data[: len(data) // 2])
    for file in ("x.json", "cut.json"):
        assert file in shell.refused(2, "show", file)
        assert file in shell.refused(2, "import", file)
    assert "does not exist" in shell.refused(2, "import", "absent.json")
    assert not (tmp_path / ".runstore").exists()


def test_import_and_go_on(moved: Shell, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("p.py", PIPELINE)
    file = str(moved.folder / "run.json")
    code, out, err = shell("import", file)
    assert (code, err) == (0, "")
    assert "run bad is in" in out
    assert "runstore plan bad" in out
    assert shell("import", file)[0] == 0  # again: nothing to do
    code, out, err = shell("verify", "bad")
    assert (code, err) == (0, "")
    assert "all as written; 3 logs are not here (left out by an export, perhaps)" in out
    assert shell.json("verify", "bad")["left_out"] == 3
    code, out, err = shell("logs", "bad", "mp[1]/work")
    assert (code, out) == (0, "")
    assert "its log is not here (left out by an export, perhaps)" in err
    assert "ValueError: item 1 is bad" in err
    assert shell("plan", "bad")[1] == moved("plan", "bad")[1]
    code, out, _ = shell("retry", "bad", "p.py")
    assert code == 0
    assert "2 steps ran, 3 skipped" in out
    # Both went on: neither may replace the other.
    assert moved("retry", "bad", BREAK="1")[0] == 1
    assert shell("export", "bad", "-o", "back.json")[0] == 0
    sentence = moved.refused(2, "import", str(tmp_path / "back.json"))
    assert "attempt 2 at mp[1]/work" in sentence


@pytest.mark.parametrize(
    ("option", "blobs"), [((), 0), (("--artifacts=needed",), 1), (("--artifacts",), 2)]
)
def test_artifacts_go_along(moved: Shell, option: tuple[str, ...], blobs: int) -> None:
    code, out, err = moved("export", *option, "saves", "-o", "s.json")
    assert code == 0
    assert (f"left out {2 - blobs} blob" in err) == (blobs < 2)
    assert f"{blobs} blob" in out
    code, _, err = moved("get", "s.json", "a.csv", "-o", "-")
    assert (code == 0) == bool(blobs)
    if not blobs:
        assert "a/a.csv (attempt 1) is not in " in err
        assert "export the run again, with --artifacts" in err
        assert moved("import", "s.json", "--store", "without")[0] == 0
        code, _, err = moved("get", "saves", "a.csv", "-o", "-", "--store", "without")
        assert code == 3
        assert "runstore retry --store without --force a saves" in err


def test_export_takes_a_json_file(moved: Shell) -> None:
    assert ".json" in moved.refused(2, "export", "bad", "-o", "x.txt")
    assert "-o" in moved.refused(2, "export", "bad")
    assert "no run 'none'" in moved.refused(2, "export", "none", "-o", "x.json")
    assert "no/x.json" in moved.refused(3, "export", "bad", "-o", "no/x.json")


def test_get(moved: Shell) -> None:
    assert moved("get", "saves", "a.csv", "-o", "-") == (0, "hello\n", "")
    assert moved("get", "saves", "a/a.csv", "-o", "-")[1] == "hello\n"
    code, out, err = moved("get", "saves", "a.csv")
    assert (code, out) == (0, "")
    assert "a/a.csv (attempt 1)" in err
    assert (moved.folder / "a.csv").read_text() == "hello\n"
    assert "-o" in moved.refused(2, "get", "saves", "a.csv")
    assert "there is 'a.csv'" in moved.refused(2, "get", "saves", "nothing")
    assert "no artifact" in moved.refused(2, "get", "saves", "a.csv", "--attempt", "2")


def test_get_says_which_there_are(shell: Shell) -> None:
    shell.write(
        "m.yaml",
        'steps: [{name: a, command: "echo 1 > x.txt", save: x.txt},'
        ' {name: b, command: "echo 2 > x.txt", save: x.txt}]',
    )
    assert shell("run", "m.yaml", "--run-id", "r")[0] == 0
    assert "a/x.txt, b/x.txt" in shell.refused(2, "get", "r", "x.txt")
    assert shell("get", "r", "b/x.txt", "-o", "-")[1] == "2\n"


def test_get_of_a_failed_attempt_to_see_what_went_wrong(shell: Shell) -> None:
    shell.write("q.py", KEEPS)
    assert shell("run", "q.py", "--run-id", "r", BREAK="1")[0] == 1
    code, _, err = shell("get", "r", "x.txt")
    assert (code, (shell.folder / "x.txt").read_text()) == (0, "seen")
    assert "f/x.txt (attempt 1, which failed)" in err


KEEPS = """
from runstore import Attempt, Dag, task
def f(attempt: Attempt):
    attempt.save_bytes("x.txt", b"seen")
    raise ValueError
pipeline = Dag([task(f)])
"""


def test_push_and_pull(moved: Shell, tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    code, out, err = moved("push", "saves", there)
    assert (code, err) == (0, "")
    assert re.search(r"\d+ records, 1 pack and 2 blobs copied to .*, 0 objects there before", out)
    assert "0 records, 0 packs and 0 blobs copied" in moved("push", "saves", there)[1]
    shell = Shell(tmp_path)
    assert shell("pull", there, "saves")[0] == 0
    assert shell("pull", there, "saves", "other")[0] == 0
    assert shell("push", "other", "saves", "third")[0] == 0
    assert tree(tmp_path / "third") == tree(tmp_path / "other")
    whole = tree(Path(there))
    for target in (".runstore", "other"):  # it is recorded that they were pulled, and nothing else
        more = tree(tmp_path / target).items() - whole.items()
        assert [(tmp_path / target / name).parent.name for name, _ in more] == ["invocations"]
        assert not whole.items() - tree(tmp_path / target).items()
        before = tree(tmp_path / target)
        assert shell("pull", there, "saves", target)[0] == 0
        assert tree(tmp_path / target) == before, "a pull that brings nothing writes nothing"
    assert "no run 'none'" in shell.refused(2, "pull", there, "none")
    assert "no store at" in shell.refused(2, "pull", "nowhere", "saves")
    assert "RUN_ID and DST" in shell.refused(2, "push", "saves")
    assert "runstore import" in shell.refused(2, "pull", str(moved.folder / "run.json"), "bad")


def tree(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (root / "runs").rglob("*")
        if file.is_file()
    }


def test_a_bar_on_a_terminal_and_none_elsewhere(moved: Shell, tmp_path: Path) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runstore.cli", "push", "saves", str(tmp_path / "x")],
        cwd=moved.folder, env=moved.environment | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=side, stdout=subprocess.PIPE, stderr=side,
    )  # fmt: skip
    os.close(side)
    out, _ = process.communicate(timeout=30)
    shown = b""
    while select.select([main], [], [], 0.2)[0]:
        try:
            shown += os.read(main, 65536)
        except OSError:
            break
    os.close(main)
    assert process.returncode == 0
    assert b"copying" in shown
    assert b"copying" not in out


@pytest.fixture
def bucket() -> tuple[str, dict[str, str]]:
    running = server("moto")
    return f"s3://{running.bucket()}/store", running.environment


def test_a_bucket(moved: Shell, bucket: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    url, environment = bucket
    environment = environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert moved("push", "saves", url, **environment)[0] == 0
    endpoint = environment["AWS_ENDPOINT_URL"]
    other = {name: value for name, value in environment.items() if name != "AWS_ENDPOINT_URL"}
    options = ("--storage-option", f"endpoint_url={endpoint}", "--store", url)
    code, out, err = moved("plan", "saves", *options, **other)
    assert (code, out) == (0, moved("plan", "saves")[1]), err
    assert moved("verify", "saves", *options, **other)[0] == 0
    # A command is recorded with the run, and what is in an option may be a secret.
    code, out, err = moved("retry", "saves", *options, **other)
    assert code == 0, err
    assert "endpoint_url=***" in moved("show", "saves", *options, **other)[1]
    assert moved("pull", url, "saves", str(tmp_path / "back"), **environment)[0] == 0
    assert "succeeded" in moved("ls", "-l", "--store", str(tmp_path / "back"))[1]
    code, out, _ = moved("doctor", url, *options, **other)
    assert code == 0
    assert "a second create of a key is refused" in out


def test_what_was_read_from_a_bucket_is_kept(
    moved: Shell, bucket: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    url, environment = bucket
    environment = environment | {"XDG_CACHE_HOME": str(tmp_path), "RUNSTORE_URL": url}
    assert moved("push", "bad", url, "--store", ".runstore", **environment)[0] == 0
    assert not list(tmp_path.iterdir())
    assert moved("plan", "bad", RUNSTORE_CACHE="0", **environment)[0] == 0
    assert not list(tmp_path.iterdir())
    told = moved("plan", "bad", **environment)
    assert told == moved("plan", "bad")
    assert len(list(tmp_path.rglob("*.sqlite3"))) == 1
    assert moved("plan", "bad", **environment) == told
    assert moved("show", "bad", **environment)[0] == 0
    assert moved("rm", "bad", "--yes", **environment)[0] == 0
    assert "no run 'bad'" in moved.refused(2, "plan", "bad", **environment)


def test_get_from_an_item_of_a_map(shell: Shell) -> None:
    shell.write(
        "m.yaml",
        "parameters: {items: [a, b/c]}\n"
        "steps: [{name: each, kind: map, over: items, as: item, body: {steps: [{name: w,"
        ' params: item, command: \'echo $item > "out [1].csv"; echo $item > x*.txt;'
        " echo n > xy.txt; echo d > -d.md',"
        " save: '*'}]}}]",
    )
    assert shell("run", "m.yaml", "--run-id", "r")[0] == 0
    for address in ('each["b/c"]/w/out [1].csv', 'each["b/c"]/out [1].csv', 'each["b/c"]/*.csv'):
        assert shell("get", "r", address, "-o", "-") == (0, "b/c\n", "")
    assert shell("get", "r", 'each["a"]/x*.txt', "-o", "-")[1] == "a\n", "an exact name"
    refused = shell.refused(2, "get", "r", "*.csv")
    assert 'each["a"]/w/out [1].csv, each["b/c"]/w/out [1].csv' in refused
    assert 'each["a"]/w/x*.txt, each["a"]/w/xy.txt' in shell.refused(2, "get", "r", 'each["a"]/x?*')
    assert shell("get", "r", "--", 'each["a"]/-d.md')[0] == 0
    assert (shell.folder / "-d.md").read_text() == "d\n"
    os.mkfifo(shell.folder / "pipe")
    assert "is no file" in shell.refused(2, "get", "r", 'each["a"]/*.csv', "-o", "pipe")
