"""Running a pipeline here: start, retry and fork are one loop over the plan.

Steps that are ready run at the same time, on threads by default, or on any
:class:`concurrent.futures.Executor`; what is sent to one that is not a thread pool can be pickled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runstore.dag import Dag, walk
from runstore.dag.structure import digest
from runstore.errors import InputError, RunNotFailedError
from runstore.executor.checks import (
    check_runnable,
    check_secrets,
    code_of,
    defaults_explained,
    ignored_of,
    may_run,
    secrets_of,
    unread,
)
from runstore.executor.main_module import check_sendable, refuse_while_imported
from runstore.executor.pool import Pool
from runstore.executor.recorded_code import RECORDED, recorded_dag
from runstore.executor.reporter import Reporter, Silent
from runstore.executor.retry_variable import hidden_from_steps, run_to_retry
from runstore.executor.scheduler import Loop
from runstore.executor.signals import Cancelled
from runstore.pipeline import Pipeline
from runstore.plan import Plan, Planner, expand, select
from runstore.plan.history import Damaged, History
from runstore.plan.steps import BY_VALUE
from runstore.records import Invocation, Secret, Start
from runstore.store import Run, Store, Takeover, check_takeover, compare, open_store
from runstore.store.marker import heed_marker

__all__ = ["Cancelled", "Reporter", "Result", "Silent", "fork", "retry", "start"]


@dataclass(slots=True)
class Result:
    """What an invocation came to.

    ``status``: ``succeeded``, ``failed``, ``stopped`` (``only`` or ``until`` was reached),
    ``waiting`` (what is left is in progress elsewhere) or ``cancelled`` (by a signal).
    """

    status: str
    run: Run
    plan: Plan = field(repr=False)
    ran: Sequence[str] = ()
    """The paths for which this invocation began an attempt."""
    warnings: Sequence[str] = ()
    signal: int | None = None

    @property
    def run_id(self) -> str:
        return self.run.run_id

    def values(self) -> Mapping[str, Any]:
        """The values visible at the end of the DAG, by name, as far as the run produced them. A
        read for each large one."""
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
        for, which turn this start into a retry of that run; the process's by default. No step
        inherits them: a run that a step starts is a run of its own.
    :raises InputError: if such a variable and ``run_id`` name two runs.
    :raises RunExistsError, DagError, PipelineError, ValueNotJsonError: before anything is written.
    """
    refuse_while_imported()
    pipeline = _pipeline(pipeline)
    store = _store(store, processes=processes)
    asked = run_to_retry(os.environ if environment is None else environment, run_id)
    if asked is not None:
        variable, again = asked
        said = _labels_dropped(variable, store.get_run(again), labels) if labels else []
        for each in said:
            (reporter or Silent()).warned(each)
        result = retry(
            again, pipeline, parameters, store=store, secrets=secrets, executor=executor,
            workers=workers, processes=processes, reporter=reporter, command=command,
        )  # fmt: skip
        result.warnings = (*said, *result.warnings)
        return result
    check_runnable(pipeline.dag)
    options = _Options(executor, workers, processes, reporter or Silent(), command)
    hidden = secrets_of(pipeline, secrets)
    given = {**pipeline.parameters, **(parameters or {})}
    given = {name: value for name, value in given.items() if name not in hidden}
    with _place(pipeline, options) as pool:
        with defaults_explained(pipeline.dag):
            run = store.create_run(
                pipeline.dag, given, run_id=run_id, labels=labels, secrets=hidden
            )
        run.begin_invocation("start", command=command, code=code_of(pipeline))
        warnings = unread(pipeline.dag, parameters or ())
        return _work(run, pipeline, History(run.record), pool, options, warnings=warnings)


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
    recorded_code: bool = False,
    secrets: Mapping[str, Any] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    workers: int | None = None,
    processes: bool = False,
    reporter: Reporter | None = None,
    command: Sequence[str] = (),
) -> Result:
    """Continue a run: skip what succeeded, run again what did not, and what follows it.

    :param pipeline: as it is now. Its code and configuration may have changed; its structure not,
        unless ``keep_unchanged``. Without one, the commands that the run's own DAG names are run,
        and the functions imported, if this user, on this machine, made it (docs/security.md).
    :param parameters: only compared: the original ones are used.
    :param force, only, until: patterns of node paths; see docs/planning.md.
    :param takeover: whose open attempts may be ended as lost.
    :param recorded_code: run what the DAG names though others made it: without a ``pipeline``.
    :raises RecordedCodeError: if there is no ``pipeline``, and that is not allowed.
    :raises RunNotFoundError, RunNotFailedError, StructureChangedError, ForceError,
        FormatVersionError: before anything is written or executed.
    """
    refuse_while_imported()
    check_takeover(takeover)
    store = _store(store, processes=processes)
    heed_marker(store.storage)  # which a newer runstore may have made, that knows of more
    run = store.get_run(run_id)
    named = pipeline is not None
    pipeline = Pipeline(run.dag) if pipeline is None else _pipeline(pipeline)
    history = run.history(dag=pipeline.dag)
    if not named:
        recorded_dag(run, history, allowed=recorded_code)
    compare(run, pipeline.dag, history, keep_unchanged=keep_unchanged)
    check_runnable(pipeline.dag)
    run.secrets.update(secrets_of(pipeline, secrets, run))
    planner = Planner(pipeline.dag)
    plan = planner.plan(history)
    forces = expand(force, pipeline.dag, history, plan) if force else {}
    chosen = select(only, until, pipeline.dag, history, plan) if only or until else None
    forced = _as_forced(planner, history, forces) if forces else plan
    if plan.status == "succeeded" and not (forces and forced.ready):
        raise RunNotFailedError(
            f"run {run_id!r} has succeeded, and nothing is left to do"
            + (": what was forced would not run" if force else ""),
            advice="" if force else "use --force to run a step again",
            run_id=run_id,
        )
    check_secrets(run, run.secrets, may_run(forced, pipeline.dag), pipeline.dag)
    ignored = ignored_of(run, {**pipeline.parameters, **(parameters or {})}, parameters or {})
    options = _Options(executor, workers, processes, reporter or Silent(), command)
    # Also where an earlier invocation was allowed that structure: without a DAG, what succeeds in
    # this one would count as made with the run's own.
    changed = pipeline.dag if digest(pipeline.dag) != run.record.structure else None
    with _place(pipeline, options) as pool:
        invocation = run.begin_invocation(
            "retry", history=history, force=forces, ignored=ignored, dag=changed, command=command,
            code=code_of(pipeline) if named else RECORDED,
        )  # fmt: skip
        history.add(invocation)
        open_still = run.take_over(history, takeover, [step.path for step in plan.steps])
        warnings = [_ignores(name, parameters or {}) for name in ignored]
        warnings += [_waits(each) for each in open_still[:_NAMED]]
        if (more := len(open_still) - _NAMED) > 0:
            warnings.append(f"{more:,} attempts more are in progress: `runstore plan` says which")
        return _work(run, pipeline, history, pool, options, planner, chosen, warnings)


