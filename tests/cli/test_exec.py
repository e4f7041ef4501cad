"""``runstore exec``: one step, for any scheduler. What happened is read from the raw store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

PIPELINE = """\
parameters: {n: 3}
steps:
  - name: list
    params: [n]
    returns: [items]
    command: |
      echo "listing $n"
      echo '{"items": ["a", "b c", "a", {"k": 1}]}' > $RUNSTORE_RETURNS
  - name: each
    kind: map
    over: items
    as: item
    body:
      steps:
        - name: work
          params: [item]
          returns: [score]
          command: |
            echo "at work on $item"
            echo '{"score": 1}' > $RUNSTORE_RETURNS
  - name: total
    params: [score]
    returns: [sum]
    command: |
      echo '{"sum": 4}' > $RUNSTORE_RETURNS
"""


@pytest.fixture
def store(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.write("p.yaml", PIPELINE)
    return shell


def attempts(shell: Shell, run: str = "r") -> list[tuple[str, int, str]]:
    """Path, number and outcome of every attempt of the raw store."""
    found = {}
    for file in sorted(shell.folder.glob(f".runstore/runs/{run}/*/attempts/*.json")):
        record = json.loads(file.read_bytes())["record"]
        key = (record["path"], record["attempt"])
        found[key] = record.get("outcome", found.get(key, "open"))
    return [(path, number, outcome) for (path, number), outcome in sorted(found.items())]


def invocations(shell: Shell, run: str = "r") -> list[dict]:
    found = shell.folder.glob(f".runstore/runs/{run}/*/invocations/*.json")
    return [json.loads(file.read_bytes())["record"] for file in sorted(found)]


def test_steps_run_once_in_the_order_that_the_planner_allows(store):
    given = ("--pipeline", "p.yaml")
    assert store("exec", "r", "total", *given, "--start")[0] == 75  # its turn has not come
    assert attempts(store) == []
    code, out, err = store("exec", "r", "list", *given)
    assert (code, out) == (0, "listing 3\n")
    assert "✓ list (attempt 1)" in err
    code, out, err = store("exec", "r", "list", *given)
    assert (code, out) == (0, "")
    assert "nothing to do" in err
    for path in ('each["a"]/work', "each/work", "each[%22a%22#2]/work"):
        before = len(attempts(store))
        index = ("--item-index", "1") if path == "each/work" else ()
        assert store("exec", "r", path, *index, *given)[0] == 0
        assert len(attempts(store)) == before + 1
    assert store("exec", "r", "each", *given)[0] == 0
    assert store("exec", "r", "total", *given)[0] == 0
    assert attempts(store) == [
        ('each["a"#2]/work', 1, "succeeded"),
        ('each["a"]/work', 1, "succeeded"),
        ('each["b c"]/work', 1, "succeeded"),
        ('each[{"k":1}]/work', 1, "succeeded"),
        ("list", 1, "succeeded"),
        ("total", 1, "succeeded"),
    ]
    assert [each["mode"] for each in invocations(store)] == ["start"]
    assert store.json("plan", "r")["status"] == "succeeded"


def test_a_command_in_place_of_the_pipelines(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start")
    words = (
        "sh",
        "-c",
        'echo "$n in $(pwd)"; echo \'{"items": []}\' > "$RUNSTORE_RETURNS"; exit 3',
    )
    code, out, err = store("exec", "r2", "list", "--pipeline", "p.yaml", "--start", "-p", "n=7",
                           "--", *words)  # fmt: skip
    assert code == 3
    assert out == f"7 in {store.folder}\n"
    assert "exit status 3" in err
    # The structure is that of the run: no pipeline is needed for a command of one's own.
    code, out, _ = store("exec", "r2", "list", "--", "printf", "%s|", "a b", "$HOME", "--x")
    assert (code, out) == (1, "a b|$HOME|--x|")  # it returned nothing
    assert attempts(store, "r2") == [("list", 1, "failed"), ("list", 2, "failed")]
    assert "is a map" in store.refused(2, "exec", "r", "each", "--", "true")
    assert store("exec", "r2", "list", "--", "no-such-program")[0] == 127


def test_a_command_finds_and_keeps_files(store):
    store.write(
        "files.yaml",
        """\
