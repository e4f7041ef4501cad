"""SIGKILL at random moments of `create`, and power cuts: what was acknowledged is there, and
nothing is torn.

Each child creates objects in a tight loop and writes a key to a pipe when `create` has returned.
It is killed a few milliseconds later, wherever it is. The disk is then read with `os` alone.

A power cut cannot be had in a test. What outlives it is what was fsynced in the right order, so
the order of the calls is observed.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import time
from pathlib import Path

import pytest

from runstore.errors import KeyExistsError
from runstore.storage import fsync as flushing
from runstore.storage import local, local_care, local_disk, unfinished
from runstore.storage.local import LocalStorage
from tests.exploration import randomness, scaled
from tests.forkserver import Child, fork_server
from tests.storage.creating import SIZES, body_of, key_of

SIDE_BY_SIDE = 2


def spawn(function: str, *arguments: object) -> tuple[Child, int]:
    """Call it in a new process; and the end of the pipe to read."""
    reading, writing = os.pipe()
    child = fork_server("tests.storage.creating").spawn(
        f"tests.storage.creating:{function}", *arguments, pass_fds=[writing]
    )
    os.close(writing)
    return child, reading


def kill(child: Child, pipe: int) -> str:
    """Kill one, make sure that it died of this and not of an error, and read what it said."""
    child.kill()
    assert child.wait() == -signal.SIGKILL, "the child failed before it was killed"
    with open(pipe, "rb") as said:
        return said.read().decode()


def next_line(pipe: int) -> str:
    """One line of a child, and no more: what it says later stays in the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(pipe, 1)
        assert byte, "the child ended before it was killed"
        line += byte
    return line.decode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(root: Path) -> dict[str, str]:
    """The digests of all files: the bytes of thousands of kills together are a gigabyte."""
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): digest(path.read_bytes()) for path in found}


@pytest.mark.explored
@pytest.mark.parametrize("durable", [True, False])
def test_a_kill_loses_nothing_acknowledged_and_tears_nothing(tmp_path, durable):
    kills = scaled(5.0) // SIDE_BY_SIDE * SIDE_BY_SIDE
    root = tmp_path / "store"
    moments = randomness("kill", durable)
    acknowledged: dict[int, list[str]] = {}

    for first in range(0, kills, SIDE_BY_SIDE):
        group = range(first, first + SIDE_BY_SIDE)
        children = {n: spawn("creating", str(root), durable, n) for n in group}
        for number, (child, pipe) in children.items():
            begun = "".join(next_line(pipe) for _ in range(3))  # however slow the disk is
            time.sleep(moments.uniform(0, 0.008))
            acknowledged[number] = (begun + kill(child, pipe)).split()

    disk = files(root)
    final = {key: found for key, found in disk.items() if "/.tmp-" not in key}
    assert len(disk) > len(final), "no kill met a create in the middle: this test tests nothing"
    assert sum(map(len, acknowledged.values())) > 2 * kills, "thousands of creates"
    for child, keys in acknowledged.items():
        assert keys == [key_of(child, number) for number in range(len(keys))]
        assert set(keys) <= final.keys()
    for key, found in final.items():
        assert found == digest(body_of(key)), "a final name leads to the whole of its bytes"

    storage = LocalStorage(root, durable=durable)
    assert sorted(storage.list("")) == sorted(final)
    assert {key: digest(body) for key, body in storage.read_many(final)} == final
    for child, keys in acknowledged.items():
        in_flight = key_of(child, len(keys))
        if in_flight in final:  # it landed, unacknowledged: only its own bytes may claim it
            storage.create(in_flight, body_of(in_flight))
            with pytest.raises(KeyExistsError):
                storage.create(in_flight, b"somebody else's")
        else:
            storage.create(in_flight, b"somebody else's")
    after = files(root)
    for child, keys in acknowledged.items():
        in_flight = key_of(child, len(keys))
        assert after[in_flight] == final.get(in_flight, digest(b"somebody else's"))


