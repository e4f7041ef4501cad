"""64 writers in 8 processes on one key, key after key, on a real server: one winner each."""

from __future__ import annotations

import pytest

from tests.exploration import PROFILE
from tests.remote.writers import check, race

KEYS = [f"race/{n:03d}" for n in range(200 if PROFILE == "explore" else 60)]


@pytest.mark.explored
def test_one_of_64_writers_wins_each_key(radosgw, engine):
    bucket = radosgw.bucket()
    told = race(f"s3://{bucket}", engine, KEYS, processes=8, threads=8)
    outcomes = check(told, radosgw.objects(bucket), writers=64)
    assert outcomes == {"won": len(KEYS), "lost": len(KEYS) * 63}
