"""What an invocation is given: a parameter that nobody reads is told, and what a default is not."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from msgspec.structs import force_setattr

import runstore
from runstore.errors import DagError


def double(factor: int) -> int:
    return 2 * factor


PIPELINE = runstore.sequence(runstore.task(double, returns="y"))


def test_a_misspelt_parameter_is_told_its_neighbour(tmp_path: Path) -> None:
    given = {"factor": 2, "factr": 3, "else": 4}
    result = runstore.start(PIPELINE, given, store=tmp_path, run_id="r", environment={})
    assert result.values()["y"] == 4
    assert list(result.warnings) == [
        "parameter 'factr' is read by no step: did you mean 'factor'?",
        "parameter 'else' is read by no step",
    ]
    fork = runstore.fork("r", PIPELINE, {"factr": 5}, store=tmp_path)
    assert [warning for warning in fork.warnings if "factr" in warning]


def scaled(factor: int, by: int = 3) -> int:
    return factor * by


DEFAULT = runstore.sequence(runstore.task(scaled, name="step", returns="y"))


def test_a_python_default_is_no_value_of_a_run(tmp_path: Path) -> None:
    """It is refused before anything is written, saying why and what to do."""
    with pytest.raises(DagError) as caught:
        runstore.start(DEFAULT, {"factor": 2}, store=tmp_path, run_id="r", environment={})
    assert str(caught.value) == (
        "'step' reads 'by', which no node before it returns and the run does not have: let a node "
        "before it return it, or start the run with it. The default of by: 'int' = 3 is not used, "
        "since a run records what each step was given: have `parameters = {'by': ...}` beside the "
        "pipeline, or bind it: functools.partial(scaled, by=...)"
    )
    assert (caught.value.facts["parameter"], list(tmp_path.iterdir())) == ("by", [])
    runstore.start(PIPELINE, {"factor": 2}, store=tmp_path, run_id="r", environment={})
    with pytest.raises(DagError, match=r"'step' reads 'by'.*functools\.partial"):
        runstore.fork("r", DEFAULT, store=tmp_path, new_run_id="f", keep_unchanged=True)
    with pytest.raises(DagError) as caught:
        runstore.start(DEFAULT, {"by": 2}, store=tmp_path, environment={})
    assert "default" not in str(caught.value), "of the one that has none"


def test_a_function_without_a_signature_does_not_hide_what_is_wrong(tmp_path: Path) -> None:
    """`iter` is written in C and says nothing of what it takes."""
    node = runstore.Task(name="step", params=("by",))
    force_setattr(node, "_function", iter)
    with pytest.raises(DagError, match="'step' reads 'by', which no node"):
        runstore.start(runstore.sequence(node), store=tmp_path, environment={})


@pytest.mark.parametrize("processes", [False, True])
def test_what_the_message_says_to_do_does_it(tmp_path: Path, processes: bool) -> None:
    bound = runstore.sequence(runstore.task(functools.partial(scaled, by=5), returns="y"))
    given = runstore.Pipeline(DEFAULT, {"by": 7})
    for pipeline, y in ((bound, 10), (given, 14)):
        result = runstore.start(
            pipeline, {"factor": 2}, store=tmp_path, processes=processes, environment={}
        )
        assert result.values()["y"] == y


def test_what_is_read_is_not_told(tmp_path: Path) -> None:
    result = runstore.start(PIPELINE, {"factor": 2}, store=tmp_path, environment={})
    assert list(result.warnings) == []
