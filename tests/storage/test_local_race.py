"""Many processes want the same keys: each key gets one winner, who knows it, and nobody else
believes it.

The racers report what `create` told them; the disk itself says who really won.
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from runstore.errors import KeyExistsError
from runstore.storage import in_place, local, local_disk
from runstore.storage.local import LocalStorage

FORK = multiprocessing.get_context("fork")  # a racer starts in a millisecond
RACERS = 8
HEAT = 40


def body_of(racer: int, key: str) -> bytes:
    """Another one for every racer and key, with its own digest, some longer than a page."""
    text = f"{racer} {key} ".encode() * (1 + hash(key) % 200)
    return hashlib.sha256(text).hexdigest().encode() + text


def is_whole(body: bytes) -> bool:
    return hashlib.sha256(body[64:]).hexdigest().encode() == body[:64]


def on_disk(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    names = {path: str(path.relative_to(root)) for path in files}
    return {name: path.read_bytes() for path, name in names.items() if name != in_place.NOTE}


def run_all(racers) -> None:
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * len(racers)


def race(tmp_path: Path, keys: list[str], *, durable: bool) -> dict[str, bytes]:
    """Let them race; check that all agree with the disk; give back what is on the disk."""
    root = tmp_path / "store"
    start = FORK.Barrier(RACERS)

    def racer(number: int) -> None:
        storage = LocalStorage(root, durable=durable)
        told: dict[str, bool] = {}
        for heat in range(0, len(keys), HEAT):
            wanted = keys[heat : heat + HEAT]
            if heat // HEAT % 2:  # in one heat all go head-on, in the next each begins elsewhere
                begin = number * len(wanted) // RACERS
                wanted = wanted[begin:] + wanted[:begin]
            start.wait(30)  # again and again: a leader would win all, and nobody race
            for key in wanted:
                try:
                    storage.create(key, body_of(number, key))
                    told[key] = True
                except KeyExistsError:
                    told[key] = False
        (tmp_path / f"{number}.json").write_text(json.dumps(told))

    run_all([FORK.Process(target=racer, args=(n,)) for n in range(RACERS)])
    told = [json.loads((tmp_path / f"{n}.json").read_text()) for n in range(RACERS)]
    disk = on_disk(root)
    assert sorted(disk) == sorted(keys), "every key was won, and no temp file is left"
    for key in keys:
        winners = [n for n in range(RACERS) if told[n][key]]
        assert len(winners) == 1, key
        assert disk[key] == body_of(winners[0], key)
    wins = Counter(n for n in range(RACERS) for won in told[n].values() if won)
    assert len(wins) > 1, "they did not race"
    return disk


@pytest.mark.parametrize(("durable", "count"), [(False, 2000), (True, 400)])
def test_one_winner_for_each_key(tmp_path, durable, count):
    keys = [f"runs/k{n % 7}/attempts/n{n:05d}.000001.start.json" for n in range(count)]
    race(tmp_path, keys, durable=durable)


@pytest.mark.parametrize("durable", [False, True])
def test_one_winner_while_a_backup_links_every_file(tmp_path, durable):
    """A hard-linking backup (cp -al, rsnapshot) works on the store: it finds unfinished writes too,
    and gives them a second name."""
    done = FORK.Event()
    linked = FORK.Value("i", 0)

    def backup() -> None:
        copy = tmp_path / "backup"
        copy.mkdir()
        while not done.is_set():
            for folder, _, names in os.walk(tmp_path / "store"):
                for name in names:
                    with suppress(OSError):
                        os.link(f"{folder}/{name}", copy / f"{linked.value}-{name}")
                        linked.value += name.startswith(".tmp-")

    links = [FORK.Process(target=backup) for _ in range(2)]
    for process in links:
        process.start()
    try:
        race(tmp_path, [f"runs/k/a{n:05d}.json" for n in range(600)], durable=durable)
    finally:
        done.set()
        for process in links:
            process.join(60)
    assert linked.value, "it linked no unfinished write: this test tests nothing"


def test_one_winner_for_each_key_while_folders_are_made(tmp_path):
    race(tmp_path, [f"runs/k{n}/attempts/{n % 3}/start.json" for n in range(300)], durable=False)


@pytest.mark.parametrize("renames", [True, False])
def test_one_winner_without_hard_links(tmp_path, monkeypatch, renames):
    def no_link(*_args, **_options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)  # inherited by the racers
    if not renames:
        monkeypatch.setattr(local_disk, "_rename_if_free", lambda *_: False)
    race(tmp_path, [f"runs/k/attempts/n{n:05d}.json" for n in range(1000)], durable=False)


def test_nobody_reads_a_part_of_an_object(tmp_path):
    root = tmp_path / "store"
    keys = [f"a/n{n:05d}.json" for n in range(1500)]
    done = FORK.Event()

    def reader() -> None:
        storage = LocalStorage(root)
        seen: set[str] = set()
        while True:
            last = done.is_set()
            listed = set(storage.list("a/"))
            assert listed >= seen, "an object that was listed is listed ever after"
            for key, body in storage.read_many(listed - seen):
                assert isinstance(body, bytes)
                assert is_whole(body), key
            seen = listed
            if last:
                assert sorted(seen) == keys
                return
            time.sleep(0)

    watching = [FORK.Process(target=reader) for _ in range(2)]
    for process in watching:
        process.start()
    storage = LocalStorage(root, durable=False)
    try:
        for number, key in enumerate(keys):
            storage.create(key, body_of(number, key))
    finally:
        done.set()
        for process in watching:
            process.join(60)
    assert [process.exitcode for process in watching] == [0, 0]


def test_all_who_bring_the_same_bytes_succeed(tmp_path):
    root = tmp_path / "store"
    keys = [f"blobs/{n:04d}" for n in range(300)]
    start = FORK.Barrier(RACERS)

    def racer() -> None:
        storage = LocalStorage(root, durable=False)
        start.wait(30)
        for key in keys:
            storage.create(key, body_of(0, key), repair=int(key[-1]) % 2 == 0)

    run_all([FORK.Process(target=racer) for _ in range(RACERS)])
    assert on_disk(root) == {key: body_of(0, key) for key in keys}


@pytest.mark.parametrize("durable", [False, True])
def test_threads_share_one_storage(tmp_path, durable, monkeypatch):
    # A small cache of folders, so that emptying it is raced as well.
    monkeypatch.setattr(local, "_ANCHORS", 5)
    storage = LocalStorage(tmp_path / "store", durable=durable)
    keys = [f"runs/k{n % 9}/{n:04d}" for n in range(200 if durable else 500)]
    won: list[tuple[str, int]] = []
    errors: list[BaseException] = []
    start = threading.Barrier(RACERS)

    def racer(number: int) -> None:
        start.wait(30)
        try:
            for key in keys:
                try:
                    storage.create(key, body_of(number, key))
                    won.append((key, number))
                except KeyExistsError:
                    assert storage.read(key) != body_of(number, key)
        except BaseException as error:  # noqa: BLE001 - a thread must not swallow it
            errors.append(error)

    threads = [threading.Thread(target=racer, args=(n,)) for n in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(key for key, _ in won) == sorted(keys)
    assert on_disk(tmp_path / "store") == {key: body_of(number, key) for key, number in won}
