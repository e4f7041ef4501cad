"""The figures of remote stores, on a real S3 server on loopback that ``tests/servers`` starts.

Server and client share the machine, so seconds mean little; figure and floor ask the same server
for the same bytes in turn. Where radosgw is not installed, a figure is left out with a note.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.fixtures import RUN_ID, finished_map, map_dag
from benchmarks.measure import Figure, in_turn, median_in_turn, raw_write, timed
from runstore.records import Consumed, keys
from runstore.store import Store, open_store

__all__ = ["remote_attempt", "remote_exec", "remote_history", "remote_pack", "transfer"]

_AT_ONCE = 32
"""Requests that a floor has under way; for obstore more than this is no faster."""

_FOLDER = keys.run_folder(RUN_ID)


class _Bucket:
    """A new bucket, and the clients that a figure and its floor use."""

    def __init__(self, server: Any) -> None:
        self.name: str = server.bucket()
        self.endpoint: str = server.endpoint
        self.key: str = server.environment["AWS_ACCESS_KEY_ID"]
        self.secret: str = server.environment["AWS_SECRET_ACCESS_KEY"]

    def open(self, prefix: str, engine: str = "obstore") -> Store:
        options = {"endpoint_url": self.endpoint, "key": self.key, "secret": self.secret}
        return open_store(f"s3://{self.name}/{prefix}", engine=engine, storage_options=options)

    def obstore(self, prefix: str) -> Any:
        from obstore.store import S3Store

        return S3Store(
            self.name,
            prefix=prefix,
            config={
                "endpoint": self.endpoint,
                "access_key_id": self.key,
                "secret_access_key": self.secret,
                "region": "us-east-1",
            },
            client_options={"allow_http": True},
        )

    def s3fs(self) -> Any:
        return importlib.import_module("s3fs").S3FileSystem(
            key=self.key, secret=self.secret, endpoint_url=self.endpoint,
            config_kwargs={"max_pool_connections": 2 * _AT_ONCE},
            use_listings_cache=False, skip_instance_cache=True,
        )  # fmt: skip

    def put(self, prefix: str, bodies: dict[str, bytes]) -> None:
        """The floor of sending: the same bytes under the same keys, created one request each."""
        import obstore

        to = self.obstore(prefix)

        def send(key: str) -> None:
            obstore.put(to, key, bodies[key], mode="create", use_multipart=False)

        _all(send, bodies)

    def get(self, prefix: str, wanted: Iterable[str]) -> int:
        """The floor of fetching; how many bytes."""
        import obstore

        of = self.obstore(prefix)
        return sum(_all(lambda key: len(obstore.get(of, key).bytes()), wanted))


def _all(work: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(work, names))


def _bucket(figure: str) -> _Bucket | None:
    """On the one server there is; none if it cannot be had."""
    try:
        from tests.servers import find
    except ImportError as error:
        print(f"{figure}: left out: {error}; pip install -e '.[dev]'", file=sys.stderr)
        return None
    server = find("radosgw")
    if isinstance(server, str):
        print(f"{figure}: left out: {server}", file=sys.stderr)
        return None
    return _Bucket(server)


def _bodies(folder: str) -> dict[str, bytes]:
    """Key -> bytes, of a store on the disk."""
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


# -- reading -------------------------------------------------------------------------------------


def read_history(store: Store) -> int:
    """What is measured: the run is opened and its history read."""
    return sum(map(len, store.get_run(RUN_ID).history().attempts.values()))


def read_with_obstore(bucket: _Bucket, prefix: str) -> int:
    """The floor: list the attempts, get their records."""
    import obstore

    pages = obstore.list(bucket.obstore(prefix), _FOLDER)
    listed = [each["path"] for page in pages for each in page]
    return bucket.get(prefix, [key for key in listed if "/attempts/" in key])


def read_with_s3fs(bucket: _Bucket, prefix: str) -> int:
    """The same with s3fs: its ``find``, and its ``_cat_file``, at once and without a HEAD each."""
    import fsspec.asyn

    fs = bucket.s3fs()
    listed = fs.find(f"{bucket.name}/{prefix}/{_FOLDER}")
    wanted = [key for key in listed if "/attempts/" in key]

    async def fetch() -> int:
        turn = asyncio.Semaphore(2 * _AT_ONCE)

        async def one(key: str) -> int:
            async with turn:
                return len(await fs._cat_file(key, max_concurrency=1))

        return sum(await asyncio.gather(*map(one, wanted)))

    size: int = fsspec.asyn.sync(fs.loop, fetch)
    return size


def remote_history(folder: str, count: int = 10_000, rounds: int = 3) -> Iterator[Figure]:
    bucket = _bucket("remote-history")
    if bucket is None:
        return
    store = finished_map(os.path.join(folder, "run"), count, ("loose",))["loose"]
    bucket.put("loose", _bodies(store))
    micro = 1e6 / count
    value, floor = in_turn(
        lambda: read_history(bucket.open("loose")),
        lambda: read_with_obstore(bucket, "loose"),
        rounds,
    )
    yield Figure.within(
        "remote-history", value * micro, "us/item",
        f"history of {count:,} loose attempts, obstore", floor=floor * micro, times=1.3,
    )  # fmt: skip
    value, floor = in_turn(
        lambda: read_history(bucket.open("loose", "fsspec")),
        lambda: read_with_s3fs(bucket, "loose"),
        rounds,
    )
    yield Figure.within(
        "remote-history-s3fs", value * micro, "us/item", "the same with s3fs",
        floor=floor * micro, times=1.2,
    )  # fmt: skip


def remote_pack(folder: str, count: int = 10_000, rounds: int = 5) -> Iterator[Figure]:
    bucket = _bucket("remote-pack")
    if bucket is None:
        return
    stores = finished_map(os.path.join(folder, "run"), count, ("both",))
    bodies = _bodies(stores["both"])
    bucket.put("both", bodies)
    wanted = [key for key in bodies if "/attempts/" not in key]
    micro = 1e6 / count

    def bare() -> int:
        import obstore

        for _ in obstore.list(bucket.obstore("both"), keys.run_folder(RUN_ID)):
            pass
        return bucket.get("both", wanted)

    value, floor = in_turn(lambda: read_history(bucket.open("both")), bare, rounds)
    yield Figure(
        "remote-pack", value * micro, "us/item",
        "the same with a pack; the floor lists, and gets the pack unread", floor * micro,
    )  # fmt: skip


# -- writing -------------------------------------------------------------------------------------


def remote_attempt(_: str, count: int = 300) -> Iterator[Figure]:
    bucket = _bucket("remote-attempt")
    if bucket is None:
        return
    import obstore

    run = bucket.open("store").create_run(map_dag(), {})
    run.begin_invocation("start")
    bare = bucket.obstore("bare")

    def attempt(i: int) -> None:
        run.begin("list", number=i + 1, consumed=Consumed()).succeed({"items": [i]})

    def floor(i: int) -> None:
        for kind in ("start", "end"):
            obstore.put(bare, f"{i}.{kind}.json", b"x" * 700, mode="create")

    value, least = median_in_turn(attempt, floor, count)
    yield Figure(
        "remote-attempt", value * 1e3, "ms", "start and end of an attempt, obstore, one thread",
        least * 1e3,
    )  # fmt: skip


def remote_exec(folder: str, rounds: int = 9) -> Iterator[Figure]:
    """A pod with a step that is done, and one that does its step, with all that they import."""
    bucket = _bucket("remote-exec")
    if bucket is None:
        return
    file = os.path.join(folder, "p.yaml")
    with open(file, "w") as target:
        target.write("steps: [{name: a, command: 'true'}]")
    environment = os.environ | {
        "AWS_ENDPOINT_URL": bucket.endpoint, "AWS_ACCESS_KEY_ID": bucket.key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret, "AWS_REGION": "us-east-1",
    }  # fmt: skip

    def pod(run: str) -> float:
        words = ("exec", run, "a", "--pipeline", file, "--store", f"s3://{bucket.name}/store")
        return _cpu(sys.executable, "-m", "runstore.cli", *words, "--start", env=environment)

    def nothing() -> float:
        return _cpu(sys.executable, "-c", "pass", env=environment)

    pod("done")
    pairs = [(pod("done"), nothing()) for _ in range(rounds)]
    value, floor = (statistics.median(each) for each in zip(*pairs, strict=True))
    what = "CPU of runstore exec of a step that is done, above a process that does nothing"
    yield Figure.below(
        "remote-exec-done", (value - floor) * 1e3, "ms", what, goal=150, floor=floor * 1e3
    )
    pairs = [(pod(f"run{i}"), nothing()) for i in range(rounds)]
    value, floor = (statistics.median(each) for each in zip(*pairs, strict=True))
    what = "the same, of one that makes the run and the step"
    yield Figure("remote-exec", (value - floor) * 1e3, "ms", what, floor * 1e3)


def _cpu(*words: str, env: dict[str, str]) -> float:
    """Seconds of CPU of a process and its children: what others do on the machine is not in it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


