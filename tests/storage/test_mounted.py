"""Real file systems that are poor in features, or odd, where a test may mount one: exfat by FUSE,
which has no hard links and no exclusive rename, and overlayfs, which containers have."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstore.errors import KeyExistsError
from runstore.storage import in_place
from runstore.storage.local import LocalStorage
from runstore.upkeep.doctor import examine

FORK = multiprocessing.get_context("fork")
RACERS, KEYS = 4, 100


def ran(*command: str | Path) -> str | None:
    """What a command said; ``None`` if it failed, or is not there."""
    if shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.strip()


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / "mount"
    place.mkdir()
    image.touch()
    os.truncate(image, 64 << 20)
    made = os.geteuid() == 0 and ran("mkfs.exfat", image) is not None
    device = ran("losetup", "-f", "--show", image) if made else None
    if not device:
        pytest.skip("exfat needs root and the packages exfat-fuse and exfatprogs")
    try:
        if ran("mount.exfat-fuse", device, place) is None or not os.path.ismount(place):
            pytest.skip("exfat needs the package exfat-fuse")
        yield place
        subprocess.run(["umount", place], check=True)
    finally:
        ran("losetup", "-d", device)


def test_on_exfat_each_key_has_one_winner_and_nobody_reads_half(exfat):
    start = FORK.Barrier(RACERS)
    told = FORK.Queue()

    def race(number: int) -> None:
        storage = LocalStorage(exfat / "store", durable=False)
        for n in range(KEYS):
            key, body = f"a/{n:04d}", b"%d" % number * 100_000
            start.wait(60)
            try:
                storage.create(key, body)
                told.put((key, number, len(body)))
            except KeyExistsError:
                told.put((key, None, len(storage.read(key))))

    racers = [FORK.Process(target=race, args=(number,)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    heard = [told.get(timeout=120) for _ in range(RACERS * KEYS)]
    for racer in racers:
        racer.join(60)
    assert {size for _, _, size in heard} == {100_000}
    winners = [(key, number) for key, number, _ in heard if number is not None]
    assert sorted(key for key, _ in winners) == [f"a/{n:04d}" for n in range(KEYS)]
    for key, number in winners:
        assert (exfat / "store" / key).read_bytes() == b"%d" % number * 100_000
    assert (exfat / "store" / in_place.NOTE).exists()


def test_the_doctor_tells_of_exfat(exfat):
    (found,) = [each for each in examine(exfat) if each.name == "whole"]
    assert found.ok is None
    assert "a kill or a power cut can leave a part" in found.detail


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    # An overlay cannot stand on one: containers run tests too.
    disk = tmp_path / "disk"
    disk.mkdir()
    root = os.geteuid() == 0
    if not root or ran("mount", "-t", "tmpfs", "none", disk) is None:
        pytest.skip("mounting needs root")
    try:
        for name in ("lower/there", "upper", "work", "merged"):
            (disk / name).mkdir(parents=True)
        layers = f"lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work"
        if ran("mount", "-t", "overlay", "overlay", "-o", layers, disk / "merged") is None:
            pytest.skip("no overlayfs here")
        yield disk / "merged"
        subprocess.run(["umount", disk / "merged"], check=True)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_on_overlayfs_a_batch_flushes_each_file_and_each_new_folder(overlay, monkeypatch):
    flushed = []
    real = os.fsync

    def fsync(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with LocalStorage(overlay / "there/new/store").batch() as quick:
        quick.create("runs/k/a", b"1")
    names = ["there", "there/new", "there/new/store", "there/new/store/runs/k/a"]
    assert {str(overlay / name) for name in names} <= set(flushed)


def test_on_overlayfs_a_linked_temp_file_is_told_from_ours(overlay):
    storage = LocalStorage(overlay / "there/store")
    storage.create("a", b"1")
    storage.create("a", b"1")
    with pytest.raises(KeyExistsError):
        storage.create("a", b"2")
    assert (overlay / "there/store/a").read_bytes() == b"1"
