"""SIGKILL at random moments of `create`, and power cuts: what was acknowledged is there, and
nothing is torn.

Each child creates objects in a tight loop and writes a key to a pipe when `create` has returned.
It is killed a few milliseconds later, wherever it is. The disk is then read with `os` alone.

A power cut cannot be had in a test. What outlives it is what was fsynced in the right order, so
the order of the calls is observed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runstore.errors import KeyExistsError
from runstore.storage import local
from runstore.storage.local import LocalStorage

SIDE_BY_SIDE = 2


def body_of(key: str) -> bytes:
    """Bytes that only this key can have, between 32 bytes and 130 KB of them."""
    digest = hashlib.sha256(key.encode()).digest()
    return digest * (1 + int.from_bytes(digest[:3], "big") % (4096 if digest[3] < 40 else 64))


def key_of(child: int, number: int) -> str:
    return f"runs/k{child % 5}/attempts/c{child:04d}.{number:06d}.start.json"


def spawn(work: Callable[[int], None]) -> tuple[int, int]:
    """Run ``work(pipe)`` in a forked child; its pid, and the end of the pipe to read."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(60)  # a test that fails leaves no child behind
        try:
            os.close(reading)
            work(writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return pid, reading


def kill(pid: int, pipe: int) -> str:
    """Kill one, make sure that it died of this and not of an error, and read what it said."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child failed before it was killed"
    with open(pipe, "rb") as said:
        return said.read().decode()


def files(root: Path) -> dict[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.parametrize(("durable", "kills"), [(True, 400), (False, 400)])
def test_a_kill_loses_nothing_acknowledged_and_tears_nothing(tmp_path, durable, kills):
    root = tmp_path / "store"
    moments = random.Random(kills)
    acknowledged: dict[int, list[str]] = {}

    def creating(child: int) -> Callable[[int], None]:
        def work(pipe: int) -> None:
            storage = LocalStorage(root, durable=durable)
            for number in range(1_000_000):
                key = key_of(child, number)
                body = body_of(key)
                storage.create(key, io.BytesIO(body) if number % 2 else body)
                os.write(pipe, key.encode() + b"\n")

        return work

    for first in range(0, kills, SIDE_BY_SIDE):
        group = range(first, first + SIDE_BY_SIDE)
        children = {child: spawn(creating(child)) for child in group}
        for child, (pid, pipe) in children.items():
            time.sleep(moments.uniform(0, 0.008))
            acknowledged[child] = kill(pid, pipe).split()

    disk = files(root)
    final = {key: body for key, body in disk.items() if "/.tmp-" not in key}
    assert len(disk) > len(final), "no kill met a create in the middle: this test tests nothing"
    assert sum(map(len, acknowledged.values())) > 2 * kills, "thousands of creates, both together"
    for child, keys in acknowledged.items():
        assert keys == [key_of(child, number) for number in range(len(keys))]
        for key in keys:
            assert final[key] == body_of(key)
    for key, body in final.items():
        assert body == body_of(key), "a final name leads to the whole of its bytes"

    storage = LocalStorage(root, durable=durable)
    assert sorted(storage.list("")) == sorted(final)
    assert dict(storage.read_many(final)) == final
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
        assert after[in_flight] == final.get(in_flight, b"somebody else's")


def test_a_kill_during_repair_leaves_the_old_bytes_or_the_new(tmp_path):
    root = tmp_path / "store"
    bodies = [bytes([n]) * 50_000 for n in range(4)]
    moments = random.Random(3)

    def work(pipe: int) -> None:
        storage = LocalStorage(root, durable=False)
        while True:
            for body in bodies:
                storage.create("blobs/x", body, repair=True)
                os.write(pipe, b".")

    for _ in range(80):
        pid, pipe = spawn(work)
        time.sleep(moments.uniform(0.001, 0.01))
        kill(pid, pipe)
        found = files(root).get("blobs/x", bodies[0])
        assert found in bodies
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
    monkeypatch.setattr(local, "os", calls)
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


def test_without_hard_links_bytes_are_fsynced_under_the_final_name(calls, monkeypatch):
    def no_link(*_args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    LocalStorage(calls.root).create("a", b"1")
    lines = calls.take()
    assert lines.index("fsync a") < lines.index("unlink TEMP") < lines.index("fsync .", -2)


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
