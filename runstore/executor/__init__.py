"""Running a pipeline here: start, retry and fork are one loop over the plan.

Steps that are ready run at the same time, on threads by default, or on any
:class:`concurrent.futures.Executor`; what is sent to one that is not a thread pool can be pickled.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from runstore.dag import Dag, walk
from runstore.errors import InputError, ParameterError, RunNotFailedError, StorageError
from runstore.executor.loop import Cancelled, Loop, Reporter, Silent
from runstore.executor.tasks import begin_worker
from runstore.history import Damaged, History
from runstore.paths import template
from runstore.pipeline import Pipeline, check_runnable
from runstore.plan import Action, Plan, Planner, Reason, expand, select
from runstore.plan.values import value_digest
from runstore.records import Secret, Start
from runstore.store import Run, Store, Takeover, compare, open_store

__all__ = ["Cancelled", "Reporter", "Result", "Silent", "fork", "retry", "start"]

RETRY_VARIABLES = ("RUNSTORE_RETRY_RUN_ID", "RUNNABLE_RETRY_RUN_ID")
"""An environment variable of these that holds a run id turns a start into its retry."""


@dataclass(slots=True)
class Result:
    """What an invocation came to.

    ``status``: ``succeeded``, ``failed``, ``stopped`` (``only`` or ``until`` was reached),
    ``waiting`` (what is left is in progress elsewhere) or ``cancelled`` (by a signal).
    """

    status: str
    run: Run
    plan: Plan
    ran: Sequence[str] = ()
    """The paths for which this invocation began an attempt."""
    warnings: Sequence[str] = ()
    signal: int | None = None

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def values(self) -> Mapping[str, Any]:
        """Name -> value visible at the end of the DAG, as far as it is there; blobs are fetched."""
        return {
            name: value if type(value) is Secret else self.run.blobs.load(value)
            for name, value in self.plan.values.items()
        }


@dataclass(slots=True)
class _Options:
    """How to run, whatever is run."""

    executor: Executor | Callable[[], Executor] | None = None
    workers: int | None = None
    processes: bool = False
    reporter: Reporter = field(default_factory=Silent)
    command: Sequence[str] = ()


def start(
    pipeline: Pipeline | Dag,
    parameters: Mapping[str, Any] | None = None,
    *,
    store: Store | str | os.PathLike[str] = ".runstore",
    run_id: str | None = None,
    secrets: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    workers: int | None = None,
    processes: bool = False,
    reporter: Reporter | None = None,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Run a pipeline, as a new run.

    :param parameters: name -> JSON value, over the pipeline's own.
    :param run_id: a UUIDv7 by default.
    :param secrets: values of secret parameters; never stored.
    :param executor: any ``concurrent.futures.Executor``, or a function that makes one; by default
        ``workers`` threads (or ``processes``), twice the processors, at least four.
    :param environment: where ``RUNSTORE_RETRY_RUN_ID`` and ``RUNNABLE_RETRY_RUN_ID`` are looked
        for, which turn this start into a retry of that run; the process's by default.
    :raises RunExistsError, DagError, PipelineError, ValueNotJsonError: before anything is written.
    """
    pipeline = _pipeline(pipeline)
    store = _store(store, processes=processes)
    environment = os.environ if environment is None else environment
    again = next((environment[name] for name in RETRY_VARIABLES if environment.get(name)), None)
    if again is not None:
        return retry(
            again, pipeline, parameters, store=store, secrets=secrets, executor=executor,
            workers=workers, processes=processes, reporter=reporter, command=command,
        )  # fmt: skip
    check_runnable(pipeline.dag)
    options = _Options(executor, workers, processes, reporter or Silent(), command)
    hidden = _secrets(pipeline, secrets)
    given = {**pipeline.parameters, **(parameters or {})}
    given = {name: value for name, value in given.items() if name not in hidden}
    run = store.create_run(pipeline.dag, given, run_id=run_id, labels=labels, secrets=hidden)
    run.begin_invocation("start", command=command, code=_code(pipeline))
    return _work(run, pipeline, History(run.record), options)


