"""A run that was moved resumes exactly like one that stayed: every acceptance scenario again, with
a move between all its invocations."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore.transfer import export_run, import_run, transfer_run
from tests.acceptance.scenario import play
from tests.remote.conftest import enter
from tests.remote.test_acceptance_remote import ASKED, EVERY
from tests.servers import server

CASES = [
    pytest.param(scenario, id=f"{file.stem}-{scenario['name']}")
    for file in sorted((Path(__file__).parents[1] / "acceptance" / "cases").glob("*.json"))
    for scenario in json.loads(file.read_text(encoding="utf-8"))
    if len(scenario["invocations"]) > 1
]


@pytest.mark.parametrize("scenario", CASES)
def test_exported_and_imported(scenario: dict[str, Any], tmp_path: Path) -> None:
    moves = 0

    def move(url: str) -> str:
        nonlocal moves
        moves += 1
        store = runstore.open_store(url)
        target = runstore.open_store(tmp_path / f"store{moves}", durable=False)
        for run_id in store.run_ids():
            export_run(store.get_run(run_id), tmp_path / "run.json")
            import_run(target, tmp_path / "run.json")
        return target.url

    play(scenario, str(tmp_path / "store0"), between=move)
    assert moves == len(scenario["invocations"]) - 1


@pytest.mark.parametrize("scenario", CASES)
def test_pushed_and_pulled(scenario: dict[str, Any], tmp_path: Path) -> None:
    """To and fro between two stores, as between a laptop and a bucket."""

    def move(url: str) -> str:
        other = tmp_path / ("bucket" if url.endswith("laptop") else "laptop")
        store, target = runstore.open_store(url), runstore.open_store(other, durable=False)
        for run_id in store.run_ids():
            transfer_run(store, run_id, target)
        return target.url

    play(scenario, str(tmp_path / "laptop"), between=move)


IN_A_BUCKET = [case for case in CASES if EVERY or case.values[0]["name"] in ASKED]
"""Those that differ in what they ask of a storage; the others are moved between disks, above."""


@pytest.fixture(scope="module")
def bucket() -> str:
    return server("radosgw").bucket()


@pytest.mark.parametrize("scenario", IN_A_BUCKET)
def test_pushed_to_a_bucket_and_pulled(
    scenario: dict[str, Any], tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other invocation on the laptop, the others on the real server."""
    enter(monkeypatch, server("radosgw"))
    laptop, remote = str(tmp_path / "laptop"), f"s3://{bucket}/{uuid.uuid4().hex}"
    moves = 0

    def move(url: str) -> str:
        nonlocal moves
        moves += 1
        there = laptop if url == remote else remote
        store, target = runstore.open_store(url), runstore.open_store(there, durable=False)
        for run_id in store.run_ids():
            transfer_run(store, run_id, target)
        return there

    play(scenario, laptop, between=move)
    assert moves == len(scenario["invocations"]) - 1