@pytest.mark.explored
def test_a_kill_during_repair_leaves_the_old_bytes_or_the_new(tmp_path):
    root = tmp_path / "store"
    moments = randomness("repair")
    whole = [digest(body) for body in SIZES]
    for _ in range(200):
        child, pipe = spawn("repairing", str(root))
        time.sleep(moments.uniform(0.001, 0.01))
        kill(child, pipe)
        assert files(root).get("blobs/x", whole[0]) in whole
    assert list(LocalStorage(root).list("")) == ["blobs/x"]


class Calls:
    """`os` as the module under test sees it; the calls that change names or flush are noted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []

    def __getattr__(self, name: str):
        real = getattr(os, name)
        if name not in {"link", "unlink", "mkdir", "fsync", "replace"}:
            return real

        def call(what, *rest, **options):
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what
            folder, last = os.path.split(os.path.relpath(path, self.root))
            last = "TEMP" if last.startswith(".tmp-") else last
            self.lines.append(f"{name} {os.path.join(folder, last)}")
            return real(what, *rest, **options)

        return call

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls(tmp_path / "store")
    for module in (local, local_care, local_disk, flushing, unfinished):
        monkeypatch.setattr(module, "os", calls)
    return calls


def test_bytes_then_name_then_folder(calls):
    storage = LocalStorage(calls.root)
    storage.create("runs/k/a", b"1")
    calls.take()
    storage.create("runs/k/b", b"2")
    written = ["fsync runs/k/TEMP", "link runs/k/TEMP"]
    ended = ["unlink runs/k/TEMP", "fsync runs/k"]
    assert calls.take() == [*written, *ended]
    storage.create("runs/k/b", b"2")  # there, perhaps by a writer who did not fsync
    assert calls.take() == [*written, "fsync runs/k/b", *ended]
    storage.create("runs/k/b", b"3", repair=True)
    assert calls.take() == [*written, "replace runs/k/TEMP", *ended]


def test_every_new_folder_is_fsynced_into_its_parent(calls):
    LocalStorage(calls.root / "deep/er").create("runs/k/attempts/1", b"1")
    lines = calls.take()
    made = [line.removeprefix("mkdir ") for line in lines if line.startswith("mkdir ")]
    assert {".", "deep", "deep/er", "deep/er/runs/k/attempts"} <= set(made)
    for folder in made:
        parent = os.path.relpath(calls.root / folder / "..", calls.root)
        last = max(n for n, line in enumerate(lines) if line == f"mkdir {folder}")
        assert f"fsync {parent}" in lines[last:]


def test_folders_another_writer_made_are_fsynced_once(calls):
    for folder in ("runs/k/attempts", "runs/k/blobs"):
        (calls.root / folder).mkdir(parents=True)
    storage = LocalStorage(calls.root)
    storage.create("runs/k/attempts/1", b"1")
    assert calls.take()[-4:] == [
        "fsync runs/k/attempts", "fsync runs/k", "fsync runs", "fsync .",
    ]  # fmt: skip
    storage.create("runs/k/blobs/1", b"1")
    assert calls.take()[-2:] == ["fsync runs/k/blobs", "fsync runs/k"]
    storage.create("runs/k/blobs/2", b"1")
    assert calls.take()[-2:] == ["unlink runs/k/blobs/TEMP", "fsync runs/k/blobs"]


def test_not_durable_means_no_fsync_at_all(calls):
    storage = LocalStorage(calls.root, durable=False)
    storage.create("a/b", b"1")
    storage.create("a/b", io.BytesIO(b"1"))
    storage.create("a/b", b"2", repair=True)
    with pytest.raises(KeyExistsError):
        storage.create("a/b", b"3")
    lines = calls.take()
    assert lines.count("link a/TEMP") == 4
    assert not [line for line in lines if line.startswith("fsync")]
