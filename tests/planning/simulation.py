"""An executor without storage, processes or time: records are made in memory, for planner tests."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from runstore.dag import Dag
from runstore.paths import template
from runstore.plan import Plan, Planner, Step, expand
from runstore.plan.history import History
from runstore.records import Blob, Consumed, End, Holder, Invocation, RunRecord, Start

Behaviour = Callable[[Step], Mapping[str, Any]]
"""What a task does: its returns, or an exception to fail."""


class Failure(Exception):
    """Raised by a behaviour."""


class Simulation:
    """A run, in memory. Digests are made from a counter: every record is unlike any other."""

    def __init__(self, dag: Dag, parameters: Mapping[str, Any] | None = None) -> None:
        self.counter = itertools.count()
        run = RunRecord("r", "n", "", dag.to_json(), "", dict(parameters or {}), {}, None, "run")
        self.dag = dag
        self.history = History(run)
        self.invocations = 0
        self.ran: list[str] = []

    def digest(self) -> str:
        return hashlib.sha256(str(next(self.counter)).encode()).hexdigest()

    def invoke(
        self, force: Sequence[str] = (), dag: Dag | None = None, *, alive: Collection[str] = ()
    ) -> str:
        """Begin an invocation: open attempts are taken over, but for those of paths whose process
        is ``alive``; forces are recorded. Its id."""
        for start in list(self.history.open()):
            if start.path not in alive:
                self.end(start, "lost", {})
        if dag is not None:
            self.dag = dag
        planner = Planner(self.dag)
        forces = {}
        if force:
            forces = expand(force, self.dag, self.history, planner.plan(self.history))
        self.invocations += 1
        invocation = Invocation(
            "r", f"i{self.invocations:04}", "retry", force=forces, dag=self.dag.to_json()
        )
        self.history.add(invocation)
        self.ran = []
        return invocation.id

    def begin(self, step: Step, invocation: str) -> Start:
        assert step.work is not None
        start = Start(
            "r", step.path, step.work.number, "n", invocation, Holder("h"), "",
            step.work.consumed, None, self.digest(),
        )  # fmt: skip
        self.history.add(start)
        self.ran.append(step.path)
        return start

    def end(
        self,
        start: Start,
        outcome: str,
        outputs: Mapping[str, Any],
        *,
        artifacts: Mapping[str, Blob] | None = None,
        consumed: Consumed | None = None,
    ) -> End:
        """``consumed``: with what was loaded, if anything was."""
        end = End(
            "r", start.path, start.attempt, "n", start.invocation, outcome,
            consumed or start.consumed, start.digest, outputs, artifacts or {},
            digest=self.digest(),
        )  # fmt: skip
        self.history.add(end)
        return end

    def work(
        self,
        invocation: str,
        behaviour: Behaviour,
        *,
        stop: int | None = None,
        pick: Callable[[list[Step]], Step] = lambda ready: ready[0],
    ) -> Plan:
        """Run what is ready, one at a time, until nothing is; or die inside the ``stop``-th."""
        planner = Planner(self.dag)
        for count in itertools.count():
            plan = planner.plan(self.history, invocation)
            if not plan.ready:
                return plan
            step = pick(plan.ready)
            start = self.begin(step, invocation)
            if count == stop:
                return planner.plan(self.history, invocation)
            try:
                outputs = behaviour(step)
            except Failure:
                self.end(start, "failed", {})
            else:
                self.end(start, "succeeded", outputs)
        raise AssertionError


def expressions(
    tasks: Mapping[str, Any], fail: Collection[str] = (), *, kill: str | None = None
) -> Behaviour:
    """The behaviour that an acceptance scenario describes."""

    def run(step: Step) -> Mapping[str, Any]:
        assert step.work is not None
        if step.path in fail:
            raise Failure(step.path)
        returns = tasks.get(template(step.path), {}).get("returns", {})
        return {
            name: eval(returns[name], {}, dict(step.work.params)) if name in returns else None
            for name in step.work.task.returns
        }

    return run
