"""Takeover across hosts, with real processes and a real server: who holds an attempt, who gives it
up, and what the zombie hears that comes back. The bucket is read by another client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore.errors import AttemptTakenError
from tests.remote.elsewhere import tell, wait_for
from tests.servers import Server

ELSEWHERE = str(Path(__file__).with_name("elsewhere.py"))

PIPELINE = """
import os, time
from pathlib import Path
from runstore import sequence, task

def work():
    gate = Path(os.environ["GATE"])
    if not os.environ.get("HELD"):
        return "the heir's"
    (gate / "begun").touch()
    while not (gate / "go").exists():
        time.sleep(0.005)
    return "the zombie's"

def after(made):
    return made.upper()

pipeline = sequence(task(work, returns="made"), task(after, returns="done"))
"""

DAG = runstore.Dag.from_json({"nodes": [{"name": "work", "kind": "task", "returns": ["made"]}]})

Begin = Callable[..., "subprocess.Popen[str]"]


class World:
    """A bucket, a folder with a pipeline, and processes on several hosts."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.bucket = server.bucket()
        self.url = f"s3://{self.bucket}/store"
        self.gate = folder / "gate"
        self.gate.mkdir()
        (folder / "p.py").write_text(PIPELINE, encoding="utf-8")
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        own = {"GATE": str(self.gate), "RUNSTORE_URL": self.url, "RUNSTORE_CACHE": "off"}
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONUTF8": "1", **own, **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8",
        )  # fmt: skip
        self.begun.append(process)
        return process

    def elsewhere(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return self.begin(ELSEWHERE, *words, **environment)

    def here(self, *words: str) -> tuple[int, str, str]:
        """The real command line: exit code, stdout, stderr."""
        return ended(self.begin("-m", "runstore.cli", *words))

    def records(self, run_id: str = "r") -> dict[str, dict[str, Any]]:
        """Name -> body of each attempt's record, by another client and nothing but json."""
        objects = self.server.objects(self.bucket)
        prefix = attempts(objects, run_id)
        return {
            key.removeprefix(prefix): json.loads(data)["record"]
            for key, data in objects.items()
            if key.startswith(prefix)
        }


def attempts(objects: Mapping[str, bytes], run_id: str) -> str:
    """What the keys of a run's attempts begin with."""
    nonce = json.loads(objects[f"store/runs/{run_id}/run.json"])["record"]["nonce"]
    return f"store/runs/{run_id}/{nonce}/attempts/"


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=90)
    assert "Traceback" not in err, err
    return process.returncode, out, err


@pytest.fixture
def world(radosgw: Server, tmp_path: Path) -> Iterator[World]:
    made = World(radosgw, tmp_path)
    yield made
    for process in made.begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_whole_story_on_the_command_line(world: World) -> None:
    zombie = world.elsewhere("far-away", "cli", "run", "p.py", "--run-id", "r", HELD="1")
    wait_for(world.gate / "begun")
    start = world.records()["work.000001.start.json"]
    assert start["by"]["host"] == "far-away"
    assert start["by"]["pid"] == zombie.pid

    # It waits: nobody here can know whether it is dead.
    plan = json.loads(world.here("plan", "r", "--format", "json")[1])
    assert plan["tasks"] == {"WAIT": 2}  # the step, and what follows it
    for option in ((), ("--takeover", "dead"), ("--takeover", "1h")):
        code, out, err = world.here("retry", "r", "p.py", *option)
        assert (code, out) == (2, "")
        (said,) = (line for line in err.splitlines() if line.startswith("error: "))
        for word in ("work", "far-away", str(zombie.pid), start["time"], "--takeover all"):
            assert word in said, (word, said)
    assert list(world.records()) == ["work.000001.start.json"]

    # It is given up, and done here.
    code, out, err = world.here("retry", "r", "p.py", "--takeover", "all")
    assert code == 0, err
    assert 'done = "THE HEIR\'S"' in out
    after = world.server.objects(world.bucket)
    records = world.records()
    lost = records["work.000001.end.json"]
    assert (lost["outcome"], lost["error"]["type"]) == ("lost", "Lost")
    assert "far-away" in lost["error"]["message"]
    assert lost["ended_by"]["host"] != "far-away"
    assert records["work.000002.end.json"]["outcome"] == "succeeded"

    # It was not dead: it comes back, is refused, says so, and does nothing more.
    tell(world.gate / "go")
    code, out, err = ended(zombie)
    assert code == 0, "the run is done, though not by this process"
    assert "attempt 1 at work was declared lost by" in err
    assert lost["ended_by"]["host"] in err
    assert "this result is refused" in err
    assert "zombie" not in out + err
    assert world.server.objects(world.bucket) == after
    assert not any(b"zombie" in data for data in after.values())