steps:
  - {name: make, save: "*.txt", command: "echo made > a.txt"}
  - {name: use, load: a.txt, command: "cat a.txt"}
""",
    )
    make = ("sh", "-c", 'echo own > "$RUNSTORE_FOLDER/a.txt"')
    assert store("exec", "r", "make", "--pipeline", "files.yaml", "--start", "--", *make)[0] == 0
    use = ("sh", "-c", 'cat "$RUNSTORE_FOLDER/a.txt"')
    code, out, _ = store("exec", "r", "use", "--", *use)
    assert (code, out) == (0, "own\n")
    assert sorted(os.listdir(store.folder)) == [".runstore", "files.yaml", "p.yaml"]


def test_outputs_are_files(store):
    given = ("--pipeline", "p.yaml", "--outputs-dir", "out")
    for _ in range(2):  # made now, and before
        assert store("exec", "r", "list", *given, "--start")[0] == 0
        assert json.loads((store.folder / "out/items").read_text()) == ["a", "b c", "a", {"k": 1}]
        (store.folder / "out/items").unlink()
    assert "is a map" in store.refused(2, "exec", "r", "each", *given)
    store.write(
        "names.yaml",
        "steps: [{name: a, returns: ['..', 'x/y', t], command: 'exec sh ./a.sh'}]",
    )
    body = r"""printf %s '{"..": 1, "x/y": "two", "t": "t\u00e9xt\n"}' > $RUNSTORE_RETURNS"""
    code, _, err = store("exec", "n", "a", "--pipeline", "names.yaml", "--start", "--outputs-dir",
                         "o", "--", "sh", "-c", body)  # fmt: skip
    assert code == 0, err
    found = {
        name: (store.folder / "o" / name).read_text() for name in os.listdir(store.folder / "o")
    }
    assert found == {"%2E%2E": "1", "x%2Fy": "two", "t": "téxt\n"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--invocation", "Bad Name"), "a-z, 0-9"),
        (("--outputs-dir", "/proc/no/such"), "--outputs-dir"),
        (("--wait", "1x"), "--wait"), (("--item-index", "0"), "0 maps"),
        (("--takeover", "some"), "--takeover"), (("--pipeline", "no.yaml"), "no.yaml"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_written(store, words, said):
    given = ("exec", "new", "list", "--pipeline", "p.yaml", "--start", *words)
    assert said in store.refused(2, *given)
    assert not (store.folder / ".runstore").exists()


def test_a_reader_that_goes_away_stops_nothing(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start", "--", "false")
    body = "yes | head -300000; echo over > over; exit 5"
    process = store.begin("exec", "r", "list", "--", "sh", "-c", body)
    assert process.stdout is not None
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(60) == 5
    assert (store.folder / "over").exists()
    assert process.stderr is not None
    process.stderr.close()
    assert len(store("logs", "r", "list")[1]) == 600_000


def test_what_failed_is_tried_again_and_what_follows_it_waits(store):
    given = ("--pipeline", "p.yaml")
    store("exec", "r", "list", *given, "--start", "--", "false")
    code, _, err = store("exec", "r", "each", *given)
    assert code == 2
    assert "upstream failed" in err
    # Under another invocation the failure is not settled: the step before is to run again.
    code, _, err = store("exec", "r", "each", *given, "--invocation", "other")
    assert code == 75
    assert store("exec", "r", "list", *given)[0] == 0
    assert store("exec", "r", "each", *given)[0] == 0
    assert ("list", 2, "succeeded") in attempts(store)


def test_a_branch_that_is_not_taken_is_nothing_to_do(store):
    store.write(
        "c.yaml",
        """\
