"""What the processes do that ``test_kill.py`` kills: they import this, and not pytest."""

from __future__ import annotations

from typing import Any

from runstore import open_store, retry, start
from runstore.errors import RunNotFailedError, RunNotFoundError
from tests.crash.pipelines import CASES


def invoke(url: str, name: str, options: dict[str, Any]) -> None:
    """Start the run, or retry what is there."""
    case = CASES[name]
    store = open_store(url, durable=False)
    try:
        retry("r", case.dag, store=store, **options)
    except RunNotFoundError:
        start(case.dag, case.parameters, store=store, run_id="r", environment={}, **options)
    except RunNotFailedError:
        pass
