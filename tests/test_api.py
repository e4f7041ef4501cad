"""The public API, pinned: a change of it is a decision, not an accident."""

from __future__ import annotations

import importlib
import pkgutil

import runstore


def test_public_names() -> None:
    assert sorted(runstore.__all__) == [
        "Action",
        "Attempt",
        "Conditional",
        "Dag",
        "History",
        "Loop",
        "Map",
        "Parallel",
        "Pipeline",
        "Plan",
        "Reason",
        "Result",
        "Run",
        "RunstoreError",
        "Step",
        "Store",
        "Task",
        "begin",
        "cancel",
        "errors",
        "fail",
        "fork",
        "load_pipeline",
        "open",
        "retry",
        "sequence",
        "start",
        "succeed",
        "task",
    ]


def test_every_public_name_is_there_and_documented() -> None:
    for name in runstore.__all__:
        assert getattr(runstore, name).__doc__, name


def test_every_module_says_what_it_gives_away() -> None:
    for module in pkgutil.walk_packages(runstore.__path__, "runstore."):
        if module.name.rpartition(".")[2] == "__main__":
            continue
        loaded = importlib.import_module(module.name)
        assert loaded.__doc__, module.name
        for name in loaded.__all__:
            assert hasattr(loaded, name), f"{module.name}.{name}"
