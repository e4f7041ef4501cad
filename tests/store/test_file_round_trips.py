"""What can be saved can be loaded and fetched: the same name, bytes and executable bit."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

import runstore
from runstore import Pipeline, Task, sequence
from runstore.transfer import export_run, import_run
from tests.cli import inside

DAG = sequence(Task(name="a"), Task(name="b"))

parts = st.one_of(
    st.sampled_from(
        ["con", "end.", "-dash", "~", " ", "*", "**", "[a]", "?", "a b", "x.part", "NUL.txt",
         "back\\slash", "line\nfeed", "größe 😀", "e\u0301", "é", "%2F", "@1", "a:b", '"', "'", "#",
         "\u202e", "x" * 255, "é" * 127, "...", ".hidden", "A", "a", "{a,b}", "$(ls)", "\x7f"]
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
)  # fmt: skip
names = st.lists(parts, min_size=1, max_size=3).map("/".join)
files = st.dictionaries(
    names, st.tuples(st.binary(max_size=40), st.booleans()), min_size=1, max_size=4
)


def may_be(name: str) -> bool:
    """Whether a disk takes the name; found out from a disk, and not from the code."""
    return "." not in name.split("/") and ".." not in name.split("/")


def write(folder: Path, named: dict[str, tuple[bytes, bool]]) -> bool:
    for name, (data, executable) in named.items():
        path = f"{folder}/{name}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(data)
        except OSError:
            return False
        os.chmod(path, 0o744 if executable else 0o644)
    return True


def seen(folder: str | Path) -> dict[str, tuple[bytes, bool]]:
    """Every file below a folder, as the disk has it."""
    found = {}
    for here, _, each in os.walk(os.fsencode(folder)):
        for name in each:
            path = os.path.join(here, name)
            relative = os.path.relpath(path, os.fsencode(folder)).decode()
            with open(path, "rb") as file:
                found[relative] = (file.read(), bool(os.stat(path).st_mode & stat.S_IXUSR))
    return found


@given(files)
@example({"x" * 255: (b"", True), "é" * 127 + "/" + "y" * 242: (b"1", False)})
@example({"[a]": (b"1", False), "a": (b"2", False), "*": (b"3", True), "?": (b"4", False)})
def test_saved_loaded_exported_and_fetched(named):
    assume(all(map(may_be, named)))
    with tempfile.TemporaryDirectory() as scratch:
        run = runstore.open_store(f"{scratch}/s", durable=False).create_run(DAG, run_id="r")
        a = run.begin("a")
        assume(write(a.folder, named))
        event(f"{len(named)} files")
        assert sorted(a.save(*named)) == sorted(named)
        a.succeed()
        for each in (run, moved(run, scratch)):
            b = each.begin("b")
            assert b.load(*named) == [b.folder / name for name in named]
            assert seen(b.folder) == named
            b.cancel()
        for n, name in enumerate(named):
            os.mkdir(f"{scratch}/{n}")
            words = ["get", "r", "-o", f"{scratch}/{n}", "--store", f"{scratch}/s", "--", name]
            assert inside.call(*words) == 0
            assert seen(f"{scratch}/{n}") == {os.path.basename(name): named[name]}


def moved(run: runstore.Run, scratch: str) -> runstore.Run:
    """As another machine has it, by way of an exported file."""
    export_run(run, f"{scratch}/run.json", artifacts="all")
    other = runstore.open_store(f"{scratch}/other", durable=False)
    import_run(other, f"{scratch}/run.json")
    return other.get_run("r")


def test_globs_find_what_names_find(tmp_path):
    run = runstore.open_store(tmp_path / "s", durable=False).create_run(DAG, run_id="r")
    a = run.begin("a")
    named = {
        "-dash": (b"1", False), "[x]/*": (b"2", True), "line\nfeed/é": (b"3", False),
        ".hidden/.h": (b"4", True), "x" * 255: (b"5", False),
    }  # fmt: skip
    assert write(a.folder, named)
    assert a.save("**") == sorted(named)
    a.succeed()
    b = run.begin("b")
    b.load("*")
    assert seen(b.folder) == named


@pytest.mark.parametrize("mode", [0o755, 0o644, 0o700, 0o600, 0o100, 0o400, 0o555, 0o4755, 0o611])
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_executable_bit_is_kept_and_the_umask_obeyed(tmp_path, mode, mask):
    old = os.umask(mask)
    try:
        run = runstore.open_store(tmp_path / "s", durable=False).create_run(DAG, run_id="r")
        a = run.begin("a")
        (a.folder / "tool").write_text("#!/bin/sh\necho ran\n")
        (a.folder / "tool").chmod(0o700)
        a.save("tool")
        (a.folder / "tool").chmod(mode)
        if os.access(a.folder / "tool", os.R_OK):
            a.save("tool")
        a.succeed()
        (path,) = run.begin("b").load("tool")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == (0o777 if mode & 0o100 else 0o666) & ~mask


def test_the_same_bytes_with_and_without_the_bit(tmp_path):
    run = runstore.open_store(tmp_path / "s", durable=False).create_run(DAG, run_id="r")
    a = run.begin("a")
    assert write(a.folder, {"tool": (b"#!", True), "text": (b"#!", False)})
    a.save("*")
    a.save_bytes("bytes", b"#!")
    end = a.succeed()
    assert len(list((tmp_path / "s").glob("**/blobs/sha256/*/*"))) == 1
    assert {name: blob.executable for name, blob in end.artifacts.items()} == {
        "tool": True, "text": False, "bytes": False,
    }  # fmt: skip
    (record,) = (tmp_path / "s").glob("runs/r/**/attempts/a.000001.end.json")
    assert record.read_text().count('"executable":true') == 1
    assert "false" not in record.read_text(), "absent where it is not"
    b = run.begin("b")
    b.load("*")
    assert seen(b.folder) == {
        "tool": (b"#!", True), "text": (b"#!", False), "bytes": (b"#!", False),
    }  # fmt: skip


@pytest.mark.parametrize("processes", [False, True])
def test_a_command_runs_what_another_made(tmp_path, processes):
    make = "printf '#!/bin/sh\\necho ran\\n' > tool.sh; chmod 755 tool.sh; cp tool.sh 'a [1].sh'"
    steps = [("build", {"command": make, "save": ["tool.sh", "*"]}),
             ("use", {"command": "./tool.sh; './a [1].sh'", "load": "*"})]  # fmt: skip
    pipeline = Pipeline(sequence(*(Task(name=n, type="shell", config=c) for n, c in steps)))
    result = runstore.start(
        pipeline, store=tmp_path / "s", run_id="r", processes=processes, workers=1
    )
    assert result.status == "succeeded"
    assert result.run.logs("use") == b"ran\nran\n"


def test_a_fork_hands_the_files_on(tmp_path):
    run = runstore.open_store(tmp_path / "s", durable=False).create_run(DAG, run_id="r")
    a = run.begin("a")
    assert write(a.folder, {"tool [1]": (b"#!", True)})
    a.save("tool [1]")
    a.succeed()
    store = runstore.open_store(tmp_path / "s", durable=False)
    forked = store.fork_run(run, run_id="other")
    shutil.rmtree(next((tmp_path / "s/runs").glob("r")))
    b = forked.begin("b")
    b.load("tool [1]")
    assert seen(b.folder) == {"tool [1]": (b"#!", True)}