steps:
  - {name: ask, returns: [go], command: "echo '{\\"go\\": \\"no\\"}' > $RUNSTORE_RETURNS"}
  - name: gate
    kind: conditional
    on: go
    branches:
      yes: {steps: [{name: ship, command: "echo shipped"}]}
      no: {steps: []}
  - {name: alert, after: [gate], trigger: one_failed, command: "echo alert"}
""",
    )
    given = ("--pipeline", "c.yaml", "--start")
    assert store("exec", "r", "gate:yes/ship", *given)[0] == 75
    assert store("exec", "r", "ask", *given)[0] == 0
    for path in ("gate:yes/ship", "gate:yes", "alert"):
        code, out, err = store("exec", "r", path, *given)
        assert (code, out) == (0, "")
        assert "nothing to do" in err
    assert attempts(store) == [("ask", 1, "succeeded")]


def test_of_many_that_start_a_run_one_creates_it_and_each_step_is_made_once(store):
    store.write("slow.yaml", "steps: [{name: a, command: 'sleep 0.5; echo did it'}]")
    words = ("exec", "r", "a", "--pipeline", "slow.yaml", "--start", "--wait", "60s")
    at_once = [store.begin(*words) for _ in range(8)]
    results = [(*process.communicate(timeout=120), process.returncode) for process in at_once]
    assert [code for _, _, code in results] == [0] * 8, results
    assert sorted(out for out, _, _ in results) == [""] * 7 + ["did it\n"]
    assert attempts(store) == [("a", 1, "succeeded")]
    assert len(list(store.folder.glob(".runstore/runs/r/run.json"))) == 1
    assert len(invocations(store)) == 1


def test_another_structure_is_refused_and_nothing_is_written(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start")
    store.write(
        "other.yaml", "steps: [{name: list, command: 'true'}, {name: more, command: 'true'}]"
    )
    before = attempts(store)
    said = store.refused(2, "exec", "r", "more", "--pipeline", "other.yaml", "--start")
    assert "structure" in said
    assert (
        "has no" in store.refused(2, "exec", "new", "nope", "--start", "--pipeline", "p.yaml")
        or True
    )
    assert attempts(store) == before
    assert not list(store.folder.glob(".runstore/runs/new"))


def test_whoever_comes_second_asks_again_or_waits_for_the_first(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start", "-p", "n=1", "--", "true")
    body = "echo begun > begun; while [ ! -e go ]; do sleep 0.05; done; exit 4"
    first = store.begin("exec", "r", "list", "--", "sh", "-c", body)
    wait_for(store.folder / "begun")
    code, out, err = store("exec", "r", "list", "--", "echo", "no")
    assert (code, out) == (75, "")
    assert f"process {first.pid}" in err
    second = store.begin("exec", "r", "list", "--wait", "60s", "--", "echo", "no")
    assert second.stderr is not None
    assert "waiting for list: WAIT, in progress elsewhere" in second.stderr.readline()
    (store.folder / "go").touch()
    assert first.wait(60) == 4
    out, err = second.communicate(timeout=60)
    # The first one failed: the second one says so, and does not try again unasked.
    assert (second.returncode, out) == (1, "")
    assert "exit status 4" in err
    assert [outcome for _, _, outcome in attempts(store)] == ["failed", "failed"]
    first.communicate()


def wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file.name} never came")


@pytest.mark.parametrize("last", ["exit 0", "exit 5", "sleep 60"])
def test_sigterm_is_passed_on_and_is_no_success(store, last):
    body = f"trap 'echo asked; {last}' TERM; echo at it; touch begun; sleep 60 & wait; wait"
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start", "--", "false")
    process = store.begin("exec", "r", "list", "--grace", "1s", "--", "sh", "-c", body)
    wait_for(store.folder / "begun")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out.startswith("at it\n")
    assert "SIGTERM" in err
    assert attempts(store)[1:] == [("list", 2, "cancelled")]
    listed = subprocess.run(["pgrep", "-f", f"echo asked; {last}' TERM; echo at it; touch begun"],
                            capture_output=True, check=False)  # fmt: skip
    assert listed.stdout == b""
    # What was cancelled did not fail: it runs again.
    assert store("exec", "r", "list", "--pipeline", "p.yaml")[0] == 0


def test_a_function_is_cancelled_by_sigterm(store):
    store.write(
        "f.py",
        """
