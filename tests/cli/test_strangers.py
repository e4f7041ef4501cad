"""Nothing that a record names is executed unless the user named it or made it. Real commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.strangers import COMMANDS, Evil, mine

READING = [
    ("ls", "-l"), ("show", "r"), ("plan", "r"), ("verify", "r"), ("logs", "r", "write"),
    ("diff", "r", "mine.yaml"), ("plan", "r", "mine.yaml"), ("pack", "r"),
    ("export", "r", "-o", "again.json"), ("get", "r", "nothing"), ("push", "r", "pushed"),
    ("pull", "pushed", "r", "pulled"), ("plan", "r", "--store", "pulled"), ("gc",),
]  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "victim").mkdir()
    return Shell(tmp_path / "victim")


@pytest.fixture
def evil(shell: Shell, tmp_path: Path) -> Evil:
    (tmp_path / "stranger").mkdir()
    mine(shell)
    return Evil(shell, tmp_path / "stranger")


def raw(shell: Shell) -> dict[str, bytes]:
    root = shell.folder / ".runstore"
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    "forged",
    [
        {"program": True},
        {"program": False},
        {"program": False, "call": "innocent:write"},
        {"program": False, "call": "os:getcwd"},
        {"program": True, "call": "innocent:write"},
    ],
    ids=str,
)
def test_no_command_executes_what_a_file_names(shell: Shell, evil: Evil, forged: dict) -> None:  # type: ignore[type-arg]
    file = evil.file(**forged)
    for words in [("plan", file), ("show", file), ("verify", file), ("import", file), *READING]:
        shell(*words)
        assert evil.executed == [], words
    before = raw(shell)
    for words in (("retry", "r"), ("retry", "r", "--force", "write"), ("fork", "r")):
        said = shell.refused(2, *words)
        assert f"its latest invocation is an import of {file} by " in said
        assert "name the PIPELINE" in said
        assert "--recorded-code" in said
        named = forged["program"] and f"the file {evil.program}" in said
        assert named or "the commands and functions that the run itself names" in said
    for words in (("retry", "r"), ("fork", "r")):
        assert "a pull of " in shell.refused(2, *words, "--store", "pulled")
        # Nobody recorded a push: whoever may write there is trusted with it.
        assert "an import of " in shell.refused(2, *words, "--store", "pushed")
    assert raw(shell) == before
    assert evil.executed == []


def test_a_pipeline_that_was_named_is_what_runs_from_then_on(shell: Shell, evil: Evil) -> None:
    assert shell("import", evil.file())[0] == 0
    assert shell("retry", "r", "mine.yaml")[0] == 0
    assert shell("logs", "r", "write")[1] == "mine\n"
    code, _, err = shell("retry", "r", "--force", "write")
    assert (code, evil.executed) == (0, [])
    assert f"pipeline: {shell.folder / 'mine.yaml'} (of the latest invocation)" in err
    # Where that file is gone, there is only the DAG of the stranger again.
    (shell.folder / "mine.yaml").rename(shell.folder / "moved.yaml")
    for words in (("retry", "r", "--force", "write"), ("fork", "r")):
        said = shell.refused(2, *words)
        assert "mine.yaml, is not there" in said
    assert evil.executed == []
    assert shell("fork", "r", "moved.yaml", "--run-id", "f")[0] == 0
    assert shell("retry", "f", "--force", "write")[0] == 0
    # The fork's own DAG is the user's.
    (shell.folder / "moved.yaml").unlink()
    assert shell("retry", "f", "--force", "write")[0] == 0
    assert shell("logs", "f", "write")[1] == "mine\n"
    assert evil.executed == []


@pytest.mark.parametrize(
    ("forged", "mark"),
    [
        ({"program": True}, "program"),
        ({"program": False}, "command"),
        ({"program": False, "call": "innocent:write"}, "module"),
    ],
    ids=["program", "command", "module"],
)
@pytest.mark.parametrize("verb", ["retry", "fork"])
def test_what_is_recorded_can_be_allowed(
    shell: Shell, evil: Evil, forged: dict, mark: str, verb: str  # type: ignore[type-arg]
) -> None:  # fmt: skip
    assert shell("import", evil.file(**forged))[0] == 0
    new = ["--run-id", "f"] if verb == "fork" else []
    assert shell(verb, "r", "--recorded-code", *new)[0] == 0
    assert evil.executed == [mark]
    # It was said once, and the invocation that says so is the latest.
    assert shell("retry", "f" if new else "r", "--force", "write")[0] == 0
    if new:
        assert "an import" in shell.refused(2, "retry", "r")
    # What is imported later is another word of others.
    assert shell("import", evil.more())[0] == 0
    assert "more.json" in shell.refused(2, "retry", "r")
    assert evil.executed == [mark]


def test_the_last_number_there_is_does_not_win_either(shell: Shell, evil: Evil) -> None:
    assert "no invocation has" in shell.refused(2, "import", evil.file(number=2**31 - 1))
    assert shell("import", evil.file(number=2**31 - 2))[0] == 0
    assert "an import" in shell.refused(2, "retry", "r")
    assert "fork it" in shell.refused(2, "retry", "r", "mine.yaml")
    assert "an import" in shell.refused(2, "fork", "r")
    assert shell("fork", "r", "mine.yaml", "--run-id", "f")[0] == 0
    assert evil.executed == []


def test_a_run_of_one_s_own_that_comes_back_is_an_import_too(shell: Shell) -> None:
    shell.write("p.yaml", COMMANDS)
    assert shell("run", "p.yaml", "--run-id", "r")[0] == 1
    assert shell("retry", "r")[0] == 1  # one's own: nobody asks
    assert shell("export", "r", "-o", "r.json")[0] == 0
    assert shell("import", "r.json")[0] == 0
    assert shell("retry", "r")[0] == 1, "it brought nothing"
    assert shell("import", "r.json", "--store", "other")[0] == 0
    assert "r.json by " in shell.refused(2, "retry", "r", "--store", "other")
    assert shell("retry", "r", "p.yaml", "--store", "other")[0] == 1
    assert shell("retry", "r", "--store", "other")[0] == 1


def test_the_run_of_another_user_or_machine_in_one_store(shell: Shell) -> None:
    shell.write("p.yaml", COMMANDS)
    assert shell("run", "p.yaml", "--run-id", "r")[0] == 1
    (file,) = shell.folder.glob(".runstore/runs/r/*/invocations/*.json")
    data = json.loads(file.read_bytes())["record"]
    from tests.transfer.lives import reframed

    for change, said in (
        ({"host": "elsewhere"}, f"a start by {data['by']['user']} on elsewhere"),
        ({"user": "somebody"}, f"a start by somebody on {data['by']['host']}"),
        ({"user": None}, "a start by an unknown user"),
        ({"pod": "p-1"}, "on pod p-1"),
    ):

        def edit(body: dict, change: dict = change) -> None:  # type: ignore[type-arg]
            body["by"] = {k: v for k, v in {**data["by"], **change}.items() if v is not None}

        file.write_bytes(reframed(file.read_bytes(), edit))
        assert said in shell.refused(2, "retry", "r")
        assert said in shell.refused(2, "fork", "r")
    assert shell("retry", "r", "p.yaml")[0] == 1
    assert shell("retry", "r")[0] == 1


def test_show_lists_what_came_from_where(shell: Shell, evil: Evil) -> None:
    file = evil.file()
    assert shell("import", file)[0] == 0
    assert shell("push", "r", "there")[0] == 0
    assert shell("pull", "there", "r", "back")[0] == 0
    modes = [(one["mode"], one.get("source")) for one in shell.json("show", "r")["invocations"]]
    assert modes == [("start", None), ("import", {"file": file})]
    invocations = shell.json("show", "r", "--store", "back")["invocations"]
    assert [one["mode"] for one in invocations] == ["start", "import", "pull"]
    assert invocations[2]["source"] == {"store": str(shell.folder / "there")}
    assert invocations[2]["by"]["user"]
    out = shell("show", "r", "--store", "back")[1]
    assert f"file {file}" in out
    assert f"store {shell.folder / 'there'}" in out
    assert shell("ls", "-l", "--store", "back")[0] == 0