def fork(
    run_id: str,
    pipeline: Pipeline | Dag | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    store: Store | str | os.PathLike[str] = ".runstore",
    new_run_id: str | None = None,
    keep_unchanged: bool = False,
    recorded_code: bool = False,
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
    :param pipeline, recorded_code: as for :func:`retry`.
    :param parameters: replace the origin's of the same name.
    :raises RunNotFoundError, RunExistsError, StructureChangedError, RecordedCodeError: before
        anything is written or executed.
    """
    refuse_while_imported()
    store = _store(store, processes=processes)
    origin = store.get_run(run_id)
    named = pipeline is not None
    if not named:
        recorded_dag(origin, origin.invocations(), allowed=recorded_code)
    pipeline = Pipeline(origin.dag) if pipeline is None else _pipeline(pipeline)
    check_runnable(pipeline.dag)
    # A secret stays one, also where its new value comes among the parameters.
    hidden = secrets_of(pipeline, {**(parameters or {}), **(secrets or {})}, origin)
    hidden |= {n: v for n, v in (secrets or {}).items() if n in pipeline.secrets}
    check_secrets(origin, hidden, {path for path, _ in walk(pipeline.dag)}, pipeline.dag)
    options = _Options(executor, workers, processes, reporter or Silent(), command)
    with _place(pipeline, options) as pool:
        with defaults_explained(pipeline.dag):
            run = store.fork_run(
                origin, pipeline.dag, parameters, run_id=new_run_id, labels=labels, secrets=hidden,
                keep_unchanged=keep_unchanged,
            )  # fmt: skip
        history = run.history()
        code = code_of(pipeline) if named else RECORDED
        history.add(run.begin_invocation("fork", command=command, code=code))
        warnings = unread(pipeline.dag, parameters or ())
        return _work(run, pipeline, history, pool, options, warnings=warnings)


def _store(store: Store | str | os.PathLike[str], *, processes: bool = False) -> Store:
    store = store if isinstance(store, Store) else open_store(store)
    if processes and store.url.startswith("memory://"):
        raise InputError(
            "a store in memory cannot be shared with worker processes",
            advice="use threads, or a folder",
        )
    return store


def _pipeline(pipeline: Pipeline | Dag) -> Pipeline:
    return pipeline if isinstance(pipeline, Pipeline) else Pipeline(pipeline)


def _labels_dropped(variable: str, run: Run, labels: Mapping[str, str]) -> list[str]:
    """Warnings for labels that a start was given and its retry does not keep."""
    return [
        f"label {name!r} is ignored: {variable} makes this a retry, and a run keeps the labels it "
        f"was started with"
        for name, value in labels.items()
        if run.record.labels.get(name) != value
    ]


def _as_forced(planner: Planner, history: History, forces: Mapping[str, int]) -> Plan:
    """The plan as it would be with an invocation that forces these."""
    trial = Invocation(history.run.run_id, "trial", "retry", force=forces)
    history.add(trial)
    try:
        return planner.plan(history)
    finally:
        history.remove(trial)


def _ignores(name: str, given: Mapping[str, Any]) -> str:
    whose = "" if name in given else " of the pipeline, which is another here,"
    why = "a retry uses the original parameters of the run; fork it to change one"
    return f"parameter {name!r}{whose} is ignored: {why}"


_NAMED = 5
"""How many attempts in progress are told of one by one."""


def _waits(left: Start | Damaged) -> str:
    what = f"attempt {left.attempt} at {left.path}"
    if isinstance(left, Damaged):
        return f"{what} began and its record is damaged: --takeover all gives it up"
    who = f"{left.by}, since {left.time}"
    return f"{what} is in progress: {who}; if that is dead, --takeover all runs it again"


@contextmanager
def _place(pipeline: Pipeline, options: _Options) -> Iterator[Pool]:
    """Where steps run, and what they find in the environment. Entered before anything is written.

    :raises PipelineError: if worker processes cannot begin, or a task cannot be sent to them.
    """
    with hidden_from_steps():
        pool = Pool(options.executor, options.workers, processes=options.processes)
        try:
            if pool.in_processes:
                check_sendable(pipeline.dag, by_file=pipeline.source is not None)
                pool.prime()
            yield pool
        finally:
            pool.close()


def _work(
    run: Run,
    pipeline: Pipeline,
    history: History,
    pool: Pool,
    options: _Options,
    planner: Planner | None = None,
    chosen: Callable[[str], bool] | None = None,
    warnings: Sequence[str] = (),
) -> Result:
    number: int | None = None
    run.writer.pack.begin()
    planner = planner or Planner(pipeline.dag)
    loop = Loop(run, pipeline, planner, history, pool, options.reporter, chosen)
    for warning in warnings:
        loop.warn(warning)
    try:
        plan = loop.go()
        status = plan.status
        if status == "pending":
            status = "failed" if loop.stuck else "stopped" if loop.deselected else "waiting"
        if status == "failed" and not loop.ran:
            loop.warn(_stuck(plan))
    except Cancelled as cancelled:
        status, plan, number = "cancelled", loop.plan(), cancelled.signal
    finally:
        loop.pack()
    return Result(status, run, plan, tuple(loop.ran), tuple(loop.warnings), number)


def _stuck(plan: Plan) -> str:
    """Nothing could run, and the run has failed: what to force."""
    causes = [step for step in plan.steps if step.detail and step.reason in BY_VALUE]
    if not causes:
        return "nothing could run: `runstore plan` shows why; --force runs a step again"
    return (
        f"nothing could run: {causes[0].detail}. "
        f"Force the step that gave that value (--force PATH), fork with another parameter where "
        f"it is one of the run's, or change the pipeline"
    )