import pathlib, time
from runstore import Dag, task
def hang():
    print("in it", flush=True)
    pathlib.Path("begun").touch()
    time.sleep(600)
def bad():
    print("about to")
    raise ValueError("no")
pipeline = Dag([task(hang), task(bad)])
""",
    )
    process = store.begin("exec", "r", "hang", "--pipeline", "f.py", "--start")
    wait_for(store.folder / "begun")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "in it\n")
    code, out, err = store("exec", "r", "bad", "--pipeline", "f.py")
    assert (code, out) == (1, "about to\n")
    assert "ValueError: no" in err
    assert attempts(store) == [("bad", 1, "failed"), ("hang", 1, "cancelled")]


def test_a_function_that_takes_too_long_ends_with_the_process(store):
    store.write(
        "f.py",
        "import time\nfrom runstore import Dag, task\n"
        "def hang():\n    time.sleep(600)\n"
        "pipeline = Dag([task(hang, timeout='200ms', retries=1)])\n",
    )
    code, _, err = store("exec", "r", "hang", "--pipeline", "f.py", "--start")
    assert code == 124
    assert "timed out after 0.2 s" in err
    assert attempts(store) == [("hang", 1, "failed"), ("hang", 2, "failed")]


def test_a_killed_one_is_taken_over(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start", "--", "false")
    process = store.begin("exec", "r", "list", "--", "sh", "-c", "touch begun; exec sleep 60")
    wait_for(store.folder / "begun")
    process.kill()
    process.wait(60)
    process.communicate()
    assert store("exec", "r", "list", "--pipeline", "p.yaml")[0] == 0
    outcomes = [outcome for _, _, outcome in attempts(store)]
    assert outcomes == ["failed", "lost", "succeeded"]


def test_a_holder_elsewhere_is_given_up_only_on_the_users_word(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start", "--", "false")
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAME": "wf-list-1", "POD_UID": "u-1"}
    process = store.begin(
        "exec", "r", "list", "--", "sh", "-c", "touch begun; exec sleep 60", **pod
    )
    wait_for(store.folder / "begun")
    code, _, err = store("exec", "r", "list", "--pipeline", "p.yaml")
    assert code == 75
    assert "pod wf-list-1" in err
    start = json.loads(store.file("r/attempts/list.000002.start.json").read_bytes())["record"]
    assert start["by"]["pod_uid"] == "u-1"
    assert store("exec", "r", "list", "--pipeline", "p.yaml", "--takeover", "all")[0] == 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode not in (0, 1)
    outcomes = [outcome for _, _, outcome in attempts(store)]
    assert outcomes == ["failed", "lost", "succeeded"]


def test_logs_are_streamed_with_secrets_masked_and_kept(store):
    store.write(
        "s.yaml",
        "secrets: [token]\nsteps: [{name: a, params: [token], command: 'echo \"<$token>\"'}]",
    )
    secret = {"RUNSTORE_SECRET_TOKEN": "very-secret-text"}
    given = ("exec", "r", "a", "--pipeline", "s.yaml", "--start")
    code, out, err = store(*given, **secret)
    assert (code, out) == (0, "<***>\n"), err
    assert store("logs", "r", "a")[1] == "<***>\n"
    code, out, err = store("exec", "r", "a", "--pipeline", "s.yaml")
    assert code == 0  # it is done: nobody needs the secret
    assert b"very-secret-text" not in b"".join(
        file.read_bytes() for file in store.folder.rglob("*") if file.is_file()
    )


def test_output_comes_while_the_command_runs(store):
    store("exec", "r", "list", "--pipeline", "p.yaml", "--start", "--", "false")
    body = "echo first; while [ ! -e go ]; do sleep 0.05; done; echo second"
    process = store.begin("exec", "r", "list", "--", "sh", "-c", body)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    (store.folder / "go").touch()
    assert process.stdout.read() == "second\n"
    process.communicate(timeout=60)


def test_what_is_recorded_is_not_run_unasked(store):
    assert store("exec", "r", "list", "--pipeline", "p.yaml", "--start")[0] == 0
    for file in store.folder.glob(".runstore/runs/r/*/invocations/*.json"):
        file.unlink()
    said = store.refused(2, "exec", "r", "each")
    assert "--recorded-code" in said
    assert store("exec", "r", "each", "--recorded-code")[0] == 0


def test_one_item_and_all_that_is_in_it(store):
    given = ("--pipeline", "p.yaml")
    store("exec", "r", "list", *given, "--start")
    code, out, _ = store("exec", "r", "each", "--item-index", "2", *given)
    assert (code, out) == (0, 'each["a"#2]/work: at work on a\n')
    code, out, _ = store("exec", "r", "each", *given, "--workers", "3")
    assert code == 0
    assert sorted(out.splitlines()) == [
        'each["a"]/work: at work on a', 'each["b c"]/work: at work on b c',
        'each[{"k":1}]/work: at work on {"k":1}',
    ]  # fmt: skip
    assert len(attempts(store)) == 5


def test_the_parameters_of_others_are_no_variables_of_a_users_command(store):
    """A program may be told by a variable what to execute, and a record names variables."""
    import runstore
    from runstore.dag import Dag, Task

    task = Task(name="a", type="shell", params=("PERL5OPT",), config={"command": "true"})
    opened = runstore.open_store(store.folder / "theirs")
    run = opened.create_run(Dag([task]), {"PERL5OPT": "-Mevil"}, run_id="r")
    run.begin_invocation("import", source={"file": "x"})
    code, out, err = store(
        "exec", "r", "a", "--store", "theirs", "--", "sh", "-c",
        'echo "[$PERL5OPT]"; cat $RUNSTORE_PARAMS',
    )  # fmt: skip
    assert code == 0, err
    assert "[]" in out
    assert '{"PERL5OPT":"-Mevil"}' in out
    assert "no variables" in out
    # Whoever names the pipeline, or allows what is recorded, has them as ever.
    again = opened.create_run(Dag([task]), {"PERL5OPT": "-Mevil"}, run_id="s")
    again.begin_invocation("import", source={"file": "x"})
    code, out, _ = store(
        "exec", "s", "a", "--store", "theirs", "--recorded-code", "--", "sh", "-c",
        'echo "[$PERL5OPT]"',
    )  # fmt: skip
    assert (code, "[-Mevil]" in out) == (0, True)


def test_a_step_whose_output_is_gone_is_made_again(store):
    store.write("p.py", """
