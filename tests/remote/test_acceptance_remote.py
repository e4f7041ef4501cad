"""Every acceptance scenario on buckets: real processes die, and others go on from the bucket."""

from __future__ import annotations

import json
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


def _cases() -> Iterator[Any]:
    for file in sorted((ACCEPTANCE / "cases").glob("*.json")):
        for scenario in json.loads(file.read_text(encoding="utf-8")):
            for store in STORES:
                yield pytest.param(scenario, store, id=f"{file.stem}-{scenario['name']}-{store}")


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
    assert sys.modules["scenario"].runstore.open(url).storage.engine.name == engine
