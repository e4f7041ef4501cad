"""Every acceptance scenario, on every store.

``RUNSTORE_CASES``: more folders of cases, separated by ``:``. ``RUNSTORE_CASES_STORES``: URLs of
stores to run them on, separated by commas; each scenario gets a fresh prefix below each.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scenario import play  # type: ignore[import-not-found]

HERE = Path(__file__).parent / "cases"


def _folders() -> list[Path]:
    more = os.environ.get("RUNSTORE_CASES", "")
    folders = [HERE, *(Path(folder) for folder in more.split(":") if folder)]
    for folder in folders:
        assert list(folder.glob("*.json")), f"RUNSTORE_CASES names {folder}, which holds no cases"
    return folders


def _stores() -> list[str]:
    named = [url for url in os.environ.get("RUNSTORE_CASES_STORES", "").split(",") if url]
    return named or ["disk", "memory"]


def _cases() -> Iterator[Any]:
    for number, folder in enumerate(_folders()):
        for file in sorted(folder.glob("*.json")):
            for scenario in json.loads(file.read_text(encoding="utf-8")):
                name = f"{file.stem}-{scenario['name']}" + (f"-{number}" if number else "")
                kills = any("kill" in invocation for invocation in scenario["invocations"])
                for store in _stores():
                    # Memory dies with its process: there would be nothing to come back to.
                    if not (kills and store.startswith("memory")):
                        yield pytest.param(scenario, store, id=f"{name}-{store}")


@pytest.mark.parametrize(("scenario", "where"), list(_cases()))
def test_scenario(scenario: dict[str, Any], where: str, tmp_path: Path) -> None:
    if where == "disk":
        url = str(tmp_path)
    elif where == "memory":
        url = f"memory://{uuid.uuid4().hex}"
    else:
        url = f"{where.rstrip('/')}/{uuid.uuid4().hex}"
    play(scenario, url)
