"""A machine without the servers: what is left out is said last, and in CI it is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def session(tmp_path: Path, *workers: str, **environment: str) -> tuple[int, list[str]]:
    # Where no program is, radosgw is not either.
    names = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "--basetemp", str(tmp_path / "base"), "tests/remote/test_requests.py", "-k", "known",
            *workers,
        ],
        cwd=ROOT, env=names, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


@pytest.fixture(params=[(), ("-n", "2")], ids=["alone", "workers"])
def workers(request: pytest.FixtureRequest) -> tuple[str, ...]:
    words: tuple[str, ...] = request.param
    return words


def test_the_last_lines_say_what_was_left_out_and_how_to_get_it(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    code, lines = session(tmp_path, *workers)
    assert code == 0
    last = [line for line in lines if "Left out" in line][-1]
    assert "the tests on radosgw" in last
    assert "apt-get install radosgw" in last
    assert last in lines[-3:]


def test_where_they_are_required_it_is_a_failure(tmp_path: Path, workers: tuple[str, ...]) -> None:
    code, lines = session(tmp_path, *workers, RUNSTORE_REQUIRE_SERVERS="1")
    assert code == 1
    assert any("radosgw cannot be started" in line for line in lines)
