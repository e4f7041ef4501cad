"""Exported files as somebody would make them who knows the format and means no good."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runstore
from runstore.dag import Dag
from runstore.errors import RunstoreError
from runstore.store import Run
from runstore.transfer import Limits, export_run, import_run
from tests.transfer.lives import files, memory, objects, of_run, reframed
from tests.verified import verified

Document = dict[str, Any]

SMALL = Dag.from_json(
    {
        "nodes": [
            {"name": "a", "kind": "task", "returns": ["v"]},
            {"name": "b", "kind": "task", "after": ["a"], "params": ["v"]},
        ]
    }
)


def small(value: object = 1) -> Run:
    """A run with a success, a failure, and a file."""
    run = memory().create_run(SMALL, run_id="r")
    run.begin_invocation("start")
    with run.begin("a") as attempt:
        attempt.save_bytes("f", b"file")
        attempt.outputs["v"] = value
    run.begin("b").fail("as planned")
    return run


def exported(run: Run, folder: Path) -> Document:
    export_run(run, folder / "valid.json", artifacts="all")
    return read(folder / "valid.json")


def read(path: Path) -> Document:
    document: Document = json.loads(path.read_bytes())
    return document


def find(document: Document, part: str) -> Document:
    """The one object whose name holds ``part``."""
    (found,) = (o for o in document["objects"] if part in str(o.get("key", "")) or part in o)
    return found  # type: ignore[no-any-return]


def forge(document: Document, part: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the body of a record, and its digest with it."""
    item = find(document, part)
    item["data"] = reframed(item["data"].encode(), change).decode()


def seal(document: Document) -> Document:
    """Count anew, as its last line does."""
    digest, count = hashlib.sha256(), 0
    for item in document["objects"]:
        if "key" in item:
            name, stated = item["key"], item["data"][11:75]
        else:
            kind = "blob" if "blob" in item else "pack"
            stated = item[kind]
            name = (
                f"packs/{stated}.json" if kind == "pack" else f"blobs/sha256/{stated[:2]}/{stated}"
            )
        if not item.get("part"):
            digest.update(f"{name} {stated}\n".encode())
            count += 1
    document["count"] = count
    document["sha256"] = digest.hexdigest()
    return document


def in_lines(document: Document) -> bytes:
    """As runstore writes it."""
    compact: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}
    head = {key: document[key] for key in ("format", "run_id", "run_nonce", "artifacts")}
    tail = {key: document[key] for key in ("count", "sha256")}
    lines = ",\n".join(json.dumps(item, **compact) for item in document["objects"])
    text = json.dumps(head, **compact)[:-1] + ',"objects":[\n' + lines + "\n],"
    return (text + json.dumps(tail, **compact)[1:] + "\n").encode("utf-8", "surrogatepass")


def outcome(data: bytes, folder: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    """What an import of these bytes says: ``""`` for a run. Refused, it has written nothing, which
    is looked for on the raw disk."""
    path, root = folder / "forged.json", folder / "target"
    shutil.rmtree(root, ignore_errors=True)
    path.write_bytes(data)
    try:
        run = import_run(runstore.open_store(root, durable=False), path, limits=limits)
    except RunstoreError as error:
        assert not root.exists(), f"it was refused, and this was written: {list(files(root))}"
        message = str(error)
        assert message.count("\n") == 0
        return f"{type(error).__name__}: {message}"
    # A file without some blob is a valid one: who made it left it out.
    assert not [p for _, p in verified(run) if p is not None and "is missing from" not in p]
    run.plan()
    return ""


def arrived(folder: Path) -> dict[str, bytes]:
    """What an import created, raw."""
    return of_run(files(folder / "target"), packs=False)


def original(run: Run) -> dict[str, bytes]:
    from runstore.store import Store

    return of_run(objects(Store(run.storage)), packs=False)
