"""The display of a run at work, on a terminal of one's own: with all its colours and cursors."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

EVIL = "[bold]\x1b]0;PWNED\x07\u202eevil\x9b31m\u200b"
OBEYED = re.compile("\x1b\\]|[\x07\x7f-\x9f\u061c\u200b\u202e\u2066\ufeff]")
"""None of it is rich's own."""

LOUD = f"""
import os, subprocess, threading
import runstore

EVIL = {EVIL!a}

def loud():
    print(EVIL + "captured")
    os.write(1, (EVIL + "descriptor\\n").encode())
    os.write(2, b"\\x1b]0;PWNED\\x07no line feed ")
    subprocess.run(["printf", "\\033]0;PWNED\\007command\\n"])
    thread = threading.Thread(target=lambda: print(EVIL + "thread"))
    thread.start()
    thread.join()
    os.write(1, b"\\xff\\x9b\\x1b]0;\\r\\n")
    raise type("Error" + EVIL, (Exception,), {{}})(EVIL)

pipeline = runstore.sequence(runstore.task(loud, name="loud" + EVIL))
"""


def on_a_terminal(folder: Path, *words: str, err: IO[bytes] | None = None) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "runstore.cli", *words],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=err or theirs,
        env=os.environ | {"TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # of a terminal that all have left
            while piece := os.read(ours, 65_536):
                seen += piece
        assert process.wait(60) == 1, seen
    os.close(ours)
    text = seen.decode()
    assert OBEYED.search(text) is None, ascii(text)
    assert r"[bold]\x1b]0;PWNED\x07" in text
    return text


def test_the_display_shows_what_steps_say_and_obeys_nothing(tmp_path: Path) -> None:
    fails = "printf '[bold]\\033]0;PWNED\\007 \\342\\200\\256\\n'; exit 3"
    steps = [{"name": f"a{EVIL}", "command": "true"}, {"name": f"b{EVIL}", "command": fails}]
    (tmp_path / "p.json").write_text(json.dumps({"steps": steps}))
    text = on_a_terminal(tmp_path, "run", "p.json", "--run-id", "r\u202e")
    assert r"exit status 3: [bold]\x1b]0;PWNED\x07 \u202e" in text
    assert r"run r\u202e" in text


def test_nor_what_reaches_the_terminal_past_the_log_of_a_step(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    text = on_a_terminal(tmp_path, "run", "loud.py", "--run-id", "r")
    for what in ("descriptor", "thread"):
        assert rf"\u202eevil\x9b31m\u200b{what}" in text
    assert r"no line feed \x1b]0;PWNED\x07command" in text
    assert "captured" not in text
    assert r"Error[bold]\x1b]0;PWNED\x07" in text


def test_nor_where_only_stdout_is_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    with (tmp_path / "err").open("wb") as err:
        text = on_a_terminal(tmp_path, "run", "loud.py", "--run-id", "r", err=err)
    for what in ("descriptor", "thread"):
        assert rf"\u202eevil\x9b31m\u200b{what}" in text
    assert "captured" not in text
    assert r"Error[bold]\x1b]0;PWNED\x07" in (tmp_path / "err").read_text()


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_heard(tmp_path: Path, closed: str) -> None:
    """Else the next file that is opened, of the store perhaps, has the number of one of them, and
    is given what a step prints there."""
    (tmp_path / "p.py").write_text(
        "import os, runstore\n"
        "def a():\n"
        "    os.write(1, b'printed'); os.write(2, b'printed'); return 1\n"
        "pipeline = runstore.sequence(runstore.task(a, returns='x'))\n"
    )
    runstore = f"{sys.executable} -m runstore.cli"
    line = f"{runstore} run p.py --run-id r {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stderr
    for file in (tmp_path / ".runstore").rglob("*"):
        assert file.is_dir() or b"printed" not in file.read_bytes()
    line = f"{runstore} verify r && {runstore} ls {closed} && {runstore} show none {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2, done
