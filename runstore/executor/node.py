"""One node of a run, for whoever schedules the others: ask the store, do what is left, say so.

The node is planned from as little of the run as that needs, and worked at by the same loop as a
whole run. Who decides when its turn has come is the planner, not the scheduler that asks.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from msgspec import Struct, field

from runstore.dag import Dag, Task, walk
from runstore.dag.structure import digest
from runstore.errors import InputError, RecordedCodeError, RunExistsError, RunNotFoundError
from runstore.executor.checks import (
    check_runnable,
    check_secrets,
    code_of,
    defaults_explained,
    ignored_of,
    secrets_of,
)
from runstore.executor.follow import Follower
from runstore.executor.main_module import refuse_while_imported
from runstore.executor.pool import Pool
from runstore.executor.recorded_code import RECORDED, recorded_dag
from runstore.executor.reporter import Reporter, Silent
from runstore.executor.retry_variable import hidden_from_steps
from runstore.executor.scheduler import Loop
from runstore.executor.signals import Cancelled
from runstore.pipeline import Pipeline
from runstore.plan import Action, Plan, Planner, Reason, Step
from runstore.plan.address import Address
from runstore.plan.standing import Standing
from runstore.plan.steps import cuts, within
from runstore.records import End, Invocation, Secret
from runstore.records.keys import is_invocation_id
from runstore.store import Run, Store, Takeover, check_takeover, compare
from runstore.store.partial import PartialHistory
from runstore.store.process import Liveness

__all__ = ["UNGROUPED", "NodeResult", "Request", "run_node"]

UNGROUPED = "exec"
"""The invocation under which nodes are run that nobody groups."""

_PAUSES = (0.2, 5.0)
"""Seconds between two looks at the store while somebody else is at work: at first, and at most."""

Status = Literal["succeeded", "omitted", "failed", "refused", "waiting", "cancelled"]


class Request(Struct):
    """What is asked for: which node of which run, and how it is to be worked at."""

    run_id: str
    address: str
    """The node's path, or what else :mod:`runstore.plan.address` takes."""
    indices: Sequence[int] = ()
    """Positions in the lists of maps, for those that the address passes without naming an item."""
    pipeline: Pipeline | None = None
    command: Sequence[str] = ()
    """Program and arguments to run in place of what the pipeline has; for one task."""
    create: bool = False
    """Create the run if it is not there; that needs the pipeline."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Callable[[Iterable[str]], Mapping[str, Any]] = lambda _: {}
    """Gives the values of secrets, as far as they are known, by name."""
    invocation: str = UNGROUPED
    """What the attempts are recorded under. Failures of the nodes that it follows are settled for
    a node if they were recorded under the same one."""
    takeover: Takeover = "dead"
    liveness: Liveness | None = None
    wait: timedelta = timedelta(0)
    """How long to wait for what others are at, and for what comes before."""
    grace: float | None = None
    """Seconds after which a command that was asked to end is killed."""
    workers: int = 1
    recorded_code: bool = False
    outputs: bool = False
    """Whether :meth:`NodeResult.outputs` will be asked for."""
    arguments: Sequence[str] = ()
    """The command line, to be recorded."""


class NodeResult(Struct):
    """What came of it.

    ``status``: ``succeeded`` (here, or before), ``omitted`` (its branch is not taken, or its
    trigger not met: there is nothing to do), ``failed``, ``refused`` (it cannot run: what it
    follows has failed, a parameter is missing), ``waiting`` (others are at it, or at what it
    follows: ask again) or ``cancelled`` (by a signal).
    """

    status: Status
    run: Run
    path: str
    step: Step
    """What the plan says of the node in the end; of an item, what it says of the task that
    decided."""
    ran: Sequence[str] = ()
    """The paths at which attempts were made here."""
    exit_status: int = 0
    """Of one that failed: that of its command, else 1."""
    warnings: Sequence[str] = ()
    signal: int | None = None

    def outputs(self) -> Mapping[str, Any]:
        """The recorded outputs of a task that has succeeded, by name. A read for each large one."""
        end = self.step.record
        outputs = end.outputs if isinstance(end, End) and end.outcome == "succeeded" else {}
        return {
            name: self.run.blobs.load(value, f"output {name!r} of {self.path}")
            for name, value in outputs.items()
        }


def run_node(
    request: Request,
    store: Store,
    *,
    write: Callable[[str, bytes], object] | None = None,
    reporter: Reporter | None = None,
) -> NodeResult:
    """Do what is left of one node of a run: nothing, if it has succeeded with what its upstream has
    now.

    :param write: is given what the tasks print, as they print it: see
        :class:`~runstore.executor.follow.Follower`.
    :raises RunNotFoundError: if there is no such run, and it is not to be created.
    :raises InputError: for an address that names nothing, or a pipeline that cannot run it.
    :raises StructureChangedError, RecordedCodeError, ParameterError: before anything is executed.
    :raises StorageError: if the store fails.

    Cost, whatever the size of the run: a read of ``run.json``, a listing of the invocations, a
    listing for the node and for each node that it follows, and a read for each of these that has
    an attempt. Whoever makes an attempt: two creates more, and the read of an invocation, which the
    first of a group creates; and a create for each blob (a log, a large value, a file). A node
    that is not a task, or follows one, reads all that is in that.
    """
    refuse_while_imported()
    check_takeover(request.takeover)
    if is_invocation_id(request.invocation) is None:
        raise InputError(
            f"{request.invocation!r:.80} can be no name of an invocation",
            advice="use 1 to 64 of a-z, 0-9 and -",
        )
    with hidden_from_steps():
        return _Node(request, store, write, reporter or Silent()).run()


class _Node:
    def __init__(
        self,
        request: Request,
        store: Store,
        write: Callable[[str, bytes], object] | None,
        reporter: Reporter,
    ) -> None:
        self.request = request
        self.store = store
        self.write = write
        self.reporter = reporter
        self.warnings: list[str] = []
        self.ran: list[str] = []
        self.exports = True
        there = self._open()
        self.pipeline = self._pipeline(there)
        self.dag = self.pipeline.dag
        self.address = Address.parse(request.address, self.dag, request.indices)
        self.tasks = self._check()
        self.run_ = self._joined(there)
        self.planner = Planner(self.dag)
        self.known = PartialHistory(self.run_, self.dag)
        self.paths: list[str] = []
        self._wanted: frozenset[str] = frozenset()
        self.forced: Invocation | None = None
        self._first: dict[str, int] | None = None
        """Path -> the number of the latest attempt that had ended when this looked first."""

    def run(self) -> NodeResult:
        deadline = time.monotonic() + self.request.wait.total_seconds()
        pause, most = _PAUSES
        waits_for: Step | None = None
        while True:
            result = self._tried()
            if result.status != "waiting" or time.monotonic() >= deadline:
                return result
            if result.step != waits_for:
                waits_for = result.step
                self.reporter.warned(f"waiting for {waits_for}")
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(most, 2 * pause)
            self.known.forget()

    def _tried(self) -> NodeResult:
        if not self.paths:
            try:
                self.paths = self.address.resolve(self._items)
                self._wanted = frozenset(self.paths)
            except _ItemsUnknownError as unknown:
                return self._result(_STATUS[unknown.map.kind], unknown.map.step)
        history = self.history = self.known.need(self.paths)
        if self._first is None:
            ended = (history.ends(path) for path in history.paths() if self._inside(path))
            self._first = {ends[-1].path: ends[-1].attempt for ends in ended if ends}
        standing = Standing.of(self._plan(), self.paths)
        return self._given(standing) or self._work(standing)

    # What is asked for.

    def _open(self) -> Run | None:
        try:
            return self.store.get_run(self.request.run_id)
        except RunNotFoundError:
            if not self.request.create:
                raise
            return None

    def _pipeline(self, run: Run | None) -> Pipeline:
        request = self.request
        if run is None and request.pipeline is None:
            raise InputError(
                f"run {request.run_id!r} is not there, and to create it a pipeline is needed",
                advice="name it with --pipeline",
                run_id=request.run_id,
            )
        if request.pipeline is not None:
            return request.pipeline
        assert run is not None
        try:
            recorded_dag(run, run.invocations(), allowed=request.recorded_code)
        except RecordedCodeError:
            if not request.command:
                raise
            self.exports = False
        return Pipeline(run.dag)

    def _check(self) -> list[str]:
        """Whether what is asked for can be run at all. The template paths of its tasks."""
        place = self.address.template
        inside = {path: node for path, node in walk(self.dag) if within(path, place)}
        tasks = {path: node for path, node in inside.items() if node.kind == "task"}
        if not self.request.command:
            check_runnable(Dag([_alone(node) for node in tasks.values()]))
        wanted = "a command is" if self.request.command else "outputs are"
        if (self.request.command or self.request.outputs) and list(tasks) != [place]:
            raise InputError(
                f"{place} is a {inside[place].kind}, and {wanted} for one task",
                advice="name a task in it",
                path=place,
            )
        return list(tasks)

    def _joined(self, run: Run | None) -> Run:
        """The run, created if need be, with the secrets that are known."""
        request, pipeline = self.request, self.pipeline
        if run is None:
            hidden = secrets_of(pipeline, request.secrets(pipeline.secrets))
            given = {**pipeline.parameters, **request.parameters}
            given = {name: value for name, value in given.items() if name not in hidden}
            try:
                with defaults_explained(self.dag):
                    return self.store.create_run(
                        self.dag, given, run_id=request.run_id, labels=request.labels,
                        secrets=hidden,
                    )  # fmt: skip
            except RunExistsError:  # somebody was quicker
                run = self.store.get_run(request.run_id)
        if digest(self.dag) != run.record.structure:
            compare(run, self.dag, run.invocations())
        for name in ignored_of(run, request.parameters, request.parameters):
            self._warn(f"parameter {name!r} is ignored: the run is there, and has its own")
        names = [name for name, value in run.record.parameters.items() if type(value) is Secret]
        if names:
            run.secrets.update(secrets_of(pipeline, request.secrets(names), run))
        return run

    # What is known.

    def _items(self, path: str) -> list[Any]:
        """The list that the map at a path is over."""
        history = self.known.need([path], own=False)
        items = self.planner.items(history, path, self.request.invocation)
        if items is None:
            plan = self.planner.plan(history, self.request.invocation, paths=[path])
            raise _ItemsUnknownError(Standing(plan, path))
        return items

    def _named(self) -> str:
        return self.paths[0] if len(self.paths) == 1 else self.address.text

    def _inside(self, path: str) -> bool:
        return any(path[:at] in self._wanted for at in cuts(path))

    def _plan(self) -> Plan:
        history, request = self.history, self.request
        if any(self._inside(start.path) for start in history.open()) or history.damaged:
            self.run_.take_over(
                history, request.takeover, self.paths, liveness=request.liveness,
                within=self._inside,
            )  # fmt: skip
        plan = self.planner.plan(history, request.invocation, paths=self.paths)
        again = {
            step.path: step.record.attempt
            for step in plan.steps
            if self._is_to_be_made_again(step) and step.record
        }
        if not again:
            return plan
        # A force, in memory alone: the attempt that comes of it says that it was made.
        self.forced = Invocation(self.run_.run_id, "again", "retry", force=again)
        history.add(self.forced)
        return self.planner.plan(history, request.invocation, paths=self.paths)

    def _is_to_be_made_again(self, step: Step) -> bool:
        if step.reason is Reason.FAILED_NOW:
            return self._reopens(step)
        # Who asks for a node wants what it gives to be there. The plan of a whole run asks for that
        # only where something is to read it.
        end = step.record
        return (
            step.action is Action.SKIP and isinstance(end, End) and self._inside(step.path)
            and self.history.lacks(end)
        )  # fmt: skip

    def _reopens(self, step: Step) -> bool:
        """Whoever asks for a node wants what failed in it to be tried again, also if it failed
        under the same invocation: a scheduler that runs a job again means it. What was lost or
        cancelled did not fail, whenever that was."""
        end = step.record
        if step.kind != "task" or not isinstance(end, End) or not self._inside(step.path):
            return False
        return end.outcome != "failed" or not self._is_newer(end)

    # What comes of it.

    def _given(self, state: Standing) -> NodeResult | None:
        """The result, if there is nothing to do here and now."""
        step = state.step
        if state.kind == "ready":
            # What failed while somebody else was at it was tried: whoever was at it says so.
            tried = [
                each for each in state.ready
                if each.reason is Reason.FAILED and self._is_newer(each.record)
            ]  # fmt: skip
            return self._result("failed", tried[0], exit_status=1) if tried else None
        if state.kind == "failed" and step.reason is Reason.FAILED_NOW:
            return self._result("failed", step, exit_status=1)
        return self._result(_STATUS[state.kind], step)

    def _is_newer(self, record: object) -> bool:
        """Whether this attempt had not ended when this process looked first."""
        first = self._first or {}
        return isinstance(record, End) and record.attempt > first.get(record.path, 0)

    def _result(self, status: Status, step: Step, **more: Any) -> NodeResult:
        return NodeResult(
            status, self.run_, self._named(), step, tuple(self.ran),
            warnings=tuple(self.warnings), **more,
        )  # fmt: skip

    def _work(self, before: Standing) -> NodeResult:
        request, run = self.request, self.run_
        check_secrets(run, run.secrets, self.tasks, self.dag)
        changed = self.dag if digest(self.dag) != run.record.structure else None
        named = request.pipeline is not None
        code: Mapping[str, Any] | None = code_of(self.pipeline) if named else RECORDED
        if request.command:
            code = {"command": [run.mask(word) for word in request.command]}
        invocation = run.join_or_begin(
            request.invocation, known=self.history, dag=changed, command=request.arguments,
            code=code,
        )  # fmt: skip
        self.history.add(invocation)
        one = self.paths == [before.step.path] and before.step.kind == "task"
        follower = None if self.write is None else Follower(self.write, several=not one)
        pool = Pool(None, request.workers, processes=False)
        loop = Loop(
            run, self.pipeline, self.planner, self.history, pool, self.reporter, self._inside,
            paths=self.paths,
            output=None if follower is None else follower.began,
            substitute=self._command if request.command else None,
        )  # fmt: skip
        loop.code = None if code is RECORDED else dict(code or {}) or None
        loop.forced = self.forced
        if request.grace is not None:
            loop.shell.grace = request.grace
        if request.command:
            loop.shell.folder, loop.shell.exports = os.getcwd(), self.exports
        if not one:
            run.writer.pack.begin()
        signal: int | None = None
        try:
            plan = loop.go()
        except Cancelled as cancelled:
            plan, signal = loop.plan(), cancelled.signal
        finally:
            if follower is not None:
                follower.finish()
            pool.close()
            loop.pack()
        self.history = loop.history
        self.ran += loop.ran
        self.warnings += loop.warnings
        state = Standing.of(plan, self.paths)
        if signal is not None:
            return self._result("cancelled", state.step, signal=signal)
        if state.kind == "failed":
            status = loop.exit_statuses.get(state.step.path, 1)
            return self._result("failed", state.step, exit_status=status)
        if loop.stuck:
            return self._result("refused", state.step)
        return self._result(_STATUS[state.kind], state.step)

    def _command(self, task: Task) -> Task:
        """The task, with the command that was given in place of its own."""
        config = dict(task.config)
        if self.request.pipeline is None:
            config.pop("env", None)  # a record's word
        config["command"] = "exec " + shlex.join(self.request.command)
        return Task(
            name=task.name, type="shell", params=task.params, returns=task.returns,
            trigger=task.trigger, config=config,
        )  # fmt: skip

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.reporter.warned(message)


_STATUS: dict[str, Status] = {
    "succeeded": "succeeded", "omitted": "omitted", "failed": "refused", "refused": "refused",
    "waiting": "waiting", "ready": "waiting",
}  # fmt: skip
"""What is said of a node with which nothing is to be done here. Of one that is ready still,
somebody else took the attempt, or declared it lost: that is for a next try."""


def _alone(task: Any) -> Any:
    """A task without what it needs from others, to look at it alone."""
    from msgspec.structs import replace

    return replace(task, after=(), trigger="all_success", handles=False)


class _ItemsUnknownError(Exception):
    """The list of a map is not known yet."""

    def __init__(self, standing: Standing) -> None:
        self.map = standing
