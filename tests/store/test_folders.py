"""Files of steps that are at work at the same time: a folder each, and none takes another's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import runstore
from runstore.errors import InputError

DAG = runstore.Dag.from_json(
    {
        "nodes": [
            {"name": "a", "kind": "task"},
            {"name": "b", "kind": "task"},
            {"name": "c", "kind": "task", "after": ["a", "b"]},
        ]
    }
)


def test_a_folder_is_an_attempts_own_and_gone_with_it(tmp_path: Path) -> None:
    run = runstore.open(tmp_path / "s", durable=False).create_run(DAG)
    a, b = run.begin("a"), run.begin("b")
    assert a.folder != b.folder
    for attempt in (a, b):
        Path(attempt.folder, "same.txt").write_text(attempt.path)
        assert attempt.save("*.txt") == ["same.txt"]
    folders = [a.folder, b.folder]
    a.succeed()
    b.fail("no")
    assert not any(map(os.path.exists, folders))


def test_two_at_work_cannot_save_the_same_file(tmp_path: Path) -> None:
    run = runstore.open(tmp_path / "s", durable=False).create_run(DAG)
    a, b = run.begin("a"), run.begin("b")
    (tmp_path / "out.txt").write_text("whose?")
    a.save("out.txt", base=str(tmp_path))
    a.save("out.txt", base=str(tmp_path))
    with pytest.raises(InputError, match=r"b saves 'out.txt', which a saved .* attempt\.folder"):
        b.save("out.txt", base=str(tmp_path))
    a.succeed()
    b.succeed()


def test_one_after_the_other_may(tmp_path: Path) -> None:
    run = runstore.open(tmp_path / "s", durable=False).create_run(DAG)
    (tmp_path / "out.txt").write_text("first")
    for path in ("a", "b", "c"):
        with run.begin(path) as attempt:
            (tmp_path / "out.txt").write_text(path)
            attempt.save("out.txt", base=str(tmp_path))
