"""run, retry and fork."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell


def test_a_run_says_what_it_does_and_what_came_of_it(shell: Shell) -> None:
    code, out, err = shell("run", "p.py", "--run-id", "r", "--label", "a=b")
    assert code == 0
    lines = err.splitlines()
    assert lines[0] == "run r"
    assert sorted(line.split(" (")[0] for line in lines[1:]) == [
        "✓ make", "✓ mp[0]/work", "✓ mp[1]/work", "✓ mp[2]/work", "✓ total"
    ]  # fmt: skip
    assert out.splitlines()[0] == "run r succeeded: 5 steps ran, 0 skipped"
    assert "  total = 6" in out
    assert "at work on" not in out + err


def test_a_failed_run_says_how_to_go_on(shell: Shell) -> None:
    code, out, err = shell("run", "p.py", "--run-id", "r x", BREAK="1")
    assert (code, out) == (1, "")
    assert "✗ mp[1]/work: ValueError: item 1 is bad\n" in err
    assert "error: run r x failed: 1 step failed, 4 steps ran, 0 skipped" in err
    assert "runstore logs 'r x' 'mp[1]/work'" in err
    assert "runstore retry 'r x' p.py" in err

    code, out, err = shell("logs", "r x", "mp[1]/work")
    assert (code, out) == (0, "at work on 1\n")
    assert "ValueError: item 1 is bad\nand more of it" in err

    code, out, err = shell("retry", "r x")
    assert code == 0
    assert "p.py (of the latest invocation)" in err
    assert "✓ mp[1]/work (attempt 2, " in err
    assert "2 steps ran, 3 skipped" in out
    code, out, _ = shell("logs", "r x", "mp[1]/work", "--attempt", "1")
    assert (code, out) == (0, "at work on 1\n")


def test_parameters(shell: Shell) -> None:
    shell.write("f.yaml", "n: 1\nother: [1, 2]\n")
    code, out, _ = shell("run", "p.py", "--run-id", "r", "--params-file", "f.yaml", "-p", "n=2")
    assert code == 0
    assert "total = 2" in out
    shown = shell.json("show", "r")
    assert shown["parameters"] == {"n": 2, "other": [1, 2]}
    code, _, err = shell("retry", "r", "--force", "make", "-p", "n=7")
    assert code == 0
    assert "'n' is ignored" in err
    code, _, err = shell("retry", "r", "--force", "make")
    assert "warning: parameter 'n' of the pipeline, which is another here, is ignored" in err


def test_a_parameter_that_is_no_json_is_text(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "r", "-p", "t=a b", "-p", "[x=[", "-p", 'q="1"', "-p", "e=")
    assert shell.json("show", "r")["parameters"] == {
        "n": 3,
        "t": "a b",
        "[x": "[",
        "q": "1",
        "e": "",
    }


def test_only_and_until_stop_with_0(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "r", BREAK="1")
    code, out, _ = shell("retry", "r", "--only", "mp", "--workers", "1")
    assert code == 0
    assert "run r stopped where --only or --until said: 1 step ran" in out
    code, out, _ = shell("retry", "r", "--force", "mp*", "--until", "mp")
    assert code == 0
    assert "3 steps ran" in out


def test_what_was_chosen_and_failed_is_a_failure(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "r", BREAK="1")
    assert shell("retry", "r", "--only", "mp", BREAK="1")[0] == 1


def test_a_fork_replaces_parameters(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "r")
    code, out, _ = shell("fork", "r", "--run-id", "f", "-p", "n=4", "--label", "x=y")
    assert code == 0
    assert "run f succeeded: 3 steps ran, 3 skipped" in out
    assert shell.json("show", "f")["origin"]["run_id"] == "r"


def test_a_changed_structure_is_refused_unless_told_otherwise(shell: Shell) -> None:
    shell("run", "p.py", "--run-id", "r", BREAK="1")
    text = (
        (shell.folder / "p.py")
        .read_text()
        .replace('task(total, after="mp"', 'task(total, name="sum", after="mp"')
    )
    shell.write("q.py", text)
    assert "sum: added; total: removed" in shell.refused(2, "retry", "r", "q.py")
    code, out, _ = shell("diff", "r", "q.py")
    assert (code, out) == (1, "sum: added\ntotal: removed\n")
    assert shell("diff", "r", "p.py")[:2] == (0, "")
    code, _, err = shell("plan", "r", "q.py")
    assert code == 0
    assert "warning: the structure" in err
    assert shell("retry", "r", "q.py", "--keep-unchanged")[0] == 0
    assert {step["path"] for step in shell.json("plan", "r")["steps"]} >= {"sum"}


@pytest.mark.parametrize("name", ["RUNSTORE_RETRY_RUN_ID", "RUNNABLE_RETRY_RUN_ID"])
def test_the_environment_makes_a_run_a_retry(shell: Shell, name: str) -> None:
    shell("run", "p.py", "--run-id", "r", BREAK="1")
    code, out, err = shell("run", "p.py", **{name: "r"})
    assert code == 0
    assert f"{name} is set: this is a retry of run r" in err
    assert "2 steps ran, 3 skipped" in out
    assert "--run-id" in shell.refused(2, "run", "p.py", "--run-id", "other", **{name: "r"})


SECRET = """
from runstore import Dag, task
secrets = ["token"]
def use(token):
    return len(token)
