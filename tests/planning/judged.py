"""A simulation whose every step is judged by the oracle."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from runstore.dag import Dag
from runstore.plan import Action, Plan, Planner, Reason, Step
from runstore.records import End, Start
from tests.planning.generate import PARAMETERS, returns
from tests.planning.oracle import Oracle
from tests.planning.simulation import Simulation
from tests.planning.world import DONE, FAILED, NOT_TAKEN, UPSTREAM_FAILED

SETTLED = (Action.SKIP, Action.OMIT, Action.FAILED)


class Judged(Simulation):
    """Remembers, for every attempt, what the oracle says it saw when it began."""

    def __init__(self, dag: Dag, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__(dag, PARAMETERS if parameters is None else parameters)
        self.saw: dict[str, Any] = {}

    def oracle(self) -> Oracle:
        def latest(path: str) -> End | None:
            found = self.history.latest(path)
            return found if isinstance(found, End) else None

        return Oracle(self.dag, self.history.run.parameters, latest)

    def begin(self, step: Step, invocation: str) -> Start:
        assert step.work is not None
        sees = self.oracle().consumed.get(step.path)
        assert sees is not None, f"{step.path} runs, and the oracle knows no turn of it"
        assert dict(step.work.params) == sees["params"], step.path
        if step.reason is Reason.STALE:
            last = self.history.latest(step.path)
            assert isinstance(last, End)
            assert self.saw[last.start or ""] != sees, f"{step.path} is not stale: {step.detail}"
        start = super().begin(step, invocation)
        self.saw[start.digest] = sees
        return start

    def go(
        self,
        *,
        fail: Collection[str] = (),
        force: Sequence[str] = (),
        code: int = 0,
        stop: int | None = None,
        order: int | None = None,
    ) -> Plan:
        """One invocation. ``fail``: paths that fail; ``stop``: die in that attempt."""
        invocation = self.invoke(force)
        planner = Planner(self.dag)
        choose = random.Random(order)
        for count in range(3000):
            plan = planner.plan(self.history, invocation)
            ready = plan.ready
            if not ready:
                if stop is None or count <= stop:
                    self.judge(plan)
                return plan
            step = ready[0] if order is None else choose.choice(ready)
            start = self.begin(step, invocation)
            if count == stop:
                return planner.plan(self.history, invocation)
            if step.path in fail:
                self.end(start, "failed", {})
            else:
                work = step.work
                assert work is not None
                given = returns(step.path, work.task.returns, work.params, code)
                self.end(start, "succeeded", given)
        raise AssertionError("it never ends")

    def judge(self, plan: Plan) -> None:
        """A plan in which nothing is to be done is what the oracle says."""
        oracle = self.oracle()
        said: dict[str, str] = {}
        for step in plan.steps:
            assert step.action in SETTLED, (step.path, step.action, step.reason, step.detail)
            if step.kind != "task":
                continue
            if step.action is Action.SKIP and step.reason is not Reason.HANDLED:
                assert isinstance(step.record, End)
                assert step.record.outcome == "succeeded"
                said[step.path] = DONE
                saw = self.saw[step.record.start or ""]
                assert saw == oracle.consumed.get(step.path), f"{step.path} is stale"
            elif step.action is not Action.OMIT:
                said[step.path] = FAILED
                if step.record is not None:  # not by a missing parameter
                    assert isinstance(step.record, End)
            elif step.path in oracle.tasks:
                said[step.path] = oracle.tasks[step.path]
                assert said[step.path] in (UPSTREAM_FAILED, NOT_TAKEN)
        assert said == oracle.tasks
        assert plan.status == {DONE: "succeeded", FAILED: "failed"}[oracle.status]
        assert plan.values == oracle.values

    def fork(self, parameters: Mapping[str, Any]) -> Judged:
        """A new run that takes over what succeeded, and handled failures."""
        plan = Planner(self.dag).plan(self.history)
        handled = {step.path for step in plan.steps if step.reason is Reason.HANDLED}
        new = Judged(self.dag, {**self.history.run.parameters, **parameters})
        new.counter, new.saw = self.counter, dict(self.saw)
        for path in self.history.paths():
            end = self.history.latest(path)
            if not isinstance(end, End) or self.history.forces.get(path, -1) >= end.attempt:
                continue
            if end.outcome == "succeeded" or path in handled:
                new.history.adopt(end)
        return new
