"""Parameters as variables of a command: its own value, or none, and a line that says so."""

from __future__ import annotations

import json
import os
import sys

import pytest

from runstore import Pipeline, Task, sequence, start
from runstore.executor.environment import ONE_BYTES, TOTAL_BYTES, environment_of

PROBE = """
import json, os
given = json.load(open(os.environ["RUNSTORE_PARAMS"]))
json.dump({"given": given, "seen": dict(os.environ)}, open(os.environ["RUNSTORE_RETURNS"], "w"))
print("the command's own")
"""


def probe(tmp_path, parameters, **config):
    tmp_path.mkdir(exist_ok=True)
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    node = Task(
        name="probe", type="shell", params=tuple(parameters), returns=("given", "seen"),
        config={"command": f"{sys.executable} {script}", **config},
    )  # fmt: skip
    result = start(sequence(node), parameters, store=tmp_path / "s", run_id="r", environment={})
    assert result.status == "succeeded", result.run.read_end("probe", 1).error
    assert result.values()["given"] == parameters, "the file has all of them, always"
    blob = result.run.read_end("probe", 1).log
    raw = (tmp_path / "s" / result.run.blobs.key(blob.sha256)).read_text()
    return result.values()["seen"], raw


def test_an_inherited_variable_never_stands_for_a_parameter(tmp_path, monkeypatch):
    given = {"long": "x" * 200_000, "nul": "a\0b", "odd-name": 1, "small": "its own"}
    for name in given:
        monkeypatch.setenv(name, "somebody else's")
    seen, log = probe(tmp_path, given, env={"long": "the step's"})
    assert {name: seen.get(name) for name in given} == {
        "long": None, "nul": None, "odd-name": None, "small": "its own",
    }  # fmt: skip
    line, own = log.splitlines()
    assert own == "the command's own"
    assert line == (
        "runstore: parameters that are not in the environment, read them from the JSON file "
        "$RUNSTORE_PARAMS: long (too large: 200,006 bytes, of 100,000), nul (it has a NUL in it), "
        '"odd-name" (not a name of a variable)'
    )


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "IFS", "LD_PRELOAD", "BASH_ENV", "RUNSTORE_RETURNS", "RUNSTORE_N", "PPID"],
)
def test_a_parameter_replaces_nothing_that_the_shell_needs(tmp_path, name):
    seen, log = probe(tmp_path, {name: "/taken"})
    assert seen.get(name) != "/taken"
    if name in ("PATH", "HOME"):
        assert seen[name] == os.environ[name]
    assert f"$RUNSTORE_PARAMS: {name} (a name the shell or runstore uses itself)\n" in log


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    seen, log = probe(tmp_path, {"a": "text", "path": "/lower", "b": [1]})
    assert (seen["a"], seen["path"], seen["b"]) == ("text", "/lower", "[1]")
    assert log == "the command's own\n"


def test_the_limits_are_of_bytes_and_of_all_together():
    fits = {"p": "é" * ((ONE_BYTES - 3) // 2)}
    assert environment_of(fits, {}) == (fits, "")
    over = {"p": "x" * (ONE_BYTES - 2)}
    assert environment_of(over, {"p": "old"})[0] == {}
    many = {f"p{n}": "x" * 90_000 for n in range(6)} | {"last": "small"}
    found, line = environment_of(many, {"p5": "old", "other": "stays"})
    assert set(found) == {"p0", "p1", "p2", "p3", "p4", "last", "other"}
    assert f"p5 (too large together: {TOTAL_BYTES:,} bytes in all)" in line
    assert json.dumps(line).count("\\n") == 1


def test_env_is_spelt_as_parameters_are(tmp_path):
    values = {
        "A": 1, "B": True, "C": None, "D": 1.0, "E": [1, "x"], "F": {"b": 1, "a": "ä"}, "G": "",
        "H": "yes", "I": 2**53 - 1, "J": 3.5, "K": False, "L": " x\n",
    }  # fmt: skip
    as_params, _ = probe(tmp_path / "params", values)
    as_env, _ = probe(tmp_path / "env", {}, env=values)
    expected = {
        "A": "1", "B": "true", "C": "null", "D": "1", "E": '[1,"x"]', "F": '{"a":"ä","b":1}',
        "G": "", "H": "yes", "I": "9007199254740991", "J": "3.5", "K": "false", "L": " x\n",
    }  # fmt: skip
    assert {name: as_params[name] for name in values} == expected
    assert {name: as_env[name] for name in values} == expected


def test_a_command_is_not_given_a_secret_for_the_way_in_which_the_run_was(tmp_path, monkeypatch):
    """It has those that its `params` name; those of other runs are the user's environment."""
    monkeypatch.setenv("RUNSTORE_SECRET_TOKEN", "hunter22")
    monkeypatch.setenv("RUNSTORE_SECRET_OTHER", "of another run")
    command = 'echo "${RUNSTORE_SECRET_TOKEN-none} ${RUNSTORE_SECRET_OTHER-none} ${token-none}"'
    without = Task(name="without", type="shell", config={"command": command})
    given = Task(name="given", type="shell", params=("token",), config={"command": command})
    result = start(
        Pipeline(sequence(without, given), secrets=["token"]), store=tmp_path,
        secrets={"token": "hunter22"}, environment={},
    )  # fmt: skip
    assert result.run.logs("without") == b"none of another run none\n"
    assert result.run.logs("given") == b"none of another run ***\n"
