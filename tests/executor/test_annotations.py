"""A parameter that is annotated with the attempt is given it, however that is spelt."""

from __future__ import annotations

import pytest

import runstore
from runstore import Dag, sequence, start, task
from runstore.errors import DagError
from runstore.pipeline.signatures import attempt_parameters
from tests.executor import annotated


def called(function):
    return getattr(function, "__name__", type(function).__name__)


@pytest.mark.parametrize("function", annotated.OURS, ids=called)
def test_it_is_given_the_attempt(tmp_path, function):
    def told(attempt: runstore.Attempt):
        return attempt.path

    assert attempt_parameters(function) == ("a",)
    node = task(function, name="f")
    assert node.params == ()
    result = start(Dag([node, task(told, returns="x")]), store=tmp_path, environment={})
    end = result.run.read_end("f", 1)
    assert end.outcome == "succeeded", end.error
    assert result.values() == {"x": "told"}
    # It returned what it was given, which is kept nowhere and told by its type.
    assert any("returned a runstore.store.attempt.Attempt" in each for each in result.warnings)


@pytest.mark.parametrize("function", annotated.OTHERS, ids=called)
def test_another_type_is_a_parameter_of_the_run(function):
    assert attempt_parameters(function) == ()
    assert task(function, name="f").params == ("a",)


def test_who_names_a_parameter_so_is_told_how_to_annotate_it(tmp_path):
    node = task(annotated.unannotated, name="f", returns="x")
    with pytest.raises(DagError) as caught:
        start(Dag([node]), store=tmp_path / "s", environment={})
    assert "`attempt: runstore.Attempt`" in str(caught.value)
    assert caught.value.facts["parameter"] == "attempt"
    assert not (tmp_path / "s").exists()
    given = start(Dag([node]), {"attempt": 3}, store=tmp_path / "s", environment={})
    assert given.values()["x"] == 3, "where something gives it, it is a parameter like others"
    by_a_step = sequence(task(lambda: 4, name="gives", returns="attempt"), node)
    assert start(by_a_step, store=tmp_path / "t", environment={}).values()["x"] == 4


def test_where_it_is_defined_in_a_function_as_in_a_notebook(tmp_path):
    from runstore import Attempt

    def inner(a: Attempt | None):
        return a.path

    result = start(Dag([task(inner, returns="x")]), store=tmp_path, environment={})
    assert result.values() == {"x": "inner"}
    space: dict = {}
    exec(  # as `python -`: there is no source to be found
        "from __future__ import annotations\nimport runstore as rs\n"
        "def f(a: rs.Attempt): return a.path\ndef g(a: Attempt): return a.path\n",
        space,
    )
    nodes = [task(space["f"], returns="x"), task(space["g"], returns="y")]
    result = start(Dag(nodes), store=tmp_path, environment={})
    assert result.values() == {"x": "f", "y": "g"}
