"""What an invocation is given: a parameter that nobody reads is told."""

from __future__ import annotations

from pathlib import Path

import runstore


def double(factor: int) -> int:
    return 2 * factor


PIPELINE = runstore.sequence(runstore.task(double, returns="y"))


def test_a_misspelt_parameter_is_told_its_neighbour(tmp_path: Path) -> None:
    given = {"factor": 2, "factr": 3, "else": 4}
    result = runstore.start(PIPELINE, given, store=tmp_path, run_id="r", environment={})
    assert result.values["y"] == 4
    assert list(result.warnings) == [
        "parameter 'factr' is read by no step: did you mean 'factor'?",
        "parameter 'else' is read by no step",
    ]
    fork = runstore.fork("r", PIPELINE, {"factr": 5}, store=tmp_path)
    assert [warning for warning in fork.warnings if "factr" in warning]


def test_what_is_read_is_not_told(tmp_path: Path) -> None:
    result = runstore.start(PIPELINE, {"factor": 2}, store=tmp_path, environment={})
    assert list(result.warnings) == []
