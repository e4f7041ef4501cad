"""What lies in a store, read with json and hashlib alone."""

from __future__ import annotations

import json
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.places import home

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def record(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    framed: dict[str, Any] = json.loads(data)
    assert framed["sha256"] == sha256(data[86:-1]).hexdigest(), file
    body: dict[str, Any] = framed["record"]
    return body


def run_folder(store: Path, run_key: str = "") -> Path:
    """Where the records of a run lie: of the only one there is, if none is named."""
    if not run_key:
        (run_key,) = (folder.name for folder in (store / "runs").iterdir())
    return home(store, run_key)


def ends(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Path -> the ends of its attempts, by number. Every attempt must have both its files."""
    found = defaultdict(list)
    for file in sorted((folder / "attempts").glob("*.end.json")):
        assert file.with_name(file.name.replace(".end.", ".start.")).exists()
        body = record(file)
        found[body["path"]].append(body)
    assert 2 * sum(map(len, found.values())) == len(list((folder / "attempts").iterdir()))
    return dict(found)


def outcomes(folder: Path) -> dict[str, list[str]]:
    return {path: [end["outcome"] for end in each] for path, each in ends(folder).items()}


def artifact(folder: Path, path: str, name: str) -> bytes:
    """An artifact of the latest attempt at a path."""
    digest = ends(folder)[path][-1]["artifacts"][name]["sha256"]
    data = (folder / "blobs/sha256" / digest[:2] / digest).read_bytes()
    assert sha256(data).hexdigest() == digest
    return data