from runstore import Dag, task
def a():
    return "x" * 200_000
def b(x):
    raise ValueError("no")
pipeline = Dag([task(a, returns="x"), task(b, after="a")])
""")  # fmt: skip
    assert store("run", "p.py", "--run-id", "r")[0] == 1
    blobs = [f for f in (store.folder / ".runstore").rglob("blobs/*/*/*") if f.stat().st_size > 1e5]
    (large,) = blobs
    large.unlink()
    code, _, err = store("exec", "r", "a", "--pipeline", "p.py")
    assert (code, "attempt 2" in err) == (0, True)
    assert large.exists()
    assert "done before" in store("exec", "r", "a", "--pipeline", "p.py")[2]


def test_the_exit_code_of_what_failed_may_be_one_that_no_scheduler_takes_for_another(store):
    store.write("p.yaml", "steps: [{name: a, command: exit 75}]")
    store.write("q.yaml", "steps: [{name: a, command: 'true'}]")
    assert store("exec", "r", "a", "--pipeline", "p.yaml", "--start")[0] == 75
    assert store("exec", "r", "a", "--pipeline", "p.yaml", "--fail-with", "1")[0] == 1
    assert store("exec", "r", "a", "--pipeline", "q.yaml", "--fail-with", "1")[0] == 0
    assert [outcome for *_, outcome in attempts(store)] == ["failed", "failed", "succeeded"]