# -- moving --------------------------------------------------------------------------------------


def transfer(folder: str, count: int = 10_000, rounds: int = 3) -> Iterator[Figure]:
    """``count`` records: the start and the end of half as many attempts."""
    from runstore.transfer import transfer_run

    bucket = _bucket("transfer")
    if bucket is None:
        return
    source = finished_map(os.path.join(folder, "run"), count // 2, ("loose",))["loose"]
    bodies = _bodies(source)
    micro = 1e6 / count

    def fresh() -> str:
        return uuid.uuid4().hex

    value, floor = in_turn(
        lambda: transfer_run(open_store(source), RUN_ID, bucket.open(fresh())),
        lambda: bucket.put(fresh(), bodies),
        rounds,
    )
    yield Figure.within(
        "transfer-push", value * micro, "us/record",
        f"push of {count:,} records; the floor creates the same objects", floor=floor * micro,
        times=1.3,
    )  # fmt: skip

    bucket.put("all", bodies)

    def pull() -> None:
        transfer_run(bucket.open("all"), RUN_ID, open_store(os.path.join(folder, fresh())))

    def write() -> None:
        raw = os.path.join(folder, fresh())
        os.mkdir(raw)

        def one(key: str) -> None:
            raw_write(raw, key.replace("/", "-"), bodies[key], durable=True)

        _all(one, bodies)

    taken = [
        (timed(pull), timed(lambda: bucket.get("all", bodies)), timed(write)) for _ in range(rounds)
    ]
    value, fetched, written = (min(each) for each in zip(*taken, strict=True))
    yield Figure.within(
        "transfer-pull", value * micro, "us/record",
        "pull of the same, durable; the floor is the slower of get and write",
        floor=max(fetched, written) * micro, times=1.3,
    )  # fmt: skip
