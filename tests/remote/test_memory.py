"""Blobs that are large pass in pieces, on their way to a bucket, in it and from it."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import runstore
from runstore.transfer import export_run, import_run, transfer_run
from tests.servers import Server
from tests.verified import verified

SIZE = 128 << 20
MOST = 80 << 20  # parts of 8 MiB, some of them on their way, twice

DAG = runstore.Dag.from_json({"nodes": [{"name": "a", "kind": "task"}]})


@contextmanager
def small(what: str) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST, f"{what}: {peak >> 20} MiB"


def test_artifacts_are_never_held_whole(radosgw: Server, engine: str, tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    store = runstore.open_store(f"s3://{radosgw.bucket()}/store", engine=engine)
    run = store.create_run(DAG, run_id="r")
    attempt = run.begin("a")
    with small("save"):
        attempt.save("large", base=str(tmp_path))
    attempt.succeed()
    os.unlink(tmp_path / "large")
    with small("verify"):
        assert [problem for _, problem in verified(run) if problem] == []
    with small("export"):
        export_run(run, tmp_path / "r.json", artifacts="all")
    assert (tmp_path / "r.json").stat().st_size > SIZE
    with small("import"):
        imported = import_run(
            runstore.open_store(tmp_path / "back", durable=False), tmp_path / "r.json"
        )
    assert imported is not None
    (tmp_path / "r.json").unlink()
    with small("pull"):
        transfer_run(store, "r", runstore.open_store(tmp_path / "pulled", durable=False))
    for name in ("back", "pulled"):
        blobs = [path for path in (tmp_path / name).glob("runs/r/*/blobs/**/*") if path.is_file()]
        assert [path.stat().st_size for path in blobs] == [SIZE]


def test_a_damaged_blob_is_found_in_a_bucket(radosgw: Server, engine: str) -> None:
    bucket = radosgw.bucket()
    run = runstore.open_store(f"s3://{bucket}/store", engine=engine).create_run(DAG, run_id="r")
    attempt = run.begin("a")
    attempt.save_bytes("x", b"x" * 20_000)
    attempt.succeed()
    assert {problem for _, problem in verified(run)} == {None}
    (key,) = (key for key in radosgw.objects(bucket) if "/blobs/" in key)
    radosgw.s3().put_object(Bucket=bucket, Key=key, Body=b"y" * 20_000)
    ((found, problem),) = ((k, p) for k, p in verified(run) if p)
    assert key.endswith(found)
    assert problem is not None
