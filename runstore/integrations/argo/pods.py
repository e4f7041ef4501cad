"""What the pods of a Workflow do that run no step: they ask the planner, and write what it says
where Argo looks for it. Each may run again, and says the same then.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from runstore.canonical import loads
from runstore.errors import InputError, RefusedError, RunExistsError, RunNotFoundError
from runstore.executor.checks import code_of, defaults_explained, ignored_of, secrets_of
from runstore.integrations.argo.names import task_name
from runstore.integrations.argo.pods_before import MUTEX, EarlierPods, EarlierWorkflows
from runstore.integrations.argo.workflow import OWN_PARAMETERS
from runstore.pipeline import Pipeline
from runstore.plan import Action, Plan, Planner, Reason, Step
from runstore.plan.address import Address, item_paths, to_address, to_ranges
from runstore.plan.standing import Standing
from runstore.plan.steps import BY_VALUE, within
from runstore.store import Run, Store, compare
from runstore.store.partial import PartialHistory
from runstore.store.process import Liveness

__all__ = ["LABEL", "begin", "branch_of", "goes_on", "items_left", "parameters_of", "verdict"]

LABEL = "argo-workflow"
"""The label of a run that names the uid of the workflow that created it."""


class NotYetError(RefusedError):
    """What is asked for is not known yet: ask again."""


def parameters_of(encoded: str, pipeline: Pipeline) -> tuple[dict[str, Any], bool]:
    """The pipeline's parameters as they were submitted, and whether ``rerun`` is true.

    :param encoded: base64 of ``workflow.parameters.json``.
    :raises InputError: for a name that neither the pipeline nor the workflow has: Argo takes any.
    """
    try:
        given = {
            each["name"]: each.get("value", "") for each in json.loads(base64.b64decode(encoded))
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"the workflow's parameters cannot be read: {error}", advice="emit the workflow again"
        ) from error
    known = [*OWN_PARAMETERS, *pipeline.parameters, *pipeline.dag.wiring.needs]
    for name in given:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            raise InputError(
                f"the workflow was submitted with a parameter {name!r}, which it does not have",
                advice=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}",
                parameter=name,
            )
    rerun = given.get("rerun", "false")
    if rerun not in ("true", "false"):
        raise InputError(f"rerun is {rerun!r:.60}", advice="submit with rerun=true, or without")
    return {
        name: _value(text) for name, text in given.items() if name not in OWN_PARAMETERS
    }, rerun == "true"


def _value(text: str) -> Any:
    try:
        return loads(text.encode())
    except InputError:
        return text


def begin(
    store: Store,
    run_id: str,
    pipeline: Pipeline,
    parameters: Mapping[str, Any],
    *,
    workflow: str,
    rerun: bool,
    secrets: Mapping[str, Any],
    own: EarlierPods | None = None,
    mutex: str | None = None,
    grace: float = 0.0,
    warn: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Create the run, or go on with it; the names of the tasks in which something is left to do.

    :param workflow: the uid of the workflow, under which its pods record their attempts.
    :param own: knows the pods that this one's node had before: what these left open is lost.
    :param mutex: where the workflow has the mutex of the run. What is open of workflows that had it
        before is lost when the pods had their ``grace`` to end it: so many seconds are waited for.
    :param warn: is told of parameters that are ignored, since the run is there.
    :raises RefusedError: if another workflow has the run, and this is no rerun.
    :raises StructureChangedError: if the run was made with another structure.

    Cost: that of a full history.
    """
    try:
        run = store.get_run(run_id)
    except RunNotFoundError:
        hidden = secrets_of(pipeline, secrets)
        given = {name: v for name, v in parameters.items() if name not in hidden}
        try:
            with defaults_explained(pipeline.dag):
                run = store.create_run(
                    pipeline.dag, given, run_id=run_id, labels={LABEL: workflow}, secrets=hidden
                )
        except RunExistsError:
            run = store.get_run(run_id)
    history = run.history(dag=pipeline.dag)
    ours = run.record.labels.get(LABEL) == workflow or workflow in history.invocations
    if not ours and not rerun:
        raise RefusedError(
            f"run {run_id!r} is in {store.url} already, made by {_maker(run)}",
            advice="submit with another run_id, or, to go on with that run, with rerun=true",
            run_id=run_id,
        )
    compare(run, pipeline.dag, history)
    for name in ignored_of(run, parameters, parameters):
        if parameters[name] != pipeline.parameters.get(name):
            warn(f"parameter {name!r} is ignored: the run is there, and has its own")
    code = {**(code_of(pipeline) or {}), **({MUTEX: mutex} if mutex else {})}
    invocation = run.join_or_begin(workflow, known=history, code=code or None)
    history.add(invocation)
    liveness: Liveness | None = own
    if mutex and own:
        liveness = before = EarlierWorkflows(own, mutex, workflow, history)
        if before.left_open:
            # A workflow that is stopped ends before its pods do.
            warn(f"{len(before.left_open)} pods before may have {grace:g} s to go: waiting")
            time.sleep(grace)
            history = run.history(dag=pipeline.dag)
    run.take_over(history, liveness=liveness)
    return tasks_left(run.plan(pipeline.dag, history=history), pipeline)


