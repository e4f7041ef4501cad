"""64 writers in 8 processes on one key, 200 keys, on a real server: one winner each."""

from __future__ import annotations

import time

from tests.remote.writers import check, race

KEYS = [f"race/{n:03d}" for n in range(200)]


def test_one_of_64_writers_wins_each_of_200_keys(radosgw, engine):
    bucket = radosgw.bucket()
    began = time.monotonic()
    told = race(f"s3://{bucket}", engine, KEYS, processes=8, threads=8)
    seconds = time.monotonic() - began
    outcomes = check(told, radosgw.objects(bucket), writers=64)
    assert outcomes == {"won": 200, "lost": 200 * 63}
    assert seconds < 120, f"{seconds:.0f} s"  # some 20 s on two cores of 2025
