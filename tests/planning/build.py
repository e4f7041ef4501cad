"""Short ways to write a DAG, and to run one with given results."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from runstore.dag import Dag
from runstore.paths import template
from runstore.plan import Plan, Planner, Step
from runstore.records import Blob, End, Loaded
from tests.planning.simulation import Simulation


def t(name: str, after: str = "", reads: str = "", gives: str = "", **more: Any) -> dict[str, Any]:
    """A task. Names are separated by spaces."""
    lists = {"after": after.split(), "params": reads.split(), "returns": gives.split()}
    return {"name": name, "kind": "task", **lists, **more}


def g(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": list(nodes)}


def mp(name: str, over: str, as_: str, *nodes: Any, after: str = "", **more: Any) -> dict[str, Any]:
    body = {"over": over, "as": as_, "body": g(*nodes)}
    return {"name": name, "kind": "map", "after": after.split(), **body, **more}


def cond(name: str, on: str, after: str = "", *, branches: Any, **more: Any) -> dict[str, Any]:
    inside = {branch: g(*nodes) for branch, nodes in branches.items()}
    base = {"name": name, "kind": "conditional", "after": after.split()}
    return {**base, "on": on, "branches": inside, **more}


def par(name: str, after: str = "", *, branches: Any, **more: Any) -> dict[str, Any]:
    inside = {branch: g(*nodes) for branch, nodes in branches.items()}
    return {"name": name, "kind": "parallel", "after": after.split(), "branches": inside, **more}


def loop(name: str, until: str, *nodes: Any, after: str = "", **more: Any) -> dict[str, Any]:
    base = {"name": name, "kind": "loop", "after": after.split()}
    return {**base, "until": until, "body": g(*nodes), **more}


def dag(*nodes: dict[str, Any]) -> Dag:
    return Dag.from_json(g(*nodes))


def blob(content: str) -> Blob:
    return Blob(hashlib.sha256(content.encode()).hexdigest(), len(content))


class Run(Simulation):
    """A run of tasks that give what ``give`` says, by path or template path, else their path.

    ``save``: path -> {artifact: content}; ``load``: path -> artifacts it loads.
    """

    def __init__(self, *nodes: dict[str, Any], **parameters: Any) -> None:
        super().__init__(dag(*nodes), parameters)
        self.give: dict[str, Mapping[str, Any]] = {}
        self.save: dict[str, Mapping[str, str]] = {}
        self.load: dict[str, Sequence[str]] = {}
        self.last = self.plan()

    def plan(self, invocation: str | None = None, **more: Any) -> Plan:
        return Planner(self.dag).plan(self.history, invocation, **more)

    def of(self, path: str) -> tuple[str, str]:
        """Action and reason of a path in the last plan."""
        step = self.last[path]
        return step.action.value, step.reason.value

    def go(
        self,
        *,
        fail: Collection[str] = (),
        force: Sequence[str] = (),
        die: str | None = None,
        skip: Collection[str] = (),
    ) -> list[str]:
        """One invocation: what it ran, in order. ``die``: stop inside that path, after all else.
        ``skip``: leave these alone, as an invocation does that stops short."""
        self.invocation = self.invoke(force)
        while True:
            self.last = self.plan(self.invocation)
            ready = [step for step in self.last.ready if step.path not in skip]
            ready.sort(key=lambda step: step.path == die)
            if not ready:
                return self.ran
            start = self.begin(ready[0], self.invocation)
            if ready[0].path == die:
                self.last = self.plan(self.invocation)
                return self.ran
            self.finish(ready[0], start, "failed" if ready[0].path in fail else "succeeded")

    def finish(self, step: Step, start: Any, outcome: str = "succeeded") -> End:
        assert step.work is not None
        shape = template(step.path)
        given = self.give.get(step.path, self.give.get(shape, {}))
        good = outcome == "succeeded"
        outputs = {n: given.get(n, step.path) for n in step.work.task.returns} if good else {}
        saved = self.save.get(step.path, self.save.get(shape, {})) if good else {}
        visible = step.work.artifacts()
        loads = self.load.get(step.path, self.load.get(shape, ()))
        loaded = {name: Loaded(visible[name][0].sha256, visible[name][1]) for name in loads}
        consumed = step.work.consumed_with(loaded) if loaded else start.consumed
        end = End(
            "r", step.path, start.attempt, "n", start.invocation, outcome, consumed, start.digest,
            outputs, {name: blob(content) for name, content in saved.items()},
            digest=self.digest(),
        )  # fmt: skip
        self.history.add(end)
        return end