pipeline = Dag([task(use, returns="length")])
"""


def test_a_secret_is_stored_nowhere(shell: Shell) -> None:
    shell.write("s.py", SECRET)
    assert "RUNSTORE_SECRET_TOKEN" in shell.refused(2, "run", "s.py")
    assert "RUNSTORE_SECRET_TOKEN" in shell.refused(2, "run", "s.py", "--secret", "token")
    assert "--secret token" in shell.refused(2, "run", "s.py", "-p", "token=hunter2")
    assert not (shell.folder / ".runstore").exists()
    assert shell("run", "s.py", "--run-id", "a", "--secret", "token=hunter2")[0] == 0
    assert shell("run", "s.py", "--run-id", "b", "--secret=token=hunter2")[0] == 0
    assert shell("run", "s.py", "--run-id", "c", RUNSTORE_SECRET_TOKEN="hunter2")[0] == 0
    assert "--secret token" in shell.refused(2, "fork", "a", "-p", "token=hunter2")
    for file in (shell.folder / ".runstore").rglob("*.json"):
        assert "hunter2" not in file.read_text(), file
    shown = shell.json("show", "a")
    assert shown["parameters"] == {"token": "***"}
    assert shown["invocations"][0]["command"][-2:] == ["--secret", "token=***"]
    code, out, _ = shell("retry", "a", "--force", "use", RUNSTORE_SECRET_TOKEN="hunter2")
    assert code == 0
    assert "length = 7" in out


def test_a_retry_without_its_secret_says_so(shell: Shell) -> None:
    shell.write("s.py", SECRET.replace("return len(token)", "1 / 0"))
    shell("run", "s.py", "--run-id", "a", "--secret", "token=hunter2")
    assert "RUNSTORE_SECRET_TOKEN" in shell("retry", "a")[2]
    assert shell("retry", "a")[0] == 2


def test_processes(shell: Shell) -> None:
    for breaks, code in (("", 0), ("1", 1)):
        more = {"BREAK": breaks} if breaks else {}
        came, out, err = shell.interpreter("run", "p.py", "--processes", "--workers", "2", **more)
        assert came == code, err
        assert ("total = 6" in out) == (not breaks)
        marks = ("run ", "✓ ", "✗ ", "  ✗ ", "    runstore ", "error: run ")
        assert all(line.startswith(marks) for line in err.splitlines()), err


def test_a_pipeline_file_that_is_gone_leaves_the_runs_own(shell: Shell) -> None:
    shell.write("tasks_of_mine.py", PIPELINE_MODULE)
    shell.write("p.json", DOCUMENT)
    assert shell("run", "p.json", "--run-id", "r", PYTHONPATH=str(shell.folder))[0] == 0
    (shell.folder / "p.json").unlink()
    code, out, _ = shell("retry", "r", "--force", "one")
    assert code == 0
    assert "x = 1" in out


PIPELINE_MODULE = "def one():\n    return 1\n"
DOCUMENT = """{"nodes": [{"name": "one", "kind": "task", "type": "python", "returns": ["x"],
                          "config": {"callable": "tasks_of_mine:one"}}]}"""
