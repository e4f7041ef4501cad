"""A census that fails half way, is mended, and goes on: the story `make demo` tells.

Everything in it is typed as you would type it. It checks itself: the exit code is 0 only if all
went as told.
"""

import csv
import difflib
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import runstore

ROOT = Path(__file__).parents[2]
CENSUS, FIXED = "examples/census/census.py", "examples/census/census_fixed.py"
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class NotAsToldError(Exception):
    pass


def check(truth, what):
    if not truth:
        raise NotAsToldError(what)


def styled(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def say(text):
    print(f"\n{styled('1', text)}\n", flush=True)


def runstore_command(store, *words):
    """Show a command, and run it. Its exit code."""
    print(styled("36", f"$ runstore {' '.join(words)}"), flush=True)
    # What the command does, also where the folder of scripts is not on the PATH.
    command = [sys.executable, "-c", "from runstore.cli import main; main()", *words]
    environment = {**os.environ, "RUNSTORE_URL": str(store)}
    if sys.stdout.isatty():
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print("\n".join(folded(done.stdout.splitlines())), flush=True)
    return done.returncode


def folded(lines):
    """Many lines of success in a row, as a few of them."""
    row = []
    for line in [*lines, None]:
        if line is not None and line.startswith(("✓ measure", "ok measure")):
            row.append(line)
            continue
        yield from row if len(row) < 5 else [*row[:2], f"  ... and {len(row) - 2} more like these"]
        row = []
        if line is not None:
            yield line


def show_diff():
    before, after = ((ROOT / file).read_text("utf-8").splitlines() for file in (CENSUS, FIXED))
    for line in difflib.unified_diff(before, after, CENSUS, FIXED, lineterm="", n=1):
        print(styled({"-": "31", "+": "32"}.get(line[0], "2"), line))


def show_table(text):
    rows = list(csv.reader(io.StringIO(text)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join([row[0].ljust(widths[0]), *cells[1:]])
        print(styled("1", line) if row in (rows[0], rows[-1]) else line)


def attempts(store):
    """Path -> the outcomes of its attempts, as the store has them."""
    history = runstore.open_store(store).get_run("census").history()
    return {path: [end.outcome for end in history.ends(path)] for path in history.paths()}


def count_files(folders):
    """How many modules there are: the sum of the table, counted in another way."""
    names = (file.relative_to(f).parts for f in folders for file in Path(f).rglob("*.py"))
    return sum(
        len(parts) == 1 or (parts[0].isidentifier() and parts[0] != "test") for parts in names
    )


def main(store):
    began = time.monotonic()

    say("A census of Python's standard library: a step for each package, then sums and a table.")
    code = runstore_command(store, "run", CENSUS, "--run-id", "census")
    check(code == 1, f"the census fails, with exit code 1 (it was {code})")
    before = attempts(store)
    failed = [path for path, outcomes in before.items() if outcomes == ["failed"]]
    check(len(failed) == 1 and failed[0].startswith("measure["), "one package fails")

    say("One package holds Python 2, which does not parse. What is left to do, and why:")
    check(runstore_command(store, "plan", "census") == 0, "the plan can be read")

    say("The fix is in the code: count such files, instead of stopping at them.")
    show_diff()

    say("The same run goes on. What succeeded is skipped.")
    code = runstore_command(store, "retry", "census", FIXED)
    check(code == 0, f"the retry succeeds (its exit code was {code})")
    after = attempts(store)
    ran = {path for path, outcomes in after.items() if outcomes != before.get(path)}
    check(after[failed[0]] == ["failed", "succeeded"], "the failed package was tried again")
    check(all(after[path] == ["succeeded"] for path in ran - {*failed}), "what follows ran once")
    check(not ran & (before.keys() - {*failed}), "nothing that had succeeded ran again")

    say("The table, an artifact of the last step:")
    run = runstore.open_store(store).get_run("census")
    text = run.blobs.read(run.history().latest("table").artifacts["census.csv"]).decode()
    show_table(text)
    *_, total = csv.DictReader(io.StringIO(text))
    counted = int(total["modules"]) + int(total["left out"])
    check(counted == count_files(run.parameters()["folders"]), "every module is in the table")
    check(int(total["left out"]) > 0, "what is not Python 3 was counted")

    say("Every step is done now, and each rests on the record of an attempt:")
    check(runstore_command(store, "plan", "census") == 0, "the plan can be read")
    check(run.plan().status == "succeeded", "nothing is left to do")

    say(
        f"{len(before) - 1} steps did not run again; {len(ran)} ran: the one that failed, and what "
        f"follows it. {time.monotonic() - began:.1f} s in all."
    )
    print(f"Look around: export RUNSTORE_URL={store}; runstore plan census --all")


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".runstore-demo").absolute()
    if len(sys.argv) == 1 and place.exists():
        shutil.rmtree(place)  # of the last time; no folder that somebody names is removed
    try:
        main(place)
    except NotAsToldError as error:
        sys.exit(f"NOT AS TOLD. This should be so, and is not: {error}")
