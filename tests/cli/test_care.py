"""rm, gc, pack, doctor."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runstore
from tests.cli.conftest import Shell
from tests.places import NONCE, home
from tests.servers import server


def test_rm(shell: Shell) -> None:
    assert shell("run", "p.py", "--run-id", "r")[0] == 0
    assert shell("run", "p.py", "--run-id", "kept")[0] == 0
    assert "--yes" in shell.refused(2, "rm", "r")  # nobody to be asked
    assert shell("rm", "r", "--yes")[1].startswith("run r is removed: ")
    assert "no run 'r'" in shell.refused(2, "show", "r")
    assert "no run 'r'" in shell.refused(2, "rm", "r", "--yes")
    assert "no run 'r'" in shell.refused(2, "rm", "r")
    assert "no store" in shell.refused(2, "rm", "r", "--yes", "--store", "nowhere")
    assert shell("verify", "kept")[0] == 0
    assert shell("run", "p.py", "--run-id", "r")[0] == 0


@pytest.mark.parametrize(("answer", "gone"), [("y", True), ("n", False), ("", False)])
def test_rm_asks(shell: Shell, answer: str, gone: bool) -> None:
    assert shell("run", "p.py", "--run-id", "r")[0] == 0
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runstore.cli", "rm", "r"],
        cwd=shell.folder, env=shell.environment, stdin=side, stdout=side, stderr=side,
    )  # fmt: skip
    os.close(side)
    os.write(main, answer.encode() + b"\n")
    assert process.wait(30) == 0
    os.close(main)
    assert (shell.folder / ".runstore/runs/r").exists() is not gone


def test_rm_of_a_run_at_work(shell: Shell) -> None:
    assert shell("run", "p.py", "--run-id", "r")[0] == 0
    run = runstore.open_store(shell.folder / ".runstore").get_run("r")
    with run.begin("make", number=2, consumed=run.history().ends("make")[0].consumed) as attempt:
        assert "attempt 2 at make, by process" in shell.refused(2, "rm", "r", "--yes")
        attempt.outputs["items"] = [1]
    assert shell("rm", "r", "--yes")[0] == 0


def test_gc(shell: Shell) -> None:
    assert shell("run", "p.py", "--run-id", "r", BREAK="1")[0] == 1
    folder = home(shell.folder / ".runstore")
    gone = f"gone/{NONCE}/attempts"
    (folder / "attempts/.tmp-1-a").write_bytes(b"")
    (shell.folder / f".runstore/runs/{gone}").mkdir(parents=True)
    (shell.folder / f".runstore/runs/{gone}/a.000001.end.json").write_bytes(b"")
    assert shell("gc") == (0, "nothing to remove\n", "")
    then = time.time() - 100_000
    for file in shell.folder.glob(".runstore/runs/**/*"):
        os.utime(file, (then, then))
    code, out, _ = shell("gc")
    assert code == 0
    assert f"runs/r/{folder.name}/attempts/.tmp-1-a  an unfinished write" in out
    assert f"runs/{gone}/a.000001.end.json  of a run that is not there" in out
    assert out.splitlines()[-1] == "2 objects to remove: --yes does it"
    assert (folder / "attempts/.tmp-1-a").exists()
    assert shell("gc", "--older-than", "2d")[1] == "nothing to remove\n"
    assert shell("gc", "--yes", "--older-than", "2d")[1] == "0 objects removed\n"
    assert shell("gc", "--yes")[1].splitlines()[-1] == "2 objects removed"
    assert not (folder / "attempts/.tmp-1-a").exists()
    assert shell("verify", "r")[0] == 0
    assert "is not an age" in shell.refused(2, "gc", "--older-than", "soon")


def test_pack(shell: Shell) -> None:
    assert shell("run", "p.py", "--run-id", "r", BREAK="1")[0] == 1
    before = shell("plan", "r")[1]
    for pack in shell.folder.glob(".runstore/runs/r/*/packs/*"):
        pack.unlink()
    assert shell("pack", "r") == (0, "run r: 8 records packed, 0 were before\n", "")
    assert shell("pack", "r")[1] == "run r: 0 records packed, 8 were before\n"
    assert shell("plan", "r")[1] == before
    assert shell("verify", "r")[0] == 0
    assert shell("retry", "r")[0] == 0


def test_pack_says_what_is_damaged(shell: Shell) -> None:
    assert shell("run", "p.py", "--run-id", "r", BREAK="1")[0] == 1
    pack = shell.file("r/packs/*")
    pack.write_bytes(pack.read_bytes()[:-1])
    code, out, err = shell("pack", "r")
    assert code == 3
    assert f"{pack.name} does not match its digest" in err
    assert "8 records packed, 0 were before" in out
    assert shell("verify", "r")[0] == 3
    pack.unlink()
    assert shell("verify", "r")[0] == 0


def test_an_exported_file_is_no_place_to_try_out(shell: Shell) -> None:
    (shell.folder / "r.json").write_text("{}")
    code, out, err = shell("doctor", "r.json")
    assert (code, out) == (2, "")
    assert "is an exported file" in err
    assert "`runstore verify RUN_ID --store FILE`" in err
    assert (shell.folder / "r.json").read_text() == "{}"


def test_doctor(shell: Shell) -> None:
    code, out, err = shell("doctor", "somewhere")
    assert (code, err) == (0, "")
    assert "exclusive" in out
    found = shell.json("doctor", str(shell.folder / "somewhere"))["findings"]
    assert [each["ok"] for each in found].count(False) == 0
    shell.write("file", "")
    code, out, _ = shell("doctor", "file")
    assert code == 3
    assert "BAD" in out
    assert shell("gc", "--older-than", "0", "--yes", "--store", "somewhere")[0] in (0, 2)


def test_an_endpoint_that_overwrites(shell: Shell, tmp_path: Path) -> None:
    running = server("rclone")
    url = f"s3://{running.bucket()}/store"
    environment = running.environment | {"RUNSTORE_URL": url, "RUNSTORE_CACHE": "0"}
    code, out, _ = shell("doctor", **environment)
    assert code == 3
    assert "of two writers both would win" in out
    sentence = shell.refused(3, "run", "p.py", **environment)
    assert "does not create exclusively" in sentence
    assert shell("run", "p.py", "--run-id", "r", "--single-writer", **environment)[0] == 0
    assert "single-writer" in shell("show", "r", **environment)[1]
