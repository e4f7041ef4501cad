"""What a large history costs, counted at the wire: the pages of its listing, and what must be read.

Requests do not jitter; how long they take is in ``benchmarks``.
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import runstore
from benchmarks.counting import Counting
from benchmarks.fixtures import RUN_ID, finished_map
from runstore.cache.storage import cached
from runstore.plan import Action
from runstore.storage import Storage, open_storage
from runstore.store import Store
from tests.remote.conftest import Proxy
from tests.servers import Server, server

ITEMS = 1_100
ATTEMPTS = ITEMS + 1  # and the task that lists them
READS = 2 * ATTEMPTS  # each end, and whether it is the end of the start beside it
PAGE = 1000  # keys that S3 lists at a time
PAGES = -(-2 * ATTEMPTS // PAGE)  # of starts and ends

OF_HISTORY = {"LIST packs": 1, "LIST invocations": 1, "LIST attempts": PAGES}


@dataclass
class Bucket:
    """A store with the run in it. Its pack is there or not, as a test needs it."""

    server: Server
    name: str
    pack: tuple[str, bytes]

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def pack_is_there(self, there: bool) -> None:
        key, body = self.pack
        if there:
            self.server.s3().put_object(Bucket=self.name, Key=key, Body=body)
        else:
            self.server.s3().delete_object(Bucket=self.name, Key=key)


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    running = server("radosgw")
    options = {
        "endpoint_url": running.endpoint,
        "key": running.environment["AWS_ACCESS_KEY_ID"],
        "secret": running.environment["AWS_SECRET_ACCESS_KEY"],
    }
    folder = finished_map(str(tmp_path_factory.mktemp("run")), ITEMS, ("both",))["both"]
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    bodies = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    ((pack, body),) = ((key, body) for key, body in bodies.items() if "/packs/" in key)
    del bodies[pack]
    assert sum("/attempts/" in key for key in bodies) == 2 * ATTEMPTS
    name = running.bucket()
    to = open_storage(f"s3://{name}", storage_options=options)
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(to.create, bodies, bodies.values()):
            pass
    return Bucket(running, name, (pack, body))


def counted(proxy: Proxy) -> Counter[str]:
    """Requests since the last time, by method; listings by what is listed."""
    kinds: Counter[str] = Counter()
    for method, path, _ in proxy.log():
        if "list-type" in path:
            found = re.search("attempts|packs|invocations|blobs|run.js", path)
            kinds[f"LIST {found[0] if found else path}"] += 1
        else:
            kinds[method] += 1
    return kinds


def test_without_a_pack_an_attempt_is_two_gets(proxy: Proxy, engine: str, uploaded: Bucket) -> None:
    uploaded.pack_is_there(False)
    run = runstore.open_store(uploaded.url, engine=engine).get_run(RUN_ID)
    assert counted(proxy) == {"GET": 1}  # run.json
    history = run.history()
    assert sum(map(len, history.attempts.values())) == ATTEMPTS
    assert counted(proxy) == {**OF_HISTORY, "GET": READS + 1}  # and the invocation


def test_with_a_pack_three_gets_are_all(proxy: Proxy, engine: str, uploaded: Bucket) -> None:
    uploaded.pack_is_there(True)
    run = runstore.open_store(uploaded.url, engine=engine).get_run(RUN_ID)
    plan = run.plan()
    assert [step.path for step in plan.ready] == [f"each[{ITEMS // 2}]/work"]
    assert counted(proxy) == {**OF_HISTORY, "GET": 3}  # run.json, invocation, pack


def test_ten_thousand_attempts_are_three_reads_with_a_pack(tmp_path: Path) -> None:
    # So many items that their list stands in a blob, which the planner must see.
    folder = finished_map(str(tmp_path), 10_000, ("both",))["both"]
    storage = Counting(open_storage(folder), url="s3://as-of-a-bucket")
    run = Store(storage).get_run(RUN_ID)
    assert storage.requests == {"read": 1}
    assert sum(map(len, run.history().attempts.values())) == 10_001
    assert storage.requests == {"read": 1 + 3, "list": 4}
    assert [key.split("/")[3] for key in storage.read_keys[1:]] == [
        "packs", "invocations", "blobs"
    ]  # fmt: skip


def asked_by_a_plan(storage: Storage, proxy: Proxy) -> Counter[str]:
    plan = Store(storage).get_run(RUN_ID).plan()
    assert sum(step.action is Action.SKIP for step in plan.steps) >= ATTEMPTS - 1
    return counted(proxy)


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_plan_asks_for_the_listings_only(
    proxy: Proxy, uploaded: Bucket, packed: bool, tmp_path: Path
) -> None:
    uploaded.pack_is_there(packed)

    def fresh() -> Storage:
        """As another process opens it."""
        return cached(open_storage(uploaded.url), str(tmp_path))

    first = asked_by_a_plan(fresh(), proxy)
    assert first["GET"] == 2 + (1 if packed else READS)
    second = asked_by_a_plan(fresh(), proxy)
    assert second == {**OF_HISTORY, "LIST run.js": 1}