def _maker(run: Run) -> str:
    uid = run.record.labels.get(LABEL)
    return f"workflow {uid}" if uid else "somebody else"


def tasks_left(plan: Plan, pipeline: Pipeline) -> list[str]:
    """Of the outermost nodes, the Argo tasks of those that are not done; of a run that has
    succeeded, none: what it omitted stays so."""
    if plan.status == "succeeded":
        return []
    done = {step.path for step in plan.steps if step.action is Action.SKIP}
    from runstore.paths import escape

    return [task_name(n.name) for n in pipeline.dag.nodes if escape(n.name) not in done]


class _Asking:
    """What the planner says of one node, read by a pod."""

    def __init__(self, run: Run, pipeline: Pipeline, address: str, invocation: str) -> None:
        self.planner = Planner(pipeline.dag)
        self.invocation = invocation
        self.known = PartialHistory(run, pipeline.dag)
        (self.path,) = Address.parse(address, pipeline.dag).resolve(self._items)

    def _items(self, path: str) -> list[Any]:
        items = self.planner.items(self.known.need([path], own=False), path, self.invocation)
        if items is None:
            raise NotYetError(f"the items of {path} are not known yet", path=path)
        return items

    def items(self) -> list[Any]:
        """The list of the map."""
        return self._items(self.path)

    def plan(self) -> Plan:
        history = self.known.need([self.path])
        return self.planner.plan(history, self.invocation, paths=[self.path])

    def standing(self, plan: Plan) -> Standing:
        """:raises RefusedError: if its turn will not come. :raises NotYetError: if it has not."""
        standing = Standing(plan, self.path)
        step = standing.step
        if standing.kind == "refused" or (standing.kind == "failed" and step.path == self.path):
            raise RefusedError(f"{self.path} cannot run: {_why(step)}", path=self.path)
        if standing.kind == "waiting" and step.path == self.path and step.reason in _BEFORE:
            raise NotYetError(f"{self.path} cannot run yet: {step.reason}", path=self.path)
        return standing


def _why(step: Step) -> str:
    return f"{step.reason}: {step.detail}" if step.detail else str(step.reason)


_BEFORE = (Reason.UPSTREAM_PENDING, Reason.ITEMS_UNKNOWN, Reason.BRANCH_UNDECIDED)


def items_left(
    run: Run, pipeline: Pipeline, address: str, invocation: str, chunk: int | None = None
) -> list[str]:
    """The items of a map in which something is left to do, as the ``at`` of their pods.

    :param chunk: so many of them to a pod, as an address that names several items.
    :raises RefusedError: if the map cannot run. :raises NotYetError: if its turn has not come.

    Cost: a listing of all that is in the map, and a read of each attempt in it.
    """
    asking = _Asking(run, pipeline, address, invocation)
    plan = asking.plan()
    if asking.standing(plan).kind in ("succeeded", "omitted"):
        return []
    from runstore.paths import segment_end

    left: dict[str, None] = {}
    for step in plan.steps:
        if step.path != asking.path and within(step.path, asking.path) and _is_left(step):
            left[step.path[: segment_end(step.path, len(asking.path))]] = None
    if chunk is None:
        return [to_address(item) + "/" for item in left]
    paths = item_paths(asking.path, asking.items())
    at = [position for position, path in enumerate(paths) if path in left]
    begin = to_address(asking.path)
    return [f"{begin}[@{to_ranges(at[n : n + chunk])}]" for n in range(0, len(at), chunk)]


