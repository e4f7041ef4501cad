"""Secrets in names and in other spellings: none of them gets into the store."""

from __future__ import annotations

import base64
import html
import json
import shlex
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore import Dag, Task
from runstore.errors import InputError
from runstore.store import open_store
from runstore.store.secrets import hidden_texts, mask, mask_pieces

KEY = "päss/w:\"ö rd'\n&tail"
DAG = Dag([Task(name="a", params=("key",), returns=("x",))])


def begun(folder: Path, key: Any, dag: Dag = DAG) -> Any:
    run = open_store(folder, durable=False).create_run(dag, run_id="r", secrets={"key": key})
    run.begin_invocation("start")
    return run


def raw(folder: Path) -> bytes:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return b"".join(str(file).encode() + file.read_bytes() for file in files)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("hunter22", "hunter22"), ("hunter22", "out/hunter22.csv"), ("hunter22", "x-hunter22-y"),
        ("pass", "pass"), ("pass", "pass/x.csv"), ("pass", "out/pass.tar.gz"),
        ("a b/c+d=ef", "a%20b%2Fc%2Bd%3Def.txt"), ("a b/c+d=ef", "a%20b%2fc%2bd%3def.txt"),
        (98765432, "98765432.csv"), ({"deep": ["hunter22"]}, "hunter22"),
    ],
)  # fmt: skip
def test_a_name_with_a_secret_in_it_is_refused(tmp_path: Path, key: Any, name: str) -> None:
    run = begun(tmp_path / "s", key)
    attempt = run.begin("a")
    told = "is the secret 'key', or has it in it"
    with pytest.raises(InputError, match=told) as caught:
        attempt.save_bytes(name, b"x")
    assert name not in str(caught.value)
    file = tmp_path / "work" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    with pytest.raises(InputError, match=told):
        attempt.save("**", base=str(tmp_path / "work"))
    with pytest.raises(InputError, match=told):
        attempt.succeed({"x": 1}, metrics={name: 1})
    with pytest.raises(InputError, match=told):
        attempt.succeed({"x": 1, name: 1})
    end = attempt.fail("broken", metrics={name: 1, "n": 2})
    assert (dict(end.metrics), dict(end.artifacts)) == ({"n": 2}, {})
    assert name.encode() not in raw(tmp_path / "s")


@pytest.mark.parametrize("name", ["password.txt", "out/passes", "compass"])
def test_a_short_secret_within_a_word_is_no_secret(tmp_path: Path, name: str) -> None:
    attempt = begun(tmp_path, "pass").begin("a")
    attempt.save_bytes(name, b"x")
    assert list(attempt.succeed({"x": 1}).artifacts) == [name]


SPELT = {
    "itself": KEY,
    "stripped": KEY.strip(),
    "on a terminal": KEY.replace("\n", "\r\n"),
    "repr": repr([KEY]),
    "ascii": ascii({"k": KEY}),
    "bytes": repr(KEY.encode()),
    "JSON": json.dumps([KEY]),
    "JSON, not ASCII": json.dumps([KEY], ensure_ascii=False),
    "JSON in JSON": json.dumps({"log": json.dumps({"k": KEY})}),
    "JSON of PHP": json.dumps(KEY).replace("/", "\\/"),
    "a URL": "https://me:" + urllib.parse.quote(KEY, safe="") + "@host/",
    "a path of one": urllib.parse.quote(KEY),
    "a form": urllib.parse.urlencode({"k": KEY}),
    "a form, lower case": urllib.parse.quote_plus(KEY).lower(),
    "a shell": shlex.quote(KEY),
    "a shell, by backslash": "'" + KEY.replace("'", "'\\''") + "'",
    "HTML": html.escape(KEY),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a URL": base64.urlsafe_b64encode(b"user:" + KEY.encode()).decode(),
}


def parts(text: str) -> list[str]:
    """What shows six characters of the secret, whatever the spelling."""
    found = [KEY[i : i + 6] for i in range(len(KEY) - 5)]
    return [part for part in [*found, "tail", "p%C3%A4ss", "p%c3%a4ss"] if part in text]


