"""Runs of all kinds in real stores, and a look at what lies there without the code under test."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runstore
from runstore.dag import Dag
from runstore.plan import Step, expand
from runstore.records import Blob
from runstore.store import Run, Store
from tests.planning.generate import PARAMETERS, returns

RUN_ID = "a run/ä"


def memory() -> Store:
    return runstore.open_store(f"memory://{uuid.uuid4().hex}")


def objects(store: Store) -> dict[str, bytes]:
    """Every object of a memory store, raw."""
    return dict(store.storage._objects)  # type: ignore[attr-defined]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, raw; temp files too."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def of_run(objects: dict[str, bytes], *, packs: bool = True) -> dict[str, bytes]:
    """Without what is the store's own, its marker and the invocations that say how a run arrived;
    and perhaps without packs."""
    return {
        key: data
        for key, data in objects.items()
        if key.startswith("runs/") and (packs or "/packs/" not in key) and not is_arrival(data)
    }


def is_arrival(data: bytes) -> bool:
    """Whether this is the invocation that an import or a pull wrote."""
    return b'"kind":"invocation"' in data[:200] and (
        b'"mode":"import"' in data or b'"mode":"pull"' in data
    )


def live(store: Store, dag: Dag, seed: int, run_id: str = RUN_ID) -> Run:
    """One to three invocations: steps fail, are left open, save files, give large values."""
    choose = random.Random(seed)
    parameters: dict[str, Any] = {**PARAMETERS, "unused": "x" * choose.choice([1, 20_000])}
    run = store.create_run(dag, parameters, run_id=run_id, labels={"team": "ä"})
    for count in range(choose.randint(1, 3)):
        invoke(run, choose, "retry" if count else "start")
    return run


def invoke(run: Run, choose: random.Random, mode: Any, *, most: int = 40) -> None:
    history = run.history()
    known = list(history.paths())
    force = [choose.choice(known)] if known and choose.random() < 0.4 else []
    forces = expand(force, run.dag, history, run.plan(history=history)) if force else {}
    run.begin_invocation(mode, force=forces, command=["python", "x.py"], code={"git": "abc"})
    run.take_over(run.history(), "all")
    if choose.random() < 0.7:
        run.writer.pack.begin()
    for _ in range(choose.randint(1, most)):
        ready = run.plan().ready
        if not ready:
            break
        step(run, choose.choice(ready), choose)
    run.writer.pack.write()


def step(run: Run, step: Step, choose: random.Random) -> None:
    attempt = run.begin(step)
    if choose.random() < 0.1:
        return  # left open
    for name in ("one.txt", "data/two.bin"):
        if choose.random() < 0.2:
            attempt.save_bytes(name, choose.randbytes(choose.choice([0, 9, 70_000])))
    if choose.random() < 0.15:
        attempt.fail("as planned")
        return
    assert step.work is not None
    params = run.materialise(step.work.params, step.path)
    given = returns(step.path, step.work.task.returns, params, choose.randint(0, 1))
    for name in given:
        if name[0] == "v" and choose.random() < 0.2:
            given[name] = f"large {name}" * 3_000
    attempt.succeed(given)


def told(run: Run) -> dict[str, Any]:
    """All that a store tells of a run: plan with evidence, digests, forces."""
    run = Store(run.storage).get_run(run.run_id)  # as somebody who comes anew
    history = run.history()
    return {
        "plan": run.plan(history=history).to_json(),
        "attempts": {
            path: [(a.attempt, getattr(a, "digest", "")) for a in attempts]
            for path, attempts in history.attempts.items()
        },
        "adopted": {path: end.digest for path, end in history.adopted.items()},
        "invocations": {i.id: i.digest for i in history.invocations.values() if i.mode != "import"},
        "forces": dict(history.forces),
        "run": history.run.digest,
        "damaged": [d.key for d in history.damaged],
        "missing": sorted(history.missing),
        "parameters": dict(run.parameters()),
        "values": {n: run.blobs.load(v) if type(v) is Blob else v for n, v in run.values().items()},
    }


def reframed(framed: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A record that was changed by somebody who can count: its digest fits."""
    import hashlib
    import json

    body = json.loads(framed[86:-1])
    changed = change(body)
    text = changed if isinstance(changed, str) else json.dumps(body, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"sha256":"{digest}","record":{text}}}'.encode()