def _is_left(step: Step) -> bool:
    if step.action is Action.OMIT:
        return step.reason is Reason.UPSTREAM_FAILED
    return step.action is not Action.SKIP


def branch_of(run: Run, pipeline: Pipeline, address: str, invocation: str) -> str:
    """The token of the branch that a conditional takes, ``none`` if nothing is left to do in it.

    Tokens, not names: ``b0`` is the first of the branches in the order of their names.

    :raises RefusedError: if no branch matches. :raises NotYetError: if that is not decided yet.
    """
    asking = _Asking(run, pipeline, address, invocation)
    plan = asking.plan()
    if asking.standing(plan).kind in ("succeeded", "omitted"):
        return "none"
    inside = [s for s in plan.steps if s.path != asking.path and within(s.path, asking.path)]
    taken = next((s.path for s in inside if s.reason is not Reason.NOT_TAKEN), None)
    if taken is None:
        return "none"
    from runstore.paths import NodePath

    depth = len(NodePath.parse(asking.path).segments) - 1
    segment = NodePath.parse(taken).segments[depth]
    node = _node_at(pipeline, asking.path)
    return f"b{sorted(node.bodies).index(segment.branch)}"


def _node_at(pipeline: Pipeline, path: str) -> Any:
    from runstore.dag import walk
    from runstore.paths import template

    wanted = template(path)
    return next(node for at, node in walk(pipeline.dag) if at == wanted)


NESTED = 30
"""Iterations of a loop that are templates in one another: Argo nests at most 100 of these, and
loops stand in loops."""


def goes_on(run: Run, pipeline: Pipeline, address: str, invocation: str) -> str:
    """Whether a loop has an iteration after this one, in which something is left to do, or was
    done: ``true`` or ``false``; ``rest`` where all that follows is for one pod.

    :param address: of an iteration.
    :raises RefusedError: if the loop has failed, though no step in it has: at its limit, or by what
        it goes on by. No other pod would say so.
    :raises NotYetError: if that is not decided: others are at work on this iteration.
    """
    from runstore.paths import NodePath, Segment

    asking = _Asking(run, pipeline, address, invocation)
    *around, last = NodePath.parse(asking.path).segments
    loop = NodePath((*around, Segment(last.name)))
    following = NodePath((*around, Segment(last.name, iteration=(last.iteration or 0) + 1)))
    history = asking.known.need([str(loop)])
    plan = asking.planner.plan(history, invocation, paths=[str(loop)])
    own = next(step for step in plan.steps if step.path == str(loop))
    if own.action is Action.FAILED:
        raise RefusedError(f"{loop} failed: {_why(own)}", path=str(loop))
    if not any(within(step.path, str(following)) for step in plan.steps):
        if own.action in (Action.SKIP, Action.OMIT):
            return "false"
        raise NotYetError(f"{loop} is not done: {_why(own)}", path=str(loop))
    return "true" if (last.iteration or 0) + 1 < NESTED else "rest"


def verdict(run: Run, pipeline: Pipeline, invocation: str) -> tuple[str, list[Step]]:
    """The status of the run, and the steps that it has failed by, or waits for: tasks, and what
    fails by a value. Cost: that of a full history.

    :raises NotYetError: if others are at work on it.
    """
    history = run.history(dag=pipeline.dag)
    plan = Planner(pipeline.dag).plan(history, invocation)
    if plan.status == "pending" and plan.waiting:
        at = plan.waiting[0]
        raise NotYetError(f"{at.path} is {at.reason}: {at.detail}", path=at.path)
    wrong = [s for s in plan.steps if _is_left(s) and (s.kind == "task" or s.reason in BY_VALUE)]
    return plan.status, wrong


def write_result(name: str, text: str, folder: str) -> None:
    """Write what a pod decided where Argo looks for it."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
