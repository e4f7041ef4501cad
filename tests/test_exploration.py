"""What is tried, and how often, is said in one place; and what reproduces a failure is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exploration import reached, reaches, scaled

TESTS = Path(__file__).parent
FILES = [path for path in sorted(TESTS.rglob("*.py")) if path.name != "exploration.py"]


def test_no_property_says_for_itself_how_often_or_what_it_tries() -> None:
    found = [
        f"{path.relative_to(TESTS)}: {match[0]}"
        for path in FILES
        if path != Path(__file__)
        for pattern in (
            r"settings\((?!max_examples=scaled\([\d.]+\)\))[^)]*\)",
            r"derandomize|register_profile|load_profile|@seed\(|random\.seed\(",
        )
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_what_draws_without_hypothesis_draws_from_the_seed_of_the_run() -> None:
    """What hypothesis drew may be a seed; a literal may not."""
    literal = re.compile(r"random\.Random\((\d+|f?\"[^\"]*\"|)\)")
    found = [
        f"{path.relative_to(TESTS)}: {match[0]}"
        for path in FILES
        for match in literal.finditer(path.read_text(encoding="utf-8"))
        # There, what a task does is a function of where it stands.
        if not path.match("planning/judged.py")
    ]
    assert not found


FAILING = """
from hypothesis import given, strategies as st
from tests.exploration import randomness

@given(st.integers(0, 10**9))
def test_property(n):
    print("drawn", n)
    assert n < 1000

def test_own():
    assert not randomness("own").random()
"""


def beside(file: Path) -> list[str]:
    """Arguments to pytest: a file elsewhere, as if it stood among the tests."""
    return ["-p", "tests.conftest", "-c", "pyproject.toml", str(file)]


def run(file: Path, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *beside(file)],
        cwd=TESTS.parent, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert "2 failed" in found.stdout, found.stdout + found.stderr
    return found.stdout


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    file = tmp_path / "test_failing.py"
    file.write_text(FAILING)
    return file


def test_each_run_of_ci_has_a_seed_of_its_own_and_prints_how_to_repeat_it(failing: Path) -> None:
    one, other = (run(failing, RUNSTORE_HYPOTHESIS="ci", RUNSTORE_SEED="") for _ in range(2))
    seeds = [re.search(r"profile ci, seed (\d+)", said)[1] for said in (one, other)]  # type: ignore[index]
    assert seeds[0] != seeds[1]
    assert f"RUNSTORE_HYPOTHESIS=ci RUNSTORE_SEED={seeds[0]} " in one
    assert "@reproduce_failure" in one
    again = run(failing, RUNSTORE_HYPOTHESIS="ci", RUNSTORE_SEED=seeds[0])
    drawn = [re.findall(r"drawn \d+|where .* = random\(\)", said) for said in (one, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_exploring_ends_at_the_first_failure_and_prints_its_seed(failing: Path) -> None:
    command = [sys.executable, "-m", "tests.explore", "--seed", "7", *beside(failing)]
    done = subprocess.run(
        command, cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "round 1, seed 7" in done.stdout
    assert "RUNSTORE_HYPOTHESIS=explore RUNSTORE_SEED=7 " in done.stdout
    assert "seed 7 failed" in done.stdout


def test_exploring_ends_when_the_time_is_up() -> None:
    command = [sys.executable, "-m", "tests.explore", "--minutes", "0", "tests/test_paths.py"]
    done = subprocess.run(
        command, cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0
    assert "nothing failed" in done.stdout


def test_a_property_that_hardly_reaches_its_assertion_fails() -> None:
    @reaches(0.5, small=0.1)
    @given(st.integers(0, 100))
    def seldom(n: int) -> None:
        if n < 50:
            reached("small")
        if n == 7:
            reached()

    with pytest.raises(AssertionError, match="too few reached its assertion"):
        seldom()


def test_a_property_that_reaches_it_does_not() -> None:
    @reaches(0.9)
    @given(st.integers(0, 100))
    def often(n: int) -> None:
        reached()

    often()
    assert scaled(0.5) == round(scaled(1) / 2)
