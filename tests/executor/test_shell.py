"""Shell tasks: environment, files, exit status, artifacts, output."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from runstore import Dag, Map, Pipeline, Task, sequence, start


def sh(name, command, **fields):
    config = {"command": command}
    config |= {key: fields.pop(key) for key in ("save", "load", "env") if key in fields}
    return Task(name=name, type="shell", config=config, **fields)


def run(pipeline, parameters=None, **options):
    options.setdefault("store", "memory://shell-tasks")
    return start(pipeline, parameters, environment={}, **options)


PARAMETERS = {
    "text": "two words $HOME `x`",
    "number": 3,
    "big": 10**30,
    "flag": True,
    "nothing": None,
    "listed": [1, "a"],
    "odd name": "in the file only",
    "long": "x" * 200_000,
    "nul": "a\0b",
}

PROBE = """
import json, os
given = json.load(open(os.environ["RUNSTORE_PARAMS"]))
seen = {k: os.environ.get(k) for k in given}
about = {k: v for k, v in os.environ.items() if k.startswith("RUNSTORE_")}
json.dump({"given": given, "seen": seen, "about": about, "cwd": os.listdir("."),
           "extra": os.environ.get("EXTRA")}, open(os.environ["RUNSTORE_RETURNS"], "w"))
"""


def test_parameters_come_as_environment_and_file(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    node = sh(
        "probe",
        f"{sys.executable} {probe}",
        params=tuple(PARAMETERS),
        returns=("given", "seen", "about", "cwd", "extra"),
        env={"EXTRA": 5},
    )
    values = run(sequence(node), PARAMETERS, run_id="env").values()
    assert values["given"] == PARAMETERS
    assert values["seen"] == {
        "text": PARAMETERS["text"], "number": "3", "big": str(10**30), "flag": "true",
        "nothing": "null", "listed": '[1,"a"]', "odd name": None, "long": None, "nul": None,
    }  # fmt: skip
    about = values["about"]
    assert (about["RUNSTORE_RUN_ID"], about["RUNSTORE_PATH"]) == ("env", "probe")
    assert about["RUNSTORE_ATTEMPT"] == "1"
    assert about["RUNSTORE_PIPELINE_DIR"] == os.getcwd()
    assert values["cwd"] == []
    assert values["extra"] == "5"
    assert not os.path.exists(about["RUNSTORE_PARAMS"])


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo last words; exit 3", "exit status 3: last words"),
        ("false\necho not reached", "exit status 1"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("kill -s TERM $$", "killed by SIGTERM"),
        ("kill -40 $$", "^killed by signal 40$"),  # of those for programs, which have no name
        ("no-such-command-here", "exit status 127: .*no-such-command-here"),
        ("true", r"is to return x, and wrote no JSON object"),
        ('echo 3 > "$RUNSTORE_RETURNS"', "wrote no JSON object"),
        ('echo "{" > "$RUNSTORE_RETURNS"', "not JSON"),
        ('echo \'{"x": NaN}\' > "$RUNSTORE_RETURNS"', "not JSON"),
        ('echo "{}" > "$RUNSTORE_RETURNS"', "is to return 'x'"),
        ('echo "{\\"x\\":1,\\"y\\":2}" > "$RUNSTORE_RETURNS"', "returned 'y'"),
        ("printf '\\377\\376'; exit 1", "exit status 1"),
    ],
)
def test_how_a_command_fails(command, said):
    result = run(Dag([sh("c", command, returns=("x",)), sh("other", "true")]))
    assert result.status == "failed"
    end = result.run.read_end("c", 1)
    assert end.outcome == "failed"
    assert re.search(said, end.error["message"]), end.error["message"]
    assert result.run.read_end("other", 1).outcome == "succeeded"


@pytest.mark.parametrize("shown", range(1988, 2002))
def test_no_part_of_a_secret_stands_where_the_last_line_is_cut(shown):
    """What is shown of a line of 5000 begins inside of the secret, or beside it."""
    secret = 'ABC"DEFGHIJK\nM'
    line = f"{'.' * 3000}$key{'.' * shown}"
    pipeline = Pipeline(
        sequence(sh("c", f'echo first; printf %s "{line}"; exit 1', params=("key",))),
        secrets=["key"],
    )
    result = run(pipeline, secrets={"key": secret})
    message = result.run.read_end("c", 1).error["message"]
    assert re.fullmatch(r"exit status 1: \.*(\*\*\*)?\.+", message)
    assert message.endswith("." * shown if shown <= 2000 else "." * 2000)


def test_output_is_kept_whole_and_binary():
    result = run(sequence(sh("c", "echo out; echo err >&2; printf '\\377'; seq 100000")))
    log = result.run.logs("c")
    assert log.startswith(b"out\nerr\n\xff1\n2\n")
    assert log.endswith(b"100000\n")
    result = run(sequence(sh("quiet", "true")))
    assert result.run.logs("quiet") == b""


def test_returns_are_kept_exactly(tmp_path):
    value = {"x": [10**30, 1.0, "é"], "y": None}
    (tmp_path / "value.json").write_text(json.dumps(value))
    node = sh("c", f'cp {tmp_path}/value.json "$RUNSTORE_RETURNS"', returns=("x", "y"))
    result = run(sequence(node))
    assert repr(dict(result.values())) == repr(value)


def test_files_go_from_step_to_step(tmp_path):
    pipeline = Dag(
        [
            Map(
                name="m",
                over="items",
                as_="item",
                body=sequence(
                    sh("w", 'mkdir data; echo "$item" > data/out.txt', params=("item",), save="**")
                ),
            ),
            sh(
                "all",
                'cat */data/out.txt | sort > all.txt; echo "[\\"$(cat all.txt | tr "\\n" ,)\\"]" '
                '| sed "s/^/{\\"x\\":/; s/$/}/" > "$RUNSTORE_RETURNS"',
                after=("m",),
                load=["m[*]/data/*.txt"],
                save=["all.txt"],
                returns=("x",),
            ),
            sh("last", "test -s all.txt", after=("all",), load="*.txt"),
        ]
    )
    result = run(pipeline, {"items": ["b", "a"]}, store=tmp_path, workers=4)
    assert result.status == "succeeded", [
        end.error
        for path in result.run.history().paths()
        for end in result.run.history().ends(path)
    ]
    assert result.values()["x"] == ["a,b,"]


def test_a_pattern_that_matches_nothing_fails_the_step():
    result = run(Dag([sh("s", "true", save="*.csv"), sh("l", "true", load="nothing.csv")]))
    assert "saves '*.csv'" in result.run.read_end("s", 1).error["message"]
    assert "loads 'nothing.csv'" in result.run.read_end("l", 1).error["message"]


def test_in_worker_processes_too(tmp_path):
    node = sh("c", 'echo hi; echo "{\\"x\\":$n}" > "$RUNSTORE_RETURNS"', params=("n",),
              returns=("x",))  # fmt: skip
    result = run(sequence(node), {"n": 4}, store=tmp_path, processes=True, workers=1)
    assert (result.status, result.values()["x"], result.run.logs("c")) == ("succeeded", 4, b"hi\n")


def test_parameters_beyond_what_a_process_takes_are_in_the_file(tmp_path):
    """The kernel counts bytes, and all of them together."""
    given = {f"p{n}": "é" * 45_000 for n in range(30)} | {"wide": "é" * 80_000, "small": "s"}
    node = sh(
        "many",
        "python3 -c \"import json, os; p = json.load(open(os.environ['RUNSTORE_PARAMS'])); "
        "n = [k for k in p if os.environ.get(k) == p[k]]; "
        "json.dump({'all': len(p), 'seen': n}, open(os.environ['RUNSTORE_RETURNS'], 'w'))\"",
        params=tuple(given),
        returns=("all", "seen"),
    )
    values = run(sequence(node), given).values()
    assert values["all"] == len(given)
    assert {"p0", "small"} <= set(values["seen"]) < set(given)
    assert "wide" not in values["seen"]


def test_the_file_of_parameters_is_nobody_elses(tmp_path):
    node = sh(
        "modes",
        'stat -c %a "$RUNSTORE_PARAMS" "$(dirname "$RUNSTORE_PARAMS")" | paste -sd, > modes; '
        'printf \'{"modes": "%s"}\' "$(cat modes)" > "$RUNSTORE_RETURNS"',
        returns=("modes",),
    )
    old = os.umask(0)
    try:
        assert run(sequence(node)).values()["modes"] == "600,700"
    finally:
        os.umask(old)
