"""Pipelines from plain functions and from files: what is taken, and what each mistake is told."""

from __future__ import annotations

import functools
import hashlib
import os
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


def test_a_proxy_among_the_globals_is_not_woken(tmp_path: Path) -> None:
    proxy = (
        "class Proxy:\n"
        "    @property\n"
        "    def __class__(self):\n"
        "        raise RuntimeError('asked outside of a request')\n"
        "request = Proxy()\n"
    )
    pipeline = _load(tmp_path, "lazy.py", PYTHON + proxy)
    assert [node.name for node in pipeline.dag.nodes] == ["a"]


def test_the_text_that_runs_is_the_one_whose_digest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Python compiled of an older text is not taken for it, though length and time agree."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "edited.py"
    for number in (1, 2):
        file.write_text(PYTHON.replace('"x": 1', f'"x": {number}'), encoding="utf-8")
        os.utime(file, (1e9, 1e9))
        pipeline = load_pipeline(str(file))
        assert pipeline.parameters == {"x": number}
        assert pipeline.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


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


@pytest.mark.parametrize(
    ("spelt", "value"),
    [("yes", "yes"), ("no", "no"), ("on", "on"), ("true", True), ("false", False), ("1", 1)],
)
def test_a_word_means_the_same_as_branch_and_as_value(
    tmp_path: Path, spelt: str, value: object
) -> None:
    branches = f"{{{spelt}: {{steps: [{{name: s, command: echo}}]}}, other: {{steps: []}}}}"
    node = f"{{name: c, kind: conditional, on: go, branches: {branches}, default: {spelt}}}"
    text = f"parameters: {{go: {spelt}}}\nsteps:\n  - {node}\n"
    pipeline = _load(tmp_path, "p.yaml", text)
    conditional = pipeline.dag.nodes[0]
    assert pipeline.parameters == {"go": value}
    assert type(pipeline.parameters["go"]) is type(value)
    assert (conditional.on, list(conditional.branches)) == ("go", [spelt, "other"])
    assert conditional.default == spelt
    result = runstore.start(pipeline, store=tmp_path / "s", run_id="r", environment={})
    assert result.run.read_end(f"c:{spelt}/s", 1).outcome == "succeeded"


@pytest.mark.parametrize("name", ["p.yaml", "p.json"])
def test_a_file_may_begin_with_a_mark_and_have_any_line_ends(tmp_path: Path, name: str) -> None:
    text = '{"parameters": {"x": "a\u00e9"},\r\n "steps": [{"name": "a", "command": "echo"}]}\r\n'
    file = tmp_path / name
    for mark in (b"", b"\xef\xbb\xbf"):
        file.write_bytes(mark + text.encode())
        pipeline = load_pipeline(str(file))
        assert (pipeline.parameters, pipeline.dag.nodes[0].config["command"]) == (
            {"x": "aé"},
            "echo",
        )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        file.write_bytes(text.encode(encoding))
        with pytest.raises(PipelineError, match=r"is UTF-(16|32).*: save it as UTF-8"):
            load_pipeline(str(file))
    file.write_bytes(b'{"steps":\n ["\xff"]}')
    with pytest.raises(PipelineError, match="line 2: byte 0xff is not UTF-8"):
        load_pipeline(str(file))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: []\nsteps: []\n", "line 2: 'steps' is there twice: in line 1 before"),
        ("steps:\n  - {name: a, command: x, 1: y}\n", "line 2: step 'a' has no '1'"),
        ("steps:\n  - {name: 1, command: x}\n", "line 2: step 1: its name is 1.*in quotes"),
        ("steps:\n- name: a\n  command: true\n", "line 3: step 'a': its command is true"),
        ("steps:\n- name: a\n  command:\n", "line 3: step 'a' has no command"),
        ("steps:\n- name: a\n  command: [echo]\n", "line 3: step 'a': its command must be one"),
        ("steps:\n- name: a\n  command: x\n  save: 1\n", "line 4: step 'a': save must be"),
        ("steps:\n- name: a\n  command: x\n  env: [1]\n", "line 4: step 'a': env must be"),
        ("steps:\n- name: a\n  command: x\n  env:\n    A=B: 1\n", "line 5: .* 'A=B' can be no"),
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
        (
            "steps:\n  - {name: a, kind: thing}\n",
            "p.yaml, line 2: node 'a' is of unknown kind 'thing'",
        ),
        (
            "nodes:\n- {name: b, command: x}\n- {name: a, command: x, after: c}\n",
            "p.yaml, line 3: node 'a' is after 'c', and there is no such node",
        ),
        ("nodes:\n- {name: a, command: x, after: [1]}\n", "p.yaml, line 2: node 'a'.*after.0"),
        (
            "steps:\n- {name: a, command: x}\n- {name: a, command: x}\n",
            r"p.yaml: two nodes of one graph are named 'a'",
        ),
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
