"""``runstore exec`` on a bucket: what a step costs at the wire, and many pods at one step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import runstore
from runstore.executor.node import Request, run_node
from runstore.pipeline import Pipeline
from tests.remote.conftest import Proxy
from tests.servers import Server


def made() -> Pipeline:
    nodes = [
        runstore.task(lambda: 1, name="a", returns="x"),
        runstore.task(lambda: 2, name="b", returns="y"),
        runstore.task(lambda x, y: x + y, name="c", after=("a", "b"), returns="z"),
    ]
    return Pipeline(runstore.Dag(nodes))


def counted(proxy: Proxy) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for method, path, _ in proxy.log():
        kinds["LIST" if "list-type" in path else method] += 1
    return kinds


def test_a_step_is_two_puts_and_a_list_and_a_get_for_what_it_reads(proxy: Proxy, engine: str):
    url = f"s3://{proxy.upstream.bucket()}/store"
    opened = lambda: runstore.open_store(url, engine=engine)  # noqa: E731
    opened().create_run(made().dag, run_id="r")
    for path in ("a", "b"):
        assert run_node(Request("r", path, pipeline=made()), opened()).status == "succeeded"
    proxy.log()
    assert run_node(Request("r", "c", pipeline=made()), opened()).status == "succeeded"
    assert counted(proxy) == {
        "PUT": 2,
        "LIST": 3 + 1,  # the node, the two that it follows; and the invocations
        "GET": 2 + 3,  # the two; and run.json, twice, and the invocation
        "HEAD": 2,  # after each PUT: is the run still there?
    }
    assert run_node(Request("r", "c", pipeline=made()), opened()).status == "succeeded"
    assert counted(proxy) == {"LIST": 3 + 1, "GET": 3 + 2}


def test_of_many_processes_that_start_a_run_one_makes_the_step(radosgw: Server, tmp_path):
    bucket = radosgw.bucket()
    file = tmp_path / "p.yaml"
    file.write_text("steps: [{name: a, command: 'echo made'}]")
    words = [sys.executable, "-m", "runstore.cli", "exec", "r", "a", "--store", f"s3://{bucket}/s",
             "--pipeline", str(file), "--start", "--wait", "2m"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RUNSTORE_")}
    at_once = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(6)
    ]
    results = [(*process.communicate(timeout=200), process.returncode) for process in at_once]
    assert [code for _, _, code in results] == [0] * 6, results
    assert sorted(out for out, _, _ in results) == [b""] * 5 + [b"made\n"]
    listed = radosgw.s3().list_objects_v2(Bucket=bucket)["Contents"]
    names = sorted(each["Key"].rpartition("/")[2] for each in listed if "/attempts/" in each["Key"])
    assert names == ["a.000001.end.json", "a.000001.start.json"]
    assert sum(each["Key"].endswith("run.json") for each in listed) == 1
    (end,) = (each["Key"] for each in listed if each["Key"].endswith("end.json"))
    record = json.loads(radosgw.s3().get_object(Bucket=bucket, Key=end)["Body"].read())["record"]
    assert (record["outcome"], record["invocation"]) == ("succeeded", "exec")
