"""What a command works on: the store, a run in it, a pipeline."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation, is_exported
from runstore.errors import RecordDamagedError, RunNotFoundError, StoreNotFoundError

if TYPE_CHECKING:
    from runstore.dag import Dag
    from runstore.pipeline import Pipeline
    from runstore.plan.history import History
    from runstore.store import Run, Store

__all__ = [
    "existing_run", "existing_store", "latest_dag", "read_pipeline", "recorded_pipeline",
    "tell_salvaged",
]  # fmt: skip


def existing_store(place: StoreLocation, *, cache: bool = True) -> Store:
    """A store to read.

    :raises StoreNotFoundError: if there is none.
    :raises DamagedError: if its marker cannot be read, or is of a newer format.
    """
    return _checked(place.open(cache=cache))


def _checked(store: Store) -> Store:
    if os.path.isfile(store.url) and not is_exported(store.url):
        raise StoreNotFoundError(
            f"{store.url} is a file, and a store is a folder or a URL",
            advice="name one with --store (an exported run is a file whose name ends in .json)",
            url=store.url,
        )
    if store.marker() is None and not any(store.storage.list("runs/", shallow=True)):
        raise StoreNotFoundError(
            f"there is no store at {store.url}",
            advice="name one with --store or RUNSTORE_URL; `runstore run` makes one",
            url=store.url,
        )
    return store


def existing_run(
    place: StoreLocation,
    run_id: str,
    *,
    write: bool = False,
    cache: bool = True,
    salvage: bool = False,
) -> Run:
    """A run to read, or to go on with. An exported file as ``run_id`` is store and run at once.

    :param salvage: a run whose own record is damaged is given as a `Salvaged`.
    :raises StoreNotFoundError, RunNotFoundError: saying which of them is not there.
    :raises RecordDamagedError: if its record is damaged.
    :raises RefusedError: to ``write``, for an exported file.
    """
    exported = is_exported(run_id)
    if exported:
        place = StoreLocation(run_id)
    store = place.open_to_write(cache=cache) if write else place.open(cache=cache)
    if exported:
        (run_id,) = store.run_ids()
    try:
        return store.get_run(run_id)
    except RunNotFoundError:
        _checked(store)
        raise
    except RecordDamagedError as error:
        from runstore.cli.render.text import verb_line
        from runstore.upkeep.repair import WITHOUT_A_RUN
        from runstore.upkeep.salvage import Salvaged

        if salvage:
            return Salvaged(store.storage, run_id, error.problem)
        show = verb_line("show", run_id, options=place.words())
        raise error.reworded(advice=f"{WITHOUT_A_RUN} ({show})") from error


def tell_salvaged(run: Run) -> None:
    """For verbs that read no more than they are asked for: say so, if its record is damaged."""
    from runstore.upkeep.repair import WITHOUT_A_RUN
    from runstore.upkeep.salvage import Salvaged

    if isinstance(run, Salvaged):
        say(f"warning: {run.problem}: {WITHOUT_A_RUN}", err=True)


def read_pipeline(source: str) -> Pipeline:
    """A pipeline file. What it prints while it is imported goes to stderr: stdout is ours."""
    from runstore.pipeline import load_pipeline

    with contextlib.redirect_stdout(sys.stderr):
        return load_pipeline(source)


def recorded_pipeline(run: Run, *, allowed: bool) -> Pipeline | None:
    """The pipeline of the latest invocation, where none was named; it says which.

    Reads the invocations. ``None``: work with the DAG and the functions that the run names.

    :param allowed: whether the user allows what is recorded, whoever recorded it.
    :raises RecordedCodeError: if it is not, and what is recorded is not this user's own. Nothing
        was imported.
    """
    from runstore.executor.recorded_code import recorded_file

    source = recorded_file(run, run.invocations(), allowed=allowed)
    if source is not None:
        say(f"pipeline: {source} (of the latest invocation)", err=True)
        return read_pipeline(source)
    # As `python -m` has it: the functions are imported by name, from here if need be.
    sys.path.append(os.getcwd())
    return None


def latest_dag(run: Run, history: History) -> Dag:
    """The DAG that the latest invocation worked with."""
    from runstore.dag import Dag

    latest = history.latest_work
    if latest is None or latest.dag is None:
        return run.dag
    return Dag.from_json(latest.dag, unknown="ignore")
