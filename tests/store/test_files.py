"""Which files a pattern means, and what is said where it means none."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Task
from runstore.errors import InputError, StorageError
from runstore.records import Consumed

NAMES = [
    "a b.txt", "empty.txt", ".hidden", "out/1.csv", "out/.h.csv", "out/.deep/3.csv",
    "out/sub/2 [x].csv", "star*.txt", "q?.txt", "größe 😀.txt", "new\nline.txt", "-dash.txt",
    "back\\slash.txt", "con", "end.", "tab\t.txt", "[", "[ab].txt", "a.txt", "dir [1]/x.csv",
    "{1,2}.csv", "**", " ", "~", "$HOME", "#", "%41", "NUL.txt",
]  # fmt: skip


@pytest.fixture
def attempt(tmp_path: Path) -> runstore.Attempt:
    store = runstore.open_store(tmp_path / "store", durable=False)
    return store.create_run(Dag([Task(name="a")]), run_id="r").begin("a")


@pytest.fixture
def folder(attempt: runstore.Attempt) -> Path:
    return attempt.folder


def fill(folder: Path) -> None:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_there_is_kept_under_its_name(attempt, folder, name):
    fill(folder)
    assert attempt.save(name) == [name]
    blob = attempt.succeed().artifacts[name]
    assert attempt.run.blobs.read(blob) == name.encode()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", {n for n in NAMES if n.endswith(".txt") and "/" not in n}),
        ("**/*", set(NAMES)),
        (".*", {".hidden"}),
        ("out/*", {"out/1.csv", "out/.h.csv"}),
        ("out/**", {n for n in NAMES if n.startswith("out/")}),
        ("out/**/*.csv", {n for n in NAMES if n.startswith("out/")}),
        ("**/*.csv", {n for n in NAMES if n.endswith(".csv")}),
        ("*/*.csv", {"out/1.csv", "out/.h.csv", "dir [1]/x.csv"}),
        ("dir [1]/*.csv", {"dir [1]/x.csv"}),
        ("**/dir [1]/*", {"dir [1]/x.csv"}),
        ("star[*].txt", {"star*.txt"}),
        ("[!a]*.txt", {n for n in NAMES if n.endswith(".txt") and n[0] != "a" and "/" not in n}),
        ("[a]*.txt", {"a b.txt", "a.txt"}),
        ("./out//1.csv", {"out/1.csv"}),
        ("out/../a.txt", {"a.txt"}),
        ("o?t/**/**/?.csv", {"out/1.csv", "out/.deep/3.csv"}),
    ],
)
def test_what_a_pattern_matches(attempt, folder, pattern, found):
    fill(folder)
    assert attempt.save(pattern) == sorted(found)


def test_a_star_and_two_stars(attempt, folder):
    fill(folder)
    (folder / "**").unlink()
    assert attempt.save("*") == sorted({n for n in NAMES if "/" not in n} - {"**"})
    assert attempt.save("**") == sorted(set(NAMES) - {"**"})


def test_several_patterns(attempt, folder):
    fill(folder)
    assert attempt.save("a.txt", Path("out/1.csv"), "a*") == ["a.txt", "out/1.csv", "a b.txt"]
    assert list(attempt.succeed().artifacts) == ["a.txt", "out/1.csv", "a b.txt"]


def odd_ones(folder: Path) -> None:
    fill(folder)
    (folder / "emptydir").mkdir()
    os.mkfifo(folder / "pipe.fifo")
    (folder / "broken.lnk").symlink_to("/nowhere/at/all")
    (folder / "self.lnk").symlink_to("self.lnk")
    (folder / "dir.lnk").symlink_to("out")
    (folder / "null.lnk").symlink_to("/dev/null")
    here = Path.cwd()
    os.chdir(folder)  # a socket's name is up to 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("sock.s")
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("out", r"is a folder: write 'out/\*\*' .*'out/\*'"),
        ("out/", r"is a folder: write 'out/\*\*'"),
        ("a.txt/", "is a file, .* leave that out"),
        ("*/", r"means folders: write '\*/\*\*'"),
        ("dir.lnk", r"is a folder: write 'dir\.lnk/\*\*'"),
        ("emptydir", "is an empty folder"),
        ("empty*r", "'emptydir' is an empty folder"),
        ("emptydir/*", "no such file"),
        ("pipe.fifo", "is a named pipe: .* to a file"),
        ("*.fifo", "matches no file; 'pipe.fifo' is a named pipe"),
        ("sock.s", "is a socket"),
        ("null.lnk", "is a device"),
        ("broken.lnk", "is a link to '/nowhere/at/all', which is not there"),
        ("bro*", "'broken.lnk' is a link to '/nowhere/at/all'"),
        ("self.lnk", "is a link to 'self.lnk', which leads back to it"),
        ("missing.txt", r"no such file, it has ' ', '#', .* more"),
        ("x[1].txt", r"no such file.*\[\[\] a bracket"),
        ("{a,b}.txt", "no such file.*one pattern for each"),
        ("a.txt/x", "no such file"),
        ("/etc/passwd", "is an absolute path"),
        ("../x", "leads out of its folder"),
        ("out/../../x*", "leads out of its folder"),
        ("", "an empty name"),
        (".", "is the folder itself"),
        ("a\0b", "NUL"),
        ("\udcff*", "not UTF-8"),
        ("x" * 300, "no such file|too long"),
    ],
)
def test_what_is_said_where_there_is_no_file(attempt, folder, pattern, said):
    odd_ones(folder)
    with pytest.raises(InputError) as refused:
        attempt.save("a.txt", pattern)
    assert str(refused.value).startswith("a saves ")
    assert re.search(said, str(refused.value)), str(refused.value)
    assert not attempt.succeed().artifacts, "nothing was kept"


def test_an_absolute_path_is_told_its_name(attempt, folder):
    fill(folder)
    with pytest.raises(InputError, match=r"absolute path: write 'out/1\.csv'"):
        attempt.save(folder / "out/1.csv")


def test_patterns_pass_over_what_is_no_file(attempt, folder):
    odd_ones(folder)
    assert attempt.save("**/*") == sorted(NAMES)


def test_what_is_no_name_is_refused(attempt):
    for wrong in ([["a", "b"]], [b"a"], [None], [3], []):
        with pytest.raises(InputError, match=r"attempt\.save\('"):
            attempt.save(*wrong)


@pytest.mark.parametrize(
    ("links", "pattern", "kept"),
    [
        ({"d/up": "..", "loop": "."}, "**", ["d/f", "e/g"]),
        ({"d/up": "..", "loop": "."}, "**/*", ["d/f", "e/g"]),
        ({"d/latest": "."}, "**/f", ["d/f"]),
        ({"d/e": "../e", "e/d": "../d"}, "**", ["d/f", "e/g"]),
        ({"a": "d", "z": "d"}, "**", ["d/f", "e/g"]),
        ({"a": "d", "z": "d"}, "a/**", ["a/f"]),
        ({"a": "d"}, "a/*", ["a/f"]),
        ({"loop": "."}, "*/**", ["d/f", "e/g"]),
        ({"x": "y", "y": "x"}, "**", ["d/f", "e/g"]),
        ({"d/h": "f"}, "**", ["d/f", "d/h", "e/g"]),
    ],
)
def test_links(attempt, folder, links, pattern, kept):
    for name in ("d/f", "e/g"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(name)
    for name, target in links.items():
        (folder / name).symlink_to(target)
    assert attempt.save(pattern) == kept


def test_many_links_among_folders_end(attempt, folder):
    """Each of 30 folders has links to all of them: 30! ways."""
    for n in range(30):
        (folder / f"d{n}").mkdir()
        (folder / f"d{n}/f").write_text(str(n))
    for n in range(30):
        for m in range(30):
            (folder / f"d{n}/to{m}").symlink_to(f"../d{m}")
    assert attempt.save("**/f") == sorted(f"d{n}/f" for n in range(30))
    assert attempt.save("**/to*/**/f") == sorted(attempt.save("**/to*/**/f"))


def test_a_pipe_put_in_place_of_a_file_is_not_waited_for(attempt, folder, monkeypatch):
    (folder / "x").write_text("x")
    found = runstore.store.artifacts.find  # type: ignore[attr-defined]

    def swapped(*arguments):
        names = found(*arguments)
        (folder / "x").unlink()
        os.mkfifo(folder / "x")
        return names

    monkeypatch.setattr("runstore.store.artifacts.find", swapped)
    with pytest.raises(InputError, match="'x', which is a named pipe"):
        attempt.save("x")


def test_a_name_that_is_no_utf8(attempt, folder):
    (folder / "dir").mkdir()
    (folder / "dir/fine").write_text("x")
    with open(os.fsencode(folder) + b"/dir/\xff.csv", "wb"):
        pass
    for pattern in ("dir/*", "**", os.fsdecode(b"dir/\xff.csv")):
        with pytest.raises(InputError, match=r"\\udcff.*not UTF-8.*rename"):
            attempt.save(pattern)
    assert attempt.save("dir/f*") == ["dir/fine"]


UNREADABLE = """
import os, sys
os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
from runstore.store.files import find, open_file
from runstore.errors import InputError
for pattern in ("closed.txt", "inner/**", "inner/x.txt", "*.txt"):
    try:
        for name in find(".", pattern):
            open_file(".", name).close()
        print("kept")
    except InputError as error:
        print(error)
