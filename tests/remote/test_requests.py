"""What it costs, counted at the wire. Requests do not jitter."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import runstore
from runstore.records import Consumed
from runstore.storage import open_storage
from tests.remote.conftest import Proxy
from tests.servers import server


@pytest.fixture
def run(proxy: Proxy, engine: str):
    url = f"s3://{proxy.upstream.bucket()}/store"
    dag = runstore.Dag.from_json(
        {"nodes": [{"name": name, "kind": "task"} for name in ("a", "b", "c")]}
    )
    run = runstore.open_store(url, engine=engine).create_run(dag, run_id="r")
    run.begin_invocation("start")
    proxy.log()
    return run


def counted(proxy: Proxy) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for method, path, _ in proxy.log():
        kinds["LIST" if "list-type" in path else method] += 1
    return kinds


AN_ATTEMPT = {"PUT": 2, "HEAD": 2}
"""After each record, one question: whether the run is still there."""


def test_an_attempt_is_two_puts_when_its_number_is_known(proxy, run):
    attempt = run.begin("a", number=1, consumed=Consumed())
    attempt.succeed()
    assert counted(proxy) == AN_ATTEMPT


def test_an_attempt_is_one_list_more_when_its_number_is_not_known(proxy, run):
    run.begin("b", consumed=Consumed()).succeed()
    found = counted(proxy)
    assert found.pop("LIST") <= 1
    assert found == AN_ATTEMPT


def test_a_read_is_one_get_and_a_listing_one_list(proxy, engine):
    storage = open_storage(f"s3://{proxy.upstream.bucket()}/x", engine=engine)
    for n in range(20):
        storage.create(f"a/{n}", b"1")
    assert counted(proxy) == {"PUT": 20}
    storage.read("a/1")
    assert counted(proxy) == {"GET": 1}
    assert len(list(storage.read_many([f"a/{n}" for n in range(20)]))) == 20
    assert counted(proxy) == {"GET": 20}
    for prefix in ("a/", "a/1", "nothing/", "nothing/at", ""):
        list(storage.list(prefix))
        assert counted(proxy) == {"LIST": 1}, prefix
    list(storage.list("a/", shallow=True))
    assert counted(proxy) == {"LIST": 1}


@pytest.fixture(scope="module")
def full() -> str:
    """A bucket with a full folder, written past the proxy and many at a time."""
    running = server("radosgw")
    bucket, s3 = running.bucket(), running.s3()

    def put(n: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"a/{n:05d}.x", Body=b"x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(0, 4000, 2)))
    return bucket


def test_a_few_keys_of_a_full_folder_are_one_list(proxy, engine, full):
    # Of 10,000 siblings a pod lists its own: the requests do not grow with the run.
    storage = open_storage(f"s3://{full}", engine=engine)
    assert list(storage.list("a/01234.")) == ["a/01234.x"]
    assert list(storage.list("a/01235.")) == []
    assert counted(proxy) == {"LIST": 2}
    assert len(list(storage.list("a/"))) == 2000
    assert counted(proxy)["LIST"] in (2, 3)