@pytest.mark.parametrize("how", SPELT)
def test_a_spelling_of_a_secret_is_masked(tmp_path: Path, how: str) -> None:
    text = f"before {SPELT[how]} after"
    run = begun(tmp_path, KEY)
    said = run.begin("a").fail(text).error["message"]
    assert "***" in said
    assert said.startswith("before ")
    assert said.endswith(" after")
    assert parts(said) == []
    if "base64" not in how:
        run.begin_invocation("retry")
        attempt = run.begin("a")
        with pytest.raises(InputError, match="is the secret 'key'"):
            attempt.succeed({"x": text})


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_basic_authentication_is_masked_wherever_it_begins(before: bytes, after: bytes) -> None:
    secret = "hunter22-production"
    spelt = base64.b64encode(before + secret.encode() + after).decode()
    masked = mask(f"Authorization: Basic {spelt}", {"key": secret})
    left = masked.removeprefix("Authorization: Basic ").replace("***", "")
    assert "***" in masked
    # At either end a digit may hold bits of both the secret and what is beside it.
    assert len(left) <= len(spelt) - (len(secret) * 8 // 6 - 1)


def test_the_lines_of_a_key_are_masked_one_by_one() -> None:
    lines = ["-----BEGIN KEY-----", "MIIEvQIBADANBgkq", "hkiG9w0BAQEFAASC", "-----END KEY-----"]
    secrets = {"key": "\n".join(lines) + "\n"}
    log = "\n".join(f"  | {line}" for line in lines)
    assert mask(log, secrets) == "\n".join(["  | ***"] * 4)
    assert mask(f"it is {secrets['key'].strip()}!", secrets) == "it is ***!"


@pytest.mark.parametrize("secret", ["  a\n", "abc\n\n\n", "     "])
def test_white_space_makes_no_secret_long_enough(tmp_path: Path, secret: str) -> None:
    with pytest.raises(InputError, match="shorter than 4 characters"):
        begun(tmp_path, secret)
    assert not list(tmp_path.rglob("*.json"))


@given(st.data(), st.sampled_from(sorted(SPELT)))
def test_no_part_of_a_spelling_stays_at_a_cut(data: st.DataObject, how: str) -> None:
    text = f"before {SPELT[how]} after"
    cut = data.draw(st.integers(0, len(text)))
    hidden = hidden_texts({"key": KEY})
    assert "".join(mask_pieces([text[:cut], text[cut:]], hidden, "***")) == mask(text, {"key": KEY})


@pytest.mark.parametrize(
    "given",
    [
        {"parameters": {"url": "postgres://me:hunter22@host"}},
        {"parameters": {"deep": [{"hunter22": 1}]}},
        {"labels": {"by": "hunter22"}},
    ],
)
def test_a_run_has_no_secret_in_its_parameters_and_labels(tmp_path: Path, given: Any) -> None:
    store = open_store(tmp_path / "s", durable=False)
    secrets = {"key": "hunter22"}
    what = next(iter(given)).removesuffix("s")
    told = f"{what} '.*' of run 'r' is the secret 'key', or has it in it"
    with pytest.raises(InputError, match=told):
        store.create_run(DAG, run_id="r", secrets=secrets, **given)
    assert not (tmp_path / "s").exists()
    origin = store.create_run(DAG, run_id="origin", secrets=secrets)
    with pytest.raises(InputError, match=told):
        store.fork_run(origin, run_id="r", secrets=secrets, **given)
    assert list(store.run_ids()) == ["origin"]
    assert b"hunter22" not in raw(tmp_path)


SPELLERS = {
    "itself": str,
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "bytes": lambda text: repr(text.encode())[2:-1],
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "URL": urllib.parse.quote,
    "URL, whole": lambda text: urllib.parse.quote(text, safe=""),
    "form": urllib.parse.quote_plus,
    "shell": shlex.quote,
    "HTML": html.escape,
    "returns": lambda text: text.replace("\n", "\r\n"),
}


@given(
    st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4), st.sampled_from([*SPELLERS])
)
def test_whatever_the_secret_its_spellings_are_masked_as_a_whole(secret: str, how: str) -> None:
    spelt = SPELLERS[how](secret)
    masked = mask(f"\ue000{spelt}\ue001", {"key": secret})
    assert masked.replace("'", "") == "\ue000***\ue001"