"""


def test_what_may_not_be_read_is_named(tmp_path):
    from runstore.store import files

    folder = tmp_path / "f"
    (folder / "inner").mkdir(parents=True)
    for path in (folder, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    for name in ("closed.txt", "inner/x.txt"):
        (folder / name).write_text("x")
    (folder / "closed.txt").chmod(0)
    (folder / "inner").chmod(0)
    # Everything is imported before it becomes somebody who may not read this checkout.
    code = UNREADABLE.replace(
        "import os, sys\n", "import os, sys\nimport runstore.store.files, runstore.errors\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, stdout=subprocess.PIPE, text=True,
        cwd=Path(files.__file__).parents[2],
    )  # fmt: skip
    (folder / "inner").chmod(0o700)
    said = done.stdout.splitlines()
    assert said[0] == "'closed.txt', which cannot be read: Permission denied"
    assert said[1] == "'inner/**', and may not look into the folder 'inner': Permission denied"
    assert said[2].startswith("'inner/x.txt', which cannot be looked at: Permission denied")
    assert said[3] == said[0]


def test_so_many_files_are_refused_before_any_is_kept(attempt, folder, monkeypatch, tmp_path):
    for module in ("files", "artifacts"):
        monkeypatch.setattr(f"runstore.store.{module}.MAX_FILES", 50)
    for n in range(51):
        (folder / f"{n}.txt").write_text(str(n))
    with pytest.raises(InputError, match=r"more than 50 files.*\(tar\)"):
        attempt.save("*.txt")
    assert not list((tmp_path / "store").glob("**/blobs/*/*"))
    assert len(attempt.save("?.txt", "1*.txt", "2*.txt", "3*.txt", "4*.txt")) == 50
    attempt.save_bytes("1.txt", b"again")
    with pytest.raises(InputError, match="more than 50 files"):
        attempt.save_bytes("50.txt", b"one more")
    assert len(attempt.succeed().artifacts) == 50


def test_a_file_that_grows_for_ever_is_not_read_for_ever(attempt, folder, monkeypatch):
    (folder / "log").write_bytes(b"x" * 10)

    class Endless:
        name = "log"

        def read(self, size: int) -> bytes:
            return b"x" * size

    with pytest.raises(StorageError, match="log changed while"):
        attempt.run.blobs.put_file(Endless(), size=10)


WRITES = """
import sys, time
with open(sys.argv[1], "wb", buffering=0) as file:
    file.write(b"x" * 4_000_000)
    print("begun", flush=True)
    until, n = time.monotonic() + 60, 0
    while time.monotonic() < until:
        n += 1
        file.seek(0)
        file.write(b"%d" % n)
"""


def test_a_file_that_another_process_writes_is_refused(attempt, tmp_path):
    """As soon as the other process is given a turn while it is saved; and nothing is kept then."""
    (tmp_path / "a.txt").write_text("fine")
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(tmp_path / "b.log")], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        refused = None
        try:
            for number in range(2, 1000):
                attempt = attempt.run.begin("a", number=number, consumed=Consumed())
                try:
                    attempt.save("a.txt", "b.log", base=tmp_path)
                except StorageError as error:
                    refused = error
                    break
        finally:
            writer.kill()
    assert re.search(r"b\.log changed while .*when it is complete", str(refused))
    assert not attempt.succeed().artifacts, "all or nothing"