def test_the_zombie_gets_an_error_of_its_own(world: World, engine: str) -> None:
    runstore.open_store(world.url, engine=engine).create_run(DAG, run_id="r")
    zombie = world.elsewhere("far-away", "claim", world.url, engine, str(world.gate))
    wait_for(world.gate / "begun")
    run = runstore.open_store(world.url, engine=engine).get_run("r")
    with pytest.raises(AttemptTakenError, match="far-away") as caught:
        run.begin("work")
    assert caught.value.holder.pid == zombie.pid
    history = run.history()
    (left,) = run.take_over(history)
    assert left.by.host == "far-away"
    assert run.take_over(history, "all") == []
    heir = run.begin("work")
    assert heir.number == 2
    after = world.server.objects(world.bucket)
    tell(world.gate / "go")
    code, out, _ = ended(zombie)
    assert code == 0
    assert out.startswith("AttemptLostError: attempt 1 at work was declared lost by ")
    assert world.server.objects(world.bucket) == after
    heir.succeed({"made": "the heir's"})
    assert run.plan().status == "succeeded"


def test_two_that_take_over_at_once_see_one_end(world: World, engine: str) -> None:
    names = [f"r{number}" for number in range(10)]
    for run_id in names:
        run = runstore.open_store(world.url, engine=engine).create_run(DAG, run_id=run_id)
        run.begin("work")  # by this process, which lives: only `all` gives it up
    both = [
        world.elsewhere(host, "give-up", world.url, engine, str(world.gate))
        for host in ("one", "other")
    ]
    seen = []
    for process in both:
        code, out, err = ended(process)
        assert code == 0, err
        seen.append(json.loads(out))
    assert seen[0] == seen[1]
    assert [run_id for run_id, *_ in seen[0]] == names
    objects = world.server.objects(world.bucket)
    for run_id, outcome, digest, host in seen[0]:
        raw = json.loads(objects[f"{attempts(objects, run_id)}work.000001.end.json"])
        assert outcome == raw["record"]["outcome"] == "lost"
        assert digest == raw["sha256"]
        assert host == raw["record"]["ended_by"]["host"]
        assert host in ("one", "other")


def test_two_commands_that_take_over_at_once_do_the_step_once(world: World) -> None:
    zombie = world.elsewhere("far-away", "cli", "run", "p.py", "--run-id", "r", HELD="1")
    wait_for(world.gate / "begun")
    zombie.kill()  # of which nobody here can know
    both = [
        world.elsewhere(host, "cli", "retry", "r", "p.py", "--takeover", "all")
        for host in ("one", "other")
    ]
    told = [ended(process) for process in both]
    assert 0 in {code for code, _, _ in told}, told
    # The slower one finds the step in progress, or done, or nothing left to do.
    assert {code for code, _, _ in told} <= {0, 2}, told
    records = world.records()
    assert records["work.000001.end.json"]["outcome"] == "lost"
    ends = sorted(name for name in records if name.endswith(".end.json"))
    assert ends == ["after.000001.end.json", "work.000001.end.json", "work.000002.end.json"]
    assert runstore.open_store(world.url).get_run("r").plan().status == "succeeded"
