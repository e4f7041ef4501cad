"""A simulation whose every plan is judged by the oracle."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from runstore.canonical import dumps
from runstore.dag import Dag, walk
from runstore.paths import template
from runstore.plan import Plan, Planner, Step
from runstore.plan.history import Damaged, History
from runstore.records import Blob, End, Loaded, Start
from tests.planning.generate import PARAMETERS, returns
from tests.planning.oracle import Oracle
from tests.planning.simulation import Simulation
from tests.planning.world import UNCLEAR, Graph, mark

SETTLED = ("SKIP", "OMIT", "FAILED")


class Judged(Simulation):
    """Remembers, for every attempt, what the oracle says it was made from when it began.

    :param judging: ``False`` for the same life in a fifth of the time, without the oracle.
    """

    def __init__(
        self, dag: Dag, parameters: Mapping[str, Any] | None = None, *, judging: bool = True
    ) -> None:
        self.judging = judging
        super().__init__(dag, PARAMETERS if parameters is None else parameters)
        self.saw: dict[str, Any] = {}
        self.at_work: dict[str, tuple[Step, Start]] = {}
        """Path -> an attempt whose process lives."""
        self.planner = Planner(dag)
        self._recorded: dict[str, dict[str, Any]] = {}
        graph = Graph(dag, "")
        idle = [n for n in dag.nodes if n.handles and not all(b.nodes for b in n.bodies.values())]
        self.before_idle = {graph.path(up) for node in idle for up in graph.followed(node)}
        """Paths that a composite handler follows in which there may be nothing to do."""
        self.met: set[str] = set()
        """What came about in its plans: reasons, and what else is worth a case."""

    def oracle(self, invocation: str | None = None) -> Oracle:
        history = self.history
        made_with = {each.id: each.dag for each in history.invocations.values()}
        here = own_structures(self.dag)
        run = unlike(self._structures("", history.run.dag), here)
        # What a fork took over is of no invocation of this run: it is as the run itself.
        changed = {end.invocation: run for end in history.adopted.values()}
        for name, document in made_with.items():
            changed[name] = unlike(self._structures(name, document), here)
        return Oracle(
            self.dag, history.run.parameters, history.attempts, saw=self.saw,
            adopted=history.adopted, forces=history.forces, invocation=invocation, unlike=changed,
        )  # fmt: skip

    def _structures(self, invocation: str, document: Any) -> dict[str, Any]:
        """Those of a record, which never changes: of an invocation, or of the run."""
        if invocation not in self._recorded:
            self._recorded[invocation] = own_structures(Dag.from_json(document))
        return self._recorded[invocation]

    def plan(self, invocation: str | None = None) -> Plan:
        """A plan, once the oracle has said the same of every step."""
        if self.planner.dag is not self.dag:
            self.planner = Planner(self.dag)
        plan = self.planner.plan(self.history, invocation)
        if self.judging:
            judge(plan, self.oracle(invocation))
        self.meet(plan)
        return plan

    def meet(self, plan: Plan) -> None:
        handlers = {node.name for _, node in walk(self.dag) if node.handles and node.bodies}
        for step in plan.steps:
            self.met.add(step.reason.value)
            last = step.path.rpartition("/")[2]
            if last in handlers and step.action == "SKIP":
                empty = not any(other.path.startswith(step.path + ":") for other in plan.steps)
                self.met.add("handler with nothing to do" if empty else "composite handler")
            if step.reason.value in ("lost", "cancelled") and step.path in self.before_idle:
                self.met.add("lost before a handler with nothing to do")
            if "#" in step.path:
                self.met.add("an equal item")
            if step.path.count("/") > 2:
                self.met.add("deep")

    def begin(self, step: Step, invocation: str) -> Start:
        sees = self.oracle(invocation).sees[step.path] if self.judging else None
        start = super().begin(step, invocation)
        self.saw[start.digest] = sees
        self.at_work[step.path] = step, start
        return start

    def go(
        self,
        *,
        fail: Collection[str] = (),
        force: Sequence[str] = (),
        code: int = 0,
        stop: int | str | None = None,
        order: int | None = None,
        dag: Dag | None = None,
        workers: int = 1,
        death: str = "dies",
        alive: bool = False,
    ) -> Plan:
        """One invocation.

        :param fail: paths that fail.
        :param stop: end in that attempt, by its count or its path. ``death`` says how: it ``dies``,
            and leaves its attempts open; or it is ``cancelled``, and says so; or they are ``lost``
            to somebody else while the invocation goes on.
        :param order: the seed by which steps are chosen and done; as they come by default.
        :param workers: how many attempts are open at once.
        :param alive: the processes of open attempts live, and may end them now.
        """
        others = dict(self.at_work) if alive else {}
        self.at_work = dict(others)
        invocation = self.invoke(force, dag, alive=others)
        choose = random.Random(order)
        begun = 0
        for _ in range(6000):
            plan = self.plan(invocation)
            ready = plan.ready if len(self.at_work) < workers + len(others) else []
            if not ready:
                if not self.at_work:
                    return plan
                path = next(iter(self.at_work))
                if order is not None:
                    path = choose.choice(list(self.at_work))
                self.finish(path, path in fail, code)
                continue
            step = ready[0] if order is None else choose.choice(ready)
            self.begin(step, invocation)
            begun += 1
            if step.path == stop or (type(stop) is int and begun > stop):
                stop = None
                if death == "dies":
                    return self.plan(invocation)
                for _, start in self.at_work.values():
                    if start.invocation == invocation:
                        self.end(start, death, {})
                self.at_work = {
                    path: found
                    for path, found in self.at_work.items()
                    if found[1].invocation != invocation
                }
                if death == "cancelled":
                    return self.plan(invocation)
        raise AssertionError("it never ends")

    def finish(self, path: str, fails: bool, code: int) -> None:
        """The end of an attempt at work: it loads and saves what its place in the DAG says."""
        step, start = self.at_work.pop(path)
        work = step.work
        assert work is not None
        draws = random.Random(f"{template(path)} {code}")
        sight = {a: found for a, found in work.artifacts().items() if found[1] != "?"}
        loads = {a: found for a, found in sorted(sight.items()) if draws.random() < 0.5}
        if self.judging:
            contents = {a: (blob.sha256, source) for a, (blob, source) in loads.items()}
            self.saw[start.digest].loaded = contents
        consumed = start.consumed
        if loads:
            self.met.add(
                "loaded from around" if any("/" in s for _, s in loads.values()) else "loaded"
            )
            loaded = {a: Loaded(blob.sha256, source) for a, (blob, source) in loads.items()}
            consumed = work.consumed_with(loaded)
        seen = {**work.params, "loaded": sorted(blob.sha256 for blob, _ in loads.values())}
        given = returns(path, work.task.returns, work.params, code)
        saved = {
            name: content([template(path), name, code, {**seen, **given}], draws.randint(1, 3))
            for name in ("one.csv", "data/two.bin")
            if draws.random() < 0.3
        }
        if fails:
            self.end(start, "failed", {}, artifacts=saved, consumed=consumed)
        else:
            self.end(start, "succeeded", given, artifacts=saved, consumed=consumed)

    def damage(self, path: str, number: int, kind: str) -> None:
        """Spoil the end of an attempt, or the start of an open one."""
        old = self.history
        gone = next(a for a in old.attempts[path] if a.attempt == number)
        records: list[Any] = [a for found in old.attempts.values() for a in found if a is not gone]
        spoilt = Damaged("a key", "it is torn", path, number, kind)
        self.history = History(old.run, [*old.invocations.values(), *records, spoilt])
        for end in old.adopted.values():
            self.history.adopt(end)
        self.at_work.pop(path, None)
        self.met.add(f"damaged {kind}")

    def fork(self, parameters: Mapping[str, Any]) -> Judged:
        """A new run that takes over what succeeded, and handled failures."""
        plan = self.plan()  # judged
        handled = {step.path for step in plan.steps if told(step) == ("SKIP", "failure handled")}
        parameters = {**self.history.run.parameters, **parameters}
        new = Judged(self.dag, parameters, judging=self.judging)
        new.counter, new.saw, new.met = self.counter, dict(self.saw), self.met | {"fork"}
        for path in self.history.paths():
            found = self.history.attempts.get(path) or [self.history.adopted[path]]
            end = found[-1]
            if not isinstance(end, End) or self.history.forces.get(path, -1) >= end.attempt:
                continue
            if end.outcome == "succeeded" or path in handled:
                new.history.adopt(end)
        return new


def content(of: Any, few: int) -> Blob:
    """Few contents are possible, so that equal ones come about."""
    number = int.from_bytes(hashlib.sha256(dumps(of)).digest()[:4]) % few
    return Blob(hashlib.sha256(str(number).encode()).hexdigest(), 1)


def own_structures(dag: Dag) -> dict[str, Any]:
    """Template path of each task -> its own structure."""
    return {
        path: (
            node.type, node.trigger, node.handles,
            *(frozenset(names) for names in (node.after, node.params, node.returns)),
        )
        for path, node in walk(dag)
        if node.kind == "task"
    }  # fmt: skip


def unlike(one: dict[str, Any], other: dict[str, Any]) -> frozenset[str]:
    return frozenset(path for path in other if one.get(path) != other[path])


def judge(plan: Plan, oracle: Oracle) -> None:
    """Every step is what the oracle says of it, and so is the whole."""
    said = {step.path: told(step) for step in plan.steps}
    assert len(said) == len(plan.steps), "a path is told twice"
    assert said.keys() == oracle.said.keys(), said.keys() ^ oracle.said.keys()
    for step in plan.steps:
        mine, right = said[step.path], oracle.said[step.path]
        if right[0] == "PENDING":
            assert mine[0] in ("RUN", "WAIT"), (step.path, mine, right)
        elif step.kind != "task" and not right[1]:
            assert mine[0] == right[0], (step.path, mine, right)
        else:
            assert mine == right, (step.path, mine, right)
        if step.work is not None:
            sees = oracle.sees[step.path]
            assert mark(step.work.params) == mark(sees.values), step.path
            seen, right = dict(sight(step)), dict(sees.sight)
            assert seen == right, (step.path, seen.items() ^ right.items())  # type: ignore[attr-defined]
            followed = step.work.consumed.results.keys() ^ sees.results.keys()
            assert not followed, (step.path, followed)
        if mine[0] == "SKIP" and step.kind == "task":
            outcome = step.record.outcome if isinstance(step.record, End) else None
            handled = ("failed", None)  # None: it lacked a parameter, and made no attempt
            assert outcome in (handled if mine[1] == "failure handled" else ("succeeded",))
    assert plan.status == {"done": "succeeded"}.get(oracle.status, oracle.status)
    if plan.status != "pending":
        assert mark(plan.values) == mark(oracle.values)


def told(step: Step) -> tuple[str, str]:
    reason = step.reason.value
    return step.action.value, "succeeded" if reason.startswith("succeeded") else reason


def sight(step: Step) -> Iterator[tuple[str, tuple[str, str]]]:
    assert step.work is not None
    for address, (blob, source) in step.work.artifacts().items():
        yield address, (UNCLEAR if source == "?" else (blob.sha256, source))
