"""Pipelines from plain functions and from files: what is taken, and what each mistake is told."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore import Attempt
from runstore.errors import DagError, PipelineError
from runstore.pipeline import function_of, load_pipeline, sequence, task


def add(x: int, y: int = 2) -> int:
    return x + y


def with_attempt(x: int, attempt: Attempt) -> None:
    attempt.outputs["x"] = x


def test_a_function_becomes_a_task_and_stays_what_it_is() -> None:
    made = task(add, returns="z", image="python:3.11")
    assert (made.name, made.params, made.returns, made.type) == (
        "add",
        ("x", "y"),
        ("z",),
        "python",
    )
    assert made.config == {"image": "python:3.11", "callable": f"{__name__}:add"}
    assert function_of(made) is add
    assert add(1) == 3
    assert task(with_attempt).params == ("x",)


def test_a_task_from_a_record_finds_its_function_by_name() -> None:
    stored = runstore.Task(name="p", config={"callable": "posixpath:join"})
    assert function_of(stored) is __import__("posixpath").join
    with pytest.raises(PipelineError, match="cannot be imported"):
        function_of(runstore.Task(name="p", config={"callable": "posixpath:nope"}))
    with pytest.raises(PipelineError, match="has no function"):
        function_of(runstore.Task(name="p"))


def test_parameters_without_names_are_refused() -> None:
    for function in (lambda *rest: rest, lambda **rest: rest, lambda x, /: x):
        with pytest.raises(DagError, match="need names"):
            task(function, name="t")
    assert task(lambda *, only=1: only, name="t").params == ("only",)


def test_what_a_partial_binds_is_no_parameter() -> None:
    made = task(functools.partial(add, y=3))
    assert (made.name, made.params) == ("add", ("x",))
    assert function_of(made)(x=1) == 4
    assert task(functools.partial(functools.partial(add, 1), y=3)).params == ()
    assert "callable" not in made.config, "nothing can be imported by that name"


def test_a_sequence_chains_what_says_nothing_else() -> None:
    a, b, c = (runstore.Task(name=name) for name in "abc")
    side = runstore.Task(name="side", after=("a",))
    dag = sequence(a, b, side, c)
    assert {node.name: node.after for node in dag.nodes} == {
        "a": (), "b": ("a",), "side": ("a",), "c": ("side",),
    }  # fmt: skip


def _load(folder: Path, name: str, text: str, suffix: str = "") -> Any:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return load_pipeline(f"{file}{suffix}")


PYTHON = """
import runstore
parameters = {"x": 1}
secrets = ["token"]
def a(x): return x
one = runstore.sequence(runstore.task(a, returns="y"))
"""


def test_a_python_file(tmp_path: Path) -> None:
    pipeline = _load(tmp_path, "ours.py", PYTHON)
    assert pipeline.parameters == {"x": 1}
    assert pipeline.secrets == ("token",)
    assert pipeline.folder == str(tmp_path)
    assert [node.name for node in pipeline.dag.nodes] == ["a"]
    two = PYTHON + "two = runstore.Dag()\n"
    with pytest.raises(PipelineError, match=r"say which.*one, two"):
        _load(tmp_path, "several.py", two)
    assert _load(tmp_path, "several.py", two, ":two").dag.nodes == ()
    with pytest.raises(PipelineError, match="no pipeline 'three'"):
        _load(tmp_path, "several.py", two, ":three")
    with pytest.raises(PipelineError, match="has no pipeline"):
        _load(tmp_path, "none.py", "x = 1\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (\n", "line 1: SyntaxError"),
        ("\n\nimport nothing_of_this_name\n", "line 3: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit"),
    ],
)
def test_a_python_file_that_does_not_import(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        _load(tmp_path, "broken_pipeline.py", text)
    assert "broken_pipeline" not in sys.modules


@pytest.mark.parametrize("name", ["colorsys", "json", "yaml"])
def test_a_file_named_like_a_module_replaces_none(tmp_path: Path, name: str) -> None:
    before = sys.modules.pop("colorsys", None)
    _load(tmp_path, f"{name}.py", PYTHON)
    module = __import__(name)
    assert not str(module.__file__).startswith(str(tmp_path))
    if before is not None:
        sys.modules["colorsys"] = before


YAML = """
parameters: {greeting: hello}
steps:
  - name: greet
    command: echo "$greeting" > out.txt
    params: greeting
    save: out.txt
  - name: show
    command: cat out.txt
    load: out.txt
"""


def test_a_yaml_file(tmp_path: Path) -> None:
    pipeline = _load(tmp_path, "p.yaml", YAML)
    greet, show = pipeline.dag.nodes
    assert pipeline.parameters == {"greeting": "hello"}
    assert (greet.type, greet.params, greet.config["save"]) == ("shell", ("greeting",), "out.txt")
    assert show.after == ("greet",)


def test_yaml_words_for_true_and_false_are_names(tmp_path: Path) -> None:
    node = "{name: c, kind: conditional, on: go, branches: {yes: {steps: []}}}"
    text = f"parameters: {{go: 'yes'}}\nsteps:\n  - {node}\n"
    conditional = _load(tmp_path, "p.yaml", text).dag.nodes[0]
    assert (conditional.on, list(conditional.branches)) == ("go", ["yes"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: &x [*x]\n", "aliases"),
        ("steps: []\nsteps: []\n", "there twice"),
        ("steps:\n  - {name: a, command: x, 1: y}\n", "no text"),
        ("steps: [}\n", "line 1, is not YAML"),
        ("just text\n", "no pipeline"),
        ("stepz: []\n", "did you mean 'steps'"),
        ("steps: {a: 1}\n", "with a dash before it"),
        ("steps:\n  - {command: x}\n", "step 1 has no name"),
        ("steps:\n  - {name: a, comand: x}\n", "did you mean 'command' by 'comand'"),
        ("steps:\n  - {name: a, command: x, return: y}\n", "did you mean 'returns'"),
        ("steps:\n  - {name: a, kind: map, over: x, as: y, body: {}}\n", "its body has neither"),
        ("steps: []\nnodes: []\n", "either nodes or steps"),
        ("steps:\n  - {name: a, command: x, comand: y}\n", "'comand'"),
        ("secrets: {a: 1}\nsteps: []\n", "list of names"),
        ("parameters: [1]\nsteps: []\n", "names and values"),
        ("steps:\n  - {name: a, kind: thing}\n", "p.yaml: node 'a' is of unknown kind 'thing'"),
    ],
)
def test_yaml_mistakes(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises((PipelineError, DagError), match=told):
        _load(tmp_path, "p.yaml", text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"nodes": [], "nodes": []}', "nodes"),
        ('{"nodes": [NaN]}', "NaN"),
        ("{", r"p\.json cannot be used: not JSON"),
        ("[" * 100_000, r"p\.json cannot be used: .*nested too deeply"),
    ],
)
def test_json_mistakes(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        _load(tmp_path, "p.json", text)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cannot be read"):
        load_pipeline(str(tmp_path / "missing.yaml"))
    with pytest.raises(PipelineError, match=r"end in \.py"):
        _load(tmp_path, "p.toml", "")
