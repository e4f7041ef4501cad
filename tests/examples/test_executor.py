"""The home-made scheduler: each step once, the failed one again."""

from __future__ import annotations

import runpy
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import runstore
from tests.examples.raw import EXAMPLES, outcomes, run_folder


@pytest.fixture
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "executor/schedule.py"))


def test_it_tells_its_story(
    example: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example["main"](str(tmp_path))
    assert capsys.readouterr().out == (
        "first time:\n"
        "  items\n"
        '  price["tea"]/look_up\n'
        '  price["milk"]/look_up\n'
        'it failed: TypeError: can only concatenate str (not "int") to str\n'
        "resumed, with the fix:\n"
        '  price["milk"]/look_up\n'
        "  add\n"
        "sum: 5\n"
    )
    assert outcomes(run_folder(tmp_path)) == {
        "items": ["succeeded"],
        'price["tea"]/look_up': ["succeeded"],
        'price["milk"]/look_up': ["failed", "succeeded"],
        "add": ["succeeded"],
    }


def test_two_at_once_run_each_step_once(example: dict[str, Any], tmp_path: Path) -> None:
    store = runstore.open_store(tmp_path)
    store.create_run(example["DAG"], run_id="shopping")
    ran: list[str] = []

    def scheduler() -> None:
        ran.extend(example["work"](store.get_run("shopping"), example["FIXED"], "start"))

    threads = [threading.Thread(target=scheduler) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Counter(ran).values()) == {1}
    assert list(outcomes(run_folder(tmp_path)).values()) == [["succeeded"]] * 4
