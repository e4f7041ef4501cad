"""What values mean: in a parameters file, after --param, as a label, as a secret."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell

ECHO = "steps: [{name: a, command: 'true'}]\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("f.yaml", "a: yes\r\nb: 010\r\nc: é\r\n"), ("f.json", '{"a": "yes",\r\n"b": 10, "c": "é"}')],
)
def test_a_parameters_file_may_begin_with_a_mark(shell: Shell, name: str, text: str) -> None:
    shell.write("e.yaml", ECHO)
    file = shell.folder / name
    for run_id, mark in (("plain", b""), ("marked", b"\xef\xbb\xbf")):
        file.write_bytes(mark + text.encode())
        assert shell("run", "e.yaml", "--run-id", run_id, "--params-file", name)[0] == 0
        assert shell.json("show", run_id)["parameters"] == {"a": "yes", "b": 10, "c": "é"}
    file.write_bytes(text.encode("utf-16"))
    said = shell.refused(2, "run", "e.yaml", "--run-id", "no", "--params-file", name)
    assert f"{name} is UTF-16: save it as UTF-8" in said
    file.write_bytes(b"\xff" + text.encode())
    said = shell.refused(2, "run", "e.yaml", "--run-id", "no", "--params-file", name)
    assert f"{name}, line 1: byte 0xff is not UTF-8" in said


def test_a_mistake_in_a_parameters_file_is_told_with_its_line(shell: Shell) -> None:
    shell.write("e.yaml", ECHO)
    shell.write("f.yaml", "a: 1\nb: .nan\n")
    said = shell.refused(2, "run", "e.yaml", "--params-file", "f.yaml")
    assert "f.yaml, line 2: .nan is no JSON" in said


def test_after_param_it_is_json_else_text(shell: Shell) -> None:
    shell.write("e.yaml", ECHO)
    given = {
        "yes": "yes", "010": "010", "0o10": "0o10", "1e3": 1000, "1.0": 1, '"1"': "1", "~": "~",
        "null": None, "true": True, "True": "True", "": "", " x ": " x ", "a=b": "a=b",
        "'x'": "'x'", "2024-01-01": "2024-01-01", "[1, 2": "[1, 2", '{"a": [1]}': {"a": [1]},
        "é\u202e": "é\u202e", "\t": "\t",
    }  # fmt: skip
    words = [word for n, text in enumerate(given) for word in ("-p", f"p{n}={text}")]
    assert shell("run", "e.yaml", "--run-id", "r", *words)[0] == 0
    found = shell.json("show", "r")["parameters"]
    assert found == {f"p{n}": value for n, value in enumerate(given.values())}


def test_a_label_is_any_text(shell: Shell) -> None:
    shell.write("e.yaml", ECHO)
    given = {"a": "x=y", "b": "", "c": "yes", "d": "010", "e é": "\x1b[2J\u202e\n"}
    words = [word for name, text in given.items() for word in ("--label", f"{name}={text}")]
    assert shell("run", "e.yaml", "--run-id", "r", *words)[0] == 0
    assert shell.json("show", "r")["labels"] == given
    (row,) = shell.json("ls")["runs"]
    assert row["labels"] == given


def test_no_spelling_of_a_secret_and_no_name_with_one_gets_into_the_store(shell: Shell) -> None:
    shell.write(
        "s.yaml",
        "secrets: [key]\nsteps:\n"
        '  - {name: prints, params: key, command: \'printf %s "$key" | base64; echo "[$key]"\'}\n'
        "  - {name: saves, params: key, command: 'echo x > \"$key.csv\"', save: '*.csv'}\n",
    )
    code, out, err = shell("run", "s.yaml", "--run-id", "r", RUNSTORE_SECRET_KEY="hunter22prod")
    assert code == 1
    assert "the name of an artifact of saves is the secret 'key', or has it in it" in err
    assert shell("logs", "r", "prints")[1] == "***\n[***]\n"
    files = [file for file in (shell.folder / ".runstore").rglob("*") if file.is_file()]
    stored = b"".join(str(file).encode() + file.read_bytes() for file in files)
    for spelt in (b"hunter22prod", b"aHVudGVyMjJwcm9k"):
        assert spelt not in stored + out.encode() + err.encode()