def retry(
    run_id: str,
    pipeline: Pipeline | Dag | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    store: Store | str | os.PathLike[str] = ".runstore",
    force: Sequence[str] = (),
    only: Sequence[str] = (),
    until: Sequence[str] = (),
    takeover: Takeover = "dead",
    keep_unchanged: bool = False,
    secrets: Mapping[str, Any] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    workers: int | None = None,
    processes: bool = False,
    reporter: Reporter | None = None,
    command: Sequence[str] = (),
) -> Result:
    """Continue a run: skip what succeeded, run again what did not, and what follows it.

    :param pipeline: as it is now. Its code and configuration may have changed; its structure not,
        unless ``keep_unchanged``. Without one, the functions the run names are imported.
    :param parameters: only compared: the original ones are used.
    :param force, only, until: patterns of node paths; see docs/planning.md.
    :param takeover: whose open attempts may be ended as lost.
    :raises RunNotFoundError, RunNotFailedError, StructureChangedError, ForceError: before anything
        is written.
    """
    store = _store(store, processes=processes)
    run = store.run(run_id)
    pipeline = Pipeline(run.dag) if pipeline is None else _pipeline(pipeline)
    history = run.history(dag=pipeline.dag)
    changes = compare(run, pipeline.dag, history, keep_unchanged=keep_unchanged)
    check_runnable(pipeline.dag)
    run.secrets.update(_secrets(pipeline, secrets, run))
    planner = Planner(pipeline.dag)
    plan = planner.plan(history)
    forces = expand(force, pipeline.dag, history, plan) if force else {}
    chosen = select(only, until, pipeline.dag, history, plan) if only or until else _everything
    if plan.status == "succeeded" and not _would_run(planner, history, forces):
        raise RunNotFailedError(
            f"run {run_id!r} has succeeded, and nothing is left to do"
            + (": what was forced would not run" if force else "; --force runs a step again"),
            run_id=run_id,
        )
    left = {template(step.path) for step in plan.steps if step.action in _LEFT}
    _check_secrets(run, run.secrets, left, pipeline.dag)
    ignored = _ignored(run, {**pipeline.parameters, **(parameters or {})}, parameters or {})
    options = _Options(executor, workers, processes, reporter or Silent(), command)
    invocation = run.begin_invocation(
        "retry", force=forces, ignored=ignored, dag=pipeline.dag if changes else None,
        command=command, code=_code(pipeline),
    )  # fmt: skip
    history.add(invocation)
    open_still = run.take_over(history, takeover, [step.path for step in plan.steps])
    warnings = [
        f"parameter {name!r} is ignored: a retry uses the original parameters of the run; "
        f"fork it to change one"
        for name in ignored
    ]
    warnings += [_waits(each) for each in open_still]
    return _work(run, pipeline, history, options, planner, chosen, warnings)


def fork(
    run_id: str,
    pipeline: Pipeline | Dag | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    store: Store | str | os.PathLike[str] = ".runstore",
    new_run_id: str | None = None,
    keep_unchanged: bool = False,
    secrets: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    workers: int | None = None,
    processes: bool = False,
    reporter: Reporter | None = None,
    command: Sequence[str] = (),
) -> Result:
    """A new run that takes over what another has; see :meth:`Store.fork_run`.

    :param run_id: the origin, which is left as it is.
    :param parameters: replace the origin's of the same name.
    :raises RunNotFoundError, RunExistsError, StructureChangedError: before anything is written.
    """
    store = _store(store, processes=processes)
    origin = store.run(run_id)
    pipeline = Pipeline(origin.dag) if pipeline is None else _pipeline(pipeline)
    check_runnable(pipeline.dag)
    # A secret stays one, also where its new value comes among the parameters.
    hidden = _secrets(pipeline, {**(parameters or {}), **(secrets or {})}, origin)
    hidden |= {n: v for n, v in (secrets or {}).items() if n in pipeline.secrets}
    _check_secrets(origin, hidden, {path for path, _ in walk(pipeline.dag)}, pipeline.dag)
    run = store.fork_run(
        origin, pipeline.dag, parameters, run_id=new_run_id, labels=labels, secrets=hidden,
        keep_unchanged=keep_unchanged,
    )  # fmt: skip
    history = run.history()
    history.add(run.begin_invocation("fork", command=command, code=_code(pipeline)))
    options = _Options(executor, workers, processes, reporter or Silent(), command)
    return _work(run, pipeline, history, options)


# -- the parts they share ------------------------------------------------------------------------


def _everything(_: str) -> bool:
    return True


def _store(store: Store | str | os.PathLike[str], *, processes: bool = False) -> Store:
    store = store if isinstance(store, Store) else open_store(store)
    if processes and store.url.startswith("memory://"):
        raise InputError(
            "a store in memory cannot be shared with worker processes: use threads, or a folder"
        )
    return store


def _pipeline(pipeline: Pipeline | Dag) -> Pipeline:
    if isinstance(pipeline, Pipeline):
        return pipeline
    return Pipeline(pipeline)


def _secrets(
    pipeline: Pipeline, given: Mapping[str, Any] | None, run: Run | None = None
) -> dict[str, Any]:
    """The secrets that were given. For a start, all that the pipeline names must be."""
    values = dict(given or {})
    if run is not None:
        return {n: v for n, v in values.items() if type(run.record.parameters.get(n)) is Secret}
    for name in pipeline.secrets:
        if name not in values:
            raise InputError(
                f"the pipeline asks for the secret {name!r}: give it "
                f"(secrets={{...}}, or RUNSTORE_SECRET_{name.upper()} for the command line)",
                parameter=name,
            )
    return values


