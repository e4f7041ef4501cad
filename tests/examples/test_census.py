"""The census: one package fails on real input, and only that one is tried again."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runstore
from tests.examples.raw import EXAMPLES, artifact, ends, outcomes, run_folder

CENSUS = EXAMPLES / "census/census.py"
FIXED = EXAMPLES / "census/census_fixed.py"
OLD = EXAMPLES / "census/old"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of five packages' worth, one of them Python 2."""
    library = tmp_path / "library"
    for name, text in {
        "alpha/__init__.py": "def f():\n    return 1\n\n\nclass C:\n    x = 1\n",
        "alpha/deep/inside.py": "async def g():\n    pass\n",
        "beta/__init__.py": "",
        "single.py": "import os\n",
        "_private.py": "x = 1\ny = 2\n",
        "test/test_alpha.py": "print 1, 'left out as a whole'\n",
        "site-packages/other.py": "not Python either\n",
    }.items():
        file = library / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return library


def census(file: Path, library: Path) -> runstore.Pipeline:
    loaded = runstore.load_pipeline(str(file))
    return runstore.Pipeline(loaded.dag, {"folders": [str(library), str(OLD)]}, source=str(file))


def table_of(store: Path) -> list[dict[str, str]]:
    text = artifact(run_folder(store), "table", "census.csv").decode()
    return list(csv.DictReader(io.StringIO(text)))


def path_of(package: str) -> str:
    return f'measure["{package}"]/count'


def test_only_what_failed_and_what_follows_runs_again(library: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = runstore.start(census(CENSUS, library), store=store, run_id="census")
    assert result.status == "failed"
    first = outcomes(run_folder(store))
    packages = ["alpha", "beta", "private modules", "python2", "single modules"]
    assert first == {
        "find_packages": ["succeeded"],
        **{path_of(name): ["failed" if name == "python2" else "succeeded"] for name in packages},
    }
    error = ends(run_folder(store))[path_of("python2")][0]["error"]
    assert error["type"] == "SyntaxError"
    assert "ast.parse" in error["traceback"]
    assert "runstore/executor" not in error["traceback"]

    result = runstore.retry("census", census(FIXED, library), store=store)
    assert result.status == "succeeded"
    again = {
        path: each for path, each in outcomes(run_folder(store)).items() if each != first.get(path)
    }
    assert again == {
        path_of("python2"): ["failed", "succeeded"],
        "add_up": ["succeeded"],
        "shape:small/all_rows": ["succeeded"],
        "summaries:size/biggest": ["succeeded"],
        "summaries:habits/habits": ["succeeded"],
        "table": ["succeeded"],
    }
    rows = {row["package"]: row for row in table_of(store)}
    assert list(rows) == [*packages, "total"]
    assert rows["alpha"] == {
        "package": "alpha", "modules": "2", "lines": "8", "functions": "2", "classes": "1",
        "left out": "0",
    }  # fmt: skip
    assert rows["python2"]["left out"] == "3"
    assert rows["total"]["modules"] == "5"
    assert result.values()["biggest_package"] == "alpha"
    assert result.values()["favourites"][0] == "Assign"


def test_a_large_library_takes_the_other_branch(library: Path, tmp_path: Path) -> None:
    for number in range(12):
        (library / f"p{number}").mkdir()
        (library / f"p{number}/m.py").write_text("x = 1\n" * (number + 10))
    store = tmp_path / "store"
    result = runstore.start(census(FIXED, library), store=store, run_id="census")
    assert result.status == "succeeded"
    assert outcomes(run_folder(store))["shape:large/ten_rows"] == ["succeeded"]
    assert "shape:small/all_rows" not in outcomes(run_folder(store))
    rows = table_of(store)
    assert [row["package"] for row in rows][-3:] == ["p2", "7 others", "total"]
    assert sum(int(row["lines"]) for row in rows[:-1]) == int(rows[-1]["lines"])


def test_the_two_files_differ_in_the_fix_alone() -> None:
    def structure(file: Path) -> Any:
        return runstore.load_pipeline(str(file)).dag.wiring.exports

    lines, fixed = (file.read_text().splitlines() for file in (CENSUS, FIXED))
    assert structure(CENSUS) == structure(FIXED)
    gone, new = set(lines) - set(fixed), set(fixed) - set(lines)
    assert len(gone) <= 4
    assert len(new) <= 8


def test_the_demo(tmp_path: Path) -> None:
    """As `make demo` runs it, on the library of this machine. It checks itself."""
    store = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "census/demo.py", store], cwd=tmp_path, timeout=120,
        capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout

    run = run_folder(store)
    found = outcomes(run)
    (failed,) = [path for path, each in found.items() if each == ["failed", "succeeded"]]
    assert all(each == ["succeeded"] for path, each in found.items() if path != failed)
    assert f"FAILED {failed}" in done.stdout or f"✗ {failed}" in done.stdout
    # The whole library, not a part of it.
    assert sum(path.startswith("measure[") for path in found) > 20
    assert int(table_of(store)[-1]["modules"]) > 300
