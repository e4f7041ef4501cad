"""`verify` on large runs: what it holds at once does not grow with what is in them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

import runstore
from benchmarks.fixtures import RUN_ID, finished_map
from runstore.records import Consumed
from tests.servers import server
from tests.verified import verified

ITEMS = 5_000
DAG = runstore.Dag.from_json({"nodes": [{"name": "a", "kind": "task", "returns": ["x"]}]})


@contextmanager
def at_most(size: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size, f"{peak:,} bytes"


def test_many_records_are_read_one_by_one(tmp_path: Path) -> None:
    folder = finished_map(str(tmp_path), ITEMS, ("loose",))["loose"]
    run = runstore.open_store(folder).get_run(RUN_ID)
    objects = [path for path in Path(folder).rglob("*") if path.is_file()]
    # 8 MB in 10,006 objects: their names take 2.5 of what is allowed here, the records nothing.
    with at_most(7 << 19):
        checked = sum(problem is None for _, problem in verified(run))
    assert checked == len(objects)


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_of_a_bucket_what_is_under_way_is_held_and_no_more(engine: str) -> None:
    running = server("radosgw")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        url = f"s3://{running.bucket()}/x"
        run = runstore.open_store(url, engine="obstore").create_run(DAG, run_id="r")
        run.begin_invocation("start")

        def one(number: int) -> None:
            attempt = run.begin("a", number=number, consumed=Consumed())
            attempt.succeed({"x": f"{number:06}" * 2_500})  # 15 KB, inline

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, range(1, 501)))
        run = runstore.open_store(url, engine=engine).get_run("r")
        assert all(problem is None for _, problem in islice(verified(run), 200))
        # 7.5 MB of records; of the clients' own some 2 MB, warm by now.
        with at_most(9 << 19):
            assert sum(problem is None for _, problem in verified(run)) == 1003
