"""A forked command is the command: what it prints, leaves and records is what an interpreter does.

The other tests of this folder rely on it.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import PIPELINE, Shell

STEPS = """
steps:
  - {name: a, command: "echo out; echo err >&2; echo é > é.txt; echo $0 $PWD", save: "*.txt"}
  - {name: b, command: "ps -o stat= -p $$ >/dev/null; ulimit -n; exit 3", after: a}
"""
# Prints past what captures a task's output, leaves threads, sees what a program sees of itself.
ODD = """
import atexit, os, subprocess, sys, threading, warnings
from runstore import Dag, task
print("import", __name__, sys.argv[1:], sys.flags.utf8_mode, sys.stdout.encoding)
atexit.register(print, "at exit")
def f():
    os.write(1, b"descriptor 1\\n")
    os.write(2, b"descriptor 2\\n")
    subprocess.run(["echo", "child"])
    threading.Thread(target=threading.Event().wait, args=(0.1,)).start()
    main = sys.modules["__main__"]
    return [os.getcwd(), sys.path[0], main.__spec__.name, threading.active_count() > 0,
        sorted(os.environ), sys.stdin.read(), sorted(os.listdir("/proc/self/fd"), key=int)[:3]]
def g():
    warnings.warn("a warning is an error")
pipeline = Dag([task(f, returns="seen"), task(g, after="f")])
"""
SESSION = """
run p.py --run-id good --workers 1
run p.py --run-id bad --workers 1 --label a=b BREAK=1
run p.py --run-id pool --processes --workers 1 BREAK=2
run s.yaml --run-id steps
run odd.py --run-id odd
--debug run nothing.py
run p.py --run-id good
show bad --frob
show odd --format json
logs odd f
logs bad mp[1]/work
plan bad
verify good
get steps é.txt -o -
retry bad p.py --workers 1
--help
""".strip().splitlines()

VARIES = (
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID"),
    (r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)?", "TIME"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r'"pid": ?\d+|process \d+', "PID"),
    (r'"(started|ended|thread)": ?"?[\d.]+', "WHEN"),
    (r"\d+(\.\d+)? (s|kB|KB|B)\b", "AMOUNT"),
    (r" {2,}", "  "),  # columns are as wide as what is in them
)


def said(shell: Shell, line: str, how: str) -> tuple[int, str, str]:
    words = line.split()
    environment = dict(word.split("=") for word in words if word.startswith("BREAK="))
    words = [word for word in words if not word.startswith("BREAK=")]
    code, *texts = getattr(shell, how)(*words, **environment)
    for pattern, name in VARIES:
        texts = [re.sub(pattern, name, text) for text in texts]
    out, err = (text.replace(str(shell.folder), "FOLDER") for text in texts)
    return code, out, err


def tree(folder: Path) -> list[str]:
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    # Names of packs and blobs are of what is in them: times, folders.
    varies = r"/[0-9a-f]{2}/[0-9a-f]{20,}|[0-9A-Za-z_-]{20,}"
    return sorted(re.sub(varies, "NAME", path) for path in found)


def test_a_fork_says_and_does_what_an_interpreter_does(tmp_path: Path) -> None:
    shells = {}
    for how in ("interpreter", "forked"):
        (tmp_path / how).mkdir()
        shells[how] = shell = Shell(tmp_path / how)
        shell.write("p.py", PIPELINE)
        shell.write("s.yaml", STEPS)
        shell.write("odd.py", ODD)
    codes = set()
    for line in SESSION:
        one, other = (said(shell, line, how) for how, shell in shells.items())
        assert one == other, line
        codes.add(one[0])
    assert codes == {0, 1, 2}
    one, other = (tree(shell.folder) for shell in shells.values())
    assert one == other
