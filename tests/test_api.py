"""The public API, pinned: a change of it is a decision, not an accident."""

from __future__ import annotations

import importlib.util
import pkgutil
from pathlib import Path

import runstore


def test_public_names() -> None:
    assert sorted(runstore.__all__) == [
        "Action", "Attempt", "Conditional", "Dag", "History", "Loop", "Map", "Parallel", "Pipeline",
        "Plan", "Reason", "Reporter", "Result", "Run", "RunstoreError", "Step", "Store", "Takeover",
        "Task", "errors", "export_run", "fork", "import_run", "load_pipeline", "open_store",
        "retry", "sequence", "start", "task", "transfer_run", "verify",
    ]  # fmt: skip


def test_the_page_of_the_api_is_made_from_the_docstrings() -> None:
    path = Path(__file__).parent.parent / "docs" / "make_api.py"
    spec = importlib.util.spec_from_file_location("make_api", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run: python docs/make_api.py"


def test_every_public_name_is_there_and_documented() -> None:
    for name in {*runstore.__all__} - {"Takeover"}:  # a type; what it means stands beside it
        assert getattr(runstore, name).__doc__, name


def test_every_module_says_what_it_gives_away() -> None:
    for module in pkgutil.walk_packages(runstore.__path__, "runstore."):
        if module.name.rpartition(".")[2] == "__main__":
            continue
        if module.name.endswith(".obstore_client") and importlib.util.find_spec("obstore") is None:
            continue  # an extra
        loaded = importlib.import_module(module.name)
        assert loaded.__doc__, module.name
        for name in loaded.__all__:
            assert hasattr(loaded, name), f"{module.name}.{name}"
