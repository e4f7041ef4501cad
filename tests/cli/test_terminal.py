"""Nothing that came from a task or a record reaches a terminal with a character that it obeys."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from runstore import Dag, Task
from runstore.cli.render.console import console
from runstore.cli.render.text import command_line, visible
from runstore.store import open_store
from tests.cli import inside

# From the standards, and not from the code: C0, DEL, C1, the bidi controls of UAX 9, the line and
# paragraph separators, and what has no width.
BAD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
EVIL = "[bold]\x1b]0;PWNED\x07\x1b[2J\r\n\x85\x9b31m\u202eevil\u2066\u200b\u061c\ufeff\t\x7f[/bold]"


class Terminal(io.TextIOWrapper):
    """As far as a program can tell."""

    def isatty(self) -> bool:
        return True


def call(*words: str, terminal: bool = True) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    kind = Terminal if terminal else io.TextIOWrapper
    out, err = (kind(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = inside.call(*words)
    out.flush()
    err.flush()
    raw = [stream.buffer.getvalue() for stream in (out, err)]  # type: ignore[attr-defined]
    return code, raw[0].decode("utf-8", "surrogateescape"), raw[1].decode()


@contextlib.contextmanager
def machine(evil: str) -> Iterator[pytest.MonkeyPatch]:
    """This process on a host, and in a pod, of a hostile name."""
    from runstore.store import process as holder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "dumb")  # no colours of our own
        patch.setattr(socket, "gethostname", lambda: evil)
        holder._holder.cache_clear()
        yield patch
    holder._holder.cache_clear()


def hostile(folder: str, evil: str) -> str:
    """A store with a run that says it wherever a record can; the id of that run."""
    run_id = "r" + re.sub("[\x00-\x1f\x7f-\x9f]", "", evil)
    name = evil.replace("\0", "").strip("/.") or "x"
    file = "f" + re.sub("[/\0]", "", evil)
    failing = Task(name=f"failing{name}", returns=(f"out{name}",), type=name)
    fine = Task(name=f"fine{name}", params=(f"p{name}",), returns=(f"out2{name}",))
    store = open_store(folder, durable=False)
    run = store.create_run(
        Dag([failing, fine, Task(name=f"open{name}")]), {f"p{name}": {name: [evil]}},
        run_id=run_id, labels={f"l{name}": evil},
    )  # fmt: skip
    run.begin_invocation("start", command=["runstore", evil.replace("\0", ""), f"--x={evil}"])
    paths = {step.path.partition("%")[0]: step.path for step in run.plan().steps}
    bad, good, started = sorted(paths.values())
    attempt = run.begin(bad)
    attempt.log = run.blobs.put(f"log {evil}\nline\n".encode())
    attempt.save_bytes(file, evil.encode())
    attempt.fail(type(f"Error{name}", (Exception,), {})(f"it is {evil}"))
    attempt = run.begin(good)
    attempt.save_bytes(file, evil.encode())
    attempt.succeed({f"out2{name}": [evil]}, metrics={f"m{name}": evil})
    run.begin(started)
    return run_id


def reading(folder: str, run_id: str) -> list[tuple[str, ...]]:
    """Every command that reads, and those that ask or refuse."""
    run = open_store(folder).get_run(run_id)
    bad, good, began = sorted(step.path for step in run.plan().steps)
    (file,) = run.read_end(good, 1).artifacts  # type: ignore[union-attr]
    store = ("--store", folder)
    other = Path(folder).with_name("other.json")
    other.write_text('{"nodes": [{"name": "other\\u202e\\u001b", "kind": "task"}]}')
    return [
        ("ls", *store), ("ls", "-l", *store), ("ls", "-l", "--format", "json", *store),
        ("show", *store, run_id), ("show", "--all", *store, run_id),
        ("show", "--format", "json", *store, run_id),
        ("plan", *store, run_id), ("plan", "--format", "json", *store, run_id),
        ("plan", "--all", *store, run_id, str(other)),
        ("logs", *store, "--", run_id, bad), ("logs", *store, "--", run_id, good),
        ("logs", *store, "--", run_id, began), ("logs", *store, "--", run_id),
        ("get", "-o", "-", *store, "--", run_id, file),
        ("get", *store, "--", run_id, "no\u202e\x1bsuch"),
        ("diff", *store, "--", run_id, str(other)),
        ("diff", "--format", "json", *store, "--", run_id, str(other)),
        ("verify", *store, "--", run_id), ("verify", "--format", "json", *store, "--", run_id),
        ("gc", "--older-than", "0", *store), ("rm", *store, "--", run_id),
        ("show", *store, "--", "no" + run_id), ("run", *store, f"no{run_id}.yaml"),
        ("run", *store, str(other), "--run-id", run_id), ("run", *store, run_id + "\x1b:x.py"),
        ("retry", *store, "--", run_id, str(other)), ("fork", *store, "--", run_id, str(other)),
        ("pack", *store, "--", run_id),
        ("doctor", f"{folder}/{run_id[:50]}"), ("doctor", "--format", "json", "\x1b\u202e://x"),
        ("pull", f"{folder}\x1b", run_id, folder), ("ls", "--no\x1b\u202e"), ("no\x1b\u202e",),
    ]  # fmt: skip


def check(words: tuple[str, ...]) -> tuple[str, str]:
    code, out, err = call(*words)
    for text in (out, err):
        found = BAD.search(text)
        assert found is None, (words, ascii(text[max(0, found.start() - 80) :][:160]))
    assert code != 70, err
    if "json" in words and out:
        json.loads(out)
    return out, err


def test_a_record_says_it_everywhere_and_no_command_does(tmp_path: Path) -> None:
    folder = str(tmp_path / "s")
    with machine(EVIL):
        run_id = hostile(folder, EVIL)
        said = {words[:-1]: check(words) for words in reading(folder, run_id)}
    everything = "".join(out + err for out, err in said.values())
    assert r"\x1b]0;PWNED\x07" in everything
    assert r"\u202eevil" in everything
    assert "[bold]" in everything, "no markup of ours either"


def test_nor_what_moves_a_run_or_finds_it_damaged(tmp_path: Path) -> None:
    folder, there, file = (str(tmp_path / name) for name in ("s", "t", "r.json"))
    with machine(EVIL):
        run_id = hostile(folder, EVIL)
        run = ("--", run_id)
        for words in (
            ("export", "--store", folder, "-o", file, "--artifacts=all", *run),
            ("import", "--store", there, file), ("ls", "--store", there), ("show", file),
            ("push", "--store", folder, *run, str(tmp_path / "u")),
            ("rm", "--yes", "--force", "--store", there, *run), ("ls", "--store", there),
        ):  # fmt: skip
            check(words)
        damaged = 0
        for number, path in enumerate(sorted(Path(folder).rglob("runs/**/*.json"))):
            whole = path.read_bytes()
            for body in (whole[:-20], whole.replace(b'"run_id"', f'"{EVIL}"'.encode(), 1)):
                path.write_bytes(body)
                verb = ("verify", "show", "plan", "ls", "logs")[number % 5]
                _, err = check((verb, "--store", folder, *(() if verb == "ls" else run)))
                damaged += "damaged" in err
            path.write_bytes(whole)
        assert damaged >= 4


ALPHABET = st.sampled_from(
    "ab /[]'\"\\%\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\u061c\u200b\u202e\u2028\ufeff"
)
TEXTS = st.text(ALPHABET | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(TEXTS, st.integers(0, 10_000))
def test_whatever_is_recorded_no_reading_command_shows_it_raw(evil: str, which: int) -> None:
    with tempfile.TemporaryDirectory() as above, machine(evil):
        folder = f"{above}/s"
        run_id = hostile(folder, evil)
        possible = reading(folder, run_id)
        words = possible[which % len(possible)]
        event(words[0])
        check(words)


def test_a_log_goes_to_a_pipe_as_it_was_written(tmp_path: Path) -> None:
    folder = str(tmp_path / "s")
    run_id = hostile(folder, EVIL)
    commands = reading(folder, run_id)
    log = next(words for words in commands if words[-1].startswith("failing"))
    assert call(*log, terminal=False)[1] == f"log {EVIL}\nline\n"
    assert call(*log)[1] == (
        r"log [bold]\x1b]0;PWNED\x07\x1b[2J" + "\n"
        r"\x85\x9b31m\u202eevil\u2066\u200b\u061c\ufeff" + "\t" + r"\x7f[/bold]" + "\nline\n"
    )
    artifact = next(words for words in commands if words[:3] == ("get", "-o", "-"))
    assert call(*artifact, terminal=False)[1] == EVIL


RETURNS = 'printf \'{"x\\u202e":"\\u001b\\u202e"}\' > $RUNSTORE_RETURNS'
FAILS = "printf 'no \\033]0;PWNED\\007 \\342\\200\\256\\n'; exit 3"
PIPELINE = {
    "steps": [
        {"name": f"a{EVIL}", "command": RETURNS, "returns": "x\u202e"},
        {"name": f"b{EVIL}", "command": FAILS},
    ]
}


def test_a_run_at_work_shows_nothing_raw(tmp_path: Path) -> None:
    pipeline = tmp_path / "p.json"
    pipeline.write_text(json.dumps(PIPELINE))
    with machine(EVIL):
        words = ("run", str(pipeline), "--run-id", "r\u202e", "--store", str(tmp_path / "s"))
        out, err = check((*words, "--label", f"x={EVIL}", "-p", f"n={EVIL}"))
    assert r"exit status 3: no \x1b]0;PWNED\x07 \u202e" in err, out
    assert r"run r\u202e failed" in err


def test_a_console_of_rich_lets_no_control_of_others_through() -> None:
    from rich.panel import Panel

    stream = io.StringIO()
    made = console(file=stream, force_terminal=True, color_system=None, width=200)
    made.print(Panel(EVIL), EVIL)
    assert re.search("[\x07\x1b\x7f-\x9f\u202e\u200b]", stream.getvalue()) is None
    assert "[bold]" in stream.getvalue()


@pytest.mark.parametrize("word", [EVIL, "a b", "it's", "\x85\\", "\udc80\udcff", "\U000e0001é", ""])
def test_a_command_to_paste_means_what_it_hides(word: str) -> None:
    line = command_line("printf", "%s", word)
    assert BAD.search(line) is None
    said = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        check=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    assert said.stdout == os.fsencode(word)


@given(st.text())
def test_visible_is_seen_and_settled(text: str) -> None:
    once: Any = visible(text)
    assert BAD.search(once) is None
    assert "\n" not in once
    assert visible(once) == once
    assert BAD.search(visible(text, keep="\n\t").replace("\t", "")) is None