_LEFT = (Action.RUN, Action.WAIT)


def _check_secrets(run: Run, given: Mapping[str, Any], left: set[str], dag: Dag) -> None:
    """Refuse to go on without a secret that something left to do (template paths) reads."""
    missing = {
        name
        for name, value in run.record.parameters.items()
        if type(value) is Secret and name not in given
    }
    if not missing:
        return
    for path, node in walk(dag):
        if node.kind == "task" and path in left:
            for name in node.params:
                if name in missing:
                    raise ParameterError(
                        f"{path} reads the secret {name!r}, which is never stored: give it again "
                        f"(secrets={{...}}, or RUNSTORE_SECRET_{name.upper()} on the command line)",
                        parameter=name,
                    )


def _code(pipeline: Pipeline) -> dict[str, Any] | None:
    if pipeline.source is None:
        return None
    return {"pipeline": os.path.abspath(pipeline.source), "sha256": pipeline.digest}


def _ignored(run: Run, offered: Mapping[str, Any], explicit: Mapping[str, Any]) -> list[str]:
    """Names of parameters that were offered and differ from the run's own."""
    ignored = []
    for name, value in offered.items():
        original = run.record.parameters.get(name)
        if type(original) is Secret:
            continue
        if name not in run.record.parameters:
            if name in explicit:
                ignored.append(name)
        elif value_digest(value) != value_digest(original):
            ignored.append(name)
    return ignored


def _would_run(planner: Planner, history: History, forces: Mapping[str, int]) -> bool:
    """Whether a forced path would run, as things stand."""
    if not forces:
        return False
    from runstore.records import Invocation

    trial = Invocation(history.run.run_id, "trial", "retry", force=forces)
    history.add(trial)
    try:
        return bool(planner.plan(history).ready)
    finally:
        history.remove(trial)


def _waits(left: Start | Damaged) -> str:
    if isinstance(left, Damaged):
        return (
            f"attempt {left.attempt} at {left.path} began and its record is damaged: "
            f"--takeover all gives it up"
        )
    return (
        f"attempt {left.attempt} at {left.path} is in progress: {left.by}, since {left.time}; "
        f"if that is dead, --takeover all runs it again"
    )


def _work(
    run: Run,
    pipeline: Pipeline,
    history: History,
    options: _Options,
    planner: Planner | None = None,
    chosen: Callable[[str], bool] = _everything,
    warnings: Sequence[str] = (),
) -> Result:
    workers = options.workers or max(4, 2 * (os.cpu_count() or 1))

    def make() -> Executor:
        if callable(options.executor):
            return options.executor()
        if options.processes:
            # spawn: a fork of a process with threads may inherit a lock that nobody will release.
            context = multiprocessing.get_context("spawn")
            return ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
        return ThreadPoolExecutor(workers, thread_name_prefix="runstore")

    own = options.executor is None or callable(options.executor)
    pool = make() if own else options.executor
    assert isinstance(pool, Executor) or hasattr(pool, "submit")
    run.keep_for_pack()
    loop = Loop(
        run, planner or Planner(pipeline.dag), history, pool, workers,  # type: ignore[arg-type]
        folder=pipeline.folder, source=pipeline.source, code=_code(pipeline), chosen=chosen,
        reporter=options.reporter, renew=make if own else None,
    )  # fmt: skip
    for warning in warnings:
        loop.warn(warning)
    number: int | None = None
    try:
        plan = loop.go()
        status = plan.status
        if status == "pending":
            status = "failed" if loop.stuck else "stopped" if loop.held_back else "waiting"
        if status == "failed" and not loop.ran:
            loop.warn(_stuck(plan))
    except Cancelled as cancelled:
        status, plan, number = "cancelled", loop.plan(), cancelled.signal
    finally:
        if own:
            loop.pool.shutdown(wait=False, cancel_futures=True)
        try:
            run.write_pack()
        except StorageError as error:
            # The records stand on their own: what has come of the run is not to be lost for this.
            loop.warn(f"the records were not packed for quick reading: {error}")
    return Result(status, run, plan, tuple(loop.ran), tuple(loop.warnings), number)


def _stuck(plan: Plan) -> str:
    """Nothing could run, and the run has failed: what to force."""
    causes = [step for step in plan.steps if step.detail and step.reason in _BY_VALUE]
    if not causes:
        return "nothing could run: `runstore plan` shows why; --force runs a step again"
    return (
        f"nothing could run: {causes[0].detail}. "
        f"Force the step that gave that value (--force PATH), or change the pipeline"
    )


_BY_VALUE = (
    Reason.NO_BRANCH,
    Reason.NOT_A_LIST,
    Reason.LOOP_LIMIT,
    Reason.PARAMETER_MISSING,
)
