"""Acceptance scenarios on buckets: real processes die, and others go on from the bucket.

Most scenarios differ in what the planner decides, which it does without a storage, and which
``tests/acceptance`` holds for all of them. Here are those that differ in what they ask of a
storage; with ``RUNSTORE_HYPOTHESIS=explore`` (``make explore``) here is every one.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.remote.conftest import enter
from tests.servers import server

ACCEPTANCE = Path(__file__).parents[1] / "acceptance"

# What an installation has: obstore where it is installed, fsspec where it is not, or must be.
STORES = {
    "radosgw-fsspec": ("radosgw", "fsspec"),
    "radosgw-obstore": ("radosgw", "obstore"),
    "fake-gcs": ("fake-gcs", "fsspec"),
}

ASKED = {
    "linear-killed": "what a killed process left is read by another, which ends an attempt for it",
    "loop-killed-in-the-third-iteration": "the same, where the killed one left many records",
    "a-force-outlives-a-crash": "a forced invocation has a key of its own; its process is killed",
    "retry-of-a-retry": "four invocations: later ones find the packs and records of all earlier",
    "retry-of-a-succeeded-run": "all is read, and nothing written",
    "run-id-taken": "a create that must lose",
    "unknown-run": "reads and lists what is not there, in a store that is not there",
    "fork-with-another-parameter": "one run takes over records and values of another",
    "fork-uses-a-failed-run": "the same, from one that failed",
    "map-last-step-of-one-item-fails": "the most creates side by side",
    "map-awkward-items": "keys that must be spelt with care",
    "structure-order-is-no-change": "an invocation that brings a DAG of its own",
}
"""Scenario -> what it asks of a storage that no other here does."""

EVERY = os.environ.get("RUNSTORE_HYPOTHESIS") == "explore"


def _cases() -> Iterator[Any]:
    left = set(ASKED)
    for file in sorted((ACCEPTANCE / "cases").glob("*.json")):
        for scenario in json.loads(file.read_text(encoding="utf-8")):
            left.discard(scenario["name"])
            if not (EVERY or scenario["name"] in ASKED):
                continue
            for store in STORES:
                yield pytest.param(scenario, store, id=f"{file.stem}-{scenario['name']}-{store}")
    assert not left, f"no such scenario: {left}"


@pytest.fixture(scope="module")
def buckets() -> dict[str, str]:
    return {}


@pytest.mark.parametrize(("scenario", "store"), list(_cases()))
def test_scenario_on_a_bucket(
    scenario: dict[str, Any],
    store: str,
    buckets: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, engine = STORES[store]
    running = server(name)
    enter(monkeypatch, running)
    if store == "radosgw-fsspec":
        # Settings of fsspec's own, which the other engine does not read: in the children, too.
        monkeypatch.setenv("FSSPEC_S3_KEY", running.environment["AWS_ACCESS_KEY_ID"])
        monkeypatch.setenv("FSSPEC_S3_SECRET", running.environment["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.syspath_prepend(str(ACCEPTANCE))
    play = __import__("scenario").play
    if store not in buckets:
        buckets[store] = running.bucket()
    url = f"{running.scheme}://{buckets[store]}/{uuid.uuid4().hex}"
    play(scenario, url)
    assert sys.modules["scenario"].runstore.open_store(url).storage.engine.name == engine
