"""runstore: a durable, shared memory for pipeline runs.

The public names, nothing else. They are loaded when first used, so ``import runstore`` costs next
to nothing: a pod that only reads a version or catches an error pays for nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstore.version import __version__ as __version__

if TYPE_CHECKING:
    from runstore import errors
    from runstore.dag import Conditional, Dag, Loop, Map, Parallel, Task
    from runstore.errors import RunstoreError
    from runstore.executor import Reporter, Result, fork, retry, start
    from runstore.pipeline import Pipeline, load_pipeline, sequence, task
    from runstore.plan import Action, Plan, Reason, Step
    from runstore.plan.history import History
    from runstore.store import Attempt, Run, Store, Takeover, open_store
    from runstore.transfer import export_run, import_run, transfer_run
    from runstore.upkeep.verify import verify

_HOMES = {
    "runstore.dag": ("Conditional", "Dag", "Loop", "Map", "Parallel", "Task"),
    "runstore.errors": ("RunstoreError",),
    "runstore.executor": ("Reporter", "Result", "fork", "retry", "start"),
    "runstore.plan.history": ("History",),
    "runstore.pipeline": ("Pipeline", "load_pipeline", "sequence", "task"),
    "runstore.plan": ("Action", "Plan", "Reason", "Step"),
    "runstore.store": ("Attempt", "Run", "Store", "Takeover", "open_store"),
    "runstore.transfer": ("export_run", "import_run", "transfer_run"),
    "runstore.upkeep.verify": ("verify",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    # a pipeline
    "Conditional",
    "Dag",
    "Loop",
    "Map",
    "Parallel",
    "Pipeline",
    "Task",
    "load_pipeline",
    "sequence",
    "task",
    # what to do with it
    "Reporter",
    "Result",
    "fork",
    "retry",
    "start",
    # a store, its runs, and their attempts
    "Attempt",
    "Run",
    "Store",
    "Takeover",
    "open_store",
    "verify",
    # a run that moves
    "export_run",
    "import_run",
    "transfer_run",
    # what is left to do
    "Action",
    "History",
    "Plan",
    "Reason",
    "Step",
    # what goes wrong
    "RunstoreError",
    "errors",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("runstore.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'runstore' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
