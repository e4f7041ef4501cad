"""Acceptance scenarios, in which workflows take turns with a laptop: the same steps run, with the
same values, whoever began.

What a workflow cannot do (a fork, a forced step) is done on the laptop in any case. Here are those
scenarios whose pods differ in kind; with ``RUNSTORE_HYPOTHESIS=explore`` (``make explore``) here
is every one.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore.errors import RunstoreError
from runstore.executor import Result
from runstore.integrations.argo.options import Options
from runstore.integrations.argo.workflow import to_argo
from runstore.plan import Planner
from tests.acceptance import scenario as scenarios
from tests.argo import acting
from tests.argo.evaluator import Node, Pod, PodResult, Workflow
from tests.argo.on_argo import Cluster, on_a_bucket
from tests.exploration import randomness

CASES = Path(scenarios.__file__).parent / "cases"
EVERY = os.environ.get("RUNSTORE_HYPOTHESIS") == "explore"

ASKED = {
    "linear-killed": "a pod is killed, and what it left open is taken over",
    "original-parameters": "a rerun is submitted with other parameters",
    "run-id-taken": "a run id that another workflow has",
    "always-run-step": "a step that runs in each workflow",
    "a-missing-value-fails": "a step fails by what it returned",
    "recovered-run-is-a-success": "a handler, and a step behind it that one success is enough for",
    "a-handler-at-the-end": "a handler of what could not run",
    "lost-is-not-handled-no": "a handler that must not handle a pod that was killed",
    "map-awkward-items": "items that must be spelt with care",
    "map-equal-items": "two pods with one item",
    "map-empty": "no pod at all, and a step that follows",
    "map-in-map": "items of items, some of which are done",
    "conditional-in-map": "a branch for each item",
    "conditional-no-branch-matches": "a choice that fails",
    "parallel-one-branch-fails": "branches side by side",
    "loop-killed-in-the-third-iteration": "a template that calls itself, and is killed",
    "structure-loop-limit-is-configuration": "a loop that fails though its steps have not",
    "structure-dependency-changed": "a workflow of another structure",
}
"""Scenario -> what it asks of a workflow that no other here does."""

NOT_THERE = {
    "unknown-run": "a workflow with rerun=true starts a run that is not there",
}
"""Scenario -> why a workflow does something else, as docs/argo.md says."""

BY_CHANCE = {
    "a-handler-is-killed": "what waits for its failure beside a handler may come before it or not",
    "a-handler-is-killed-again": "the same",
}
"""Scenario -> why which steps ran beside the one that was killed is not the same each time."""

UNSEEN = ("error", "warns", "new_records")
"""A pod says what is wrong, not the class of the error; it has an invocation record of its own."""


class TakingTurns:
    """Performs the invocations of a scenario as workflows, whose turn it is.

    ``attempts``: how often a pod is replaced. Not at all, by default: one that is killed must leave
    its attempt open.
    """

    def __init__(
        self, scenario: dict[str, Any], cluster: Cluster, first: bool, attempts: int = 0
    ) -> None:
        self.attempts = attempts
        self.cluster = cluster
        self.folder = cluster.folder
        self.hurt: Callable[[Workflow], None] = lambda workflow: None
        self.workflow: Workflow | None = None
        self.scenario = scenario
        self.first = first
        told = json.dumps(scenario)
        (self.folder / "scenario.json").write_text(told, encoding="utf-8")

    def __call__(self, at: int, state: scenarios.State) -> scenarios.Seen | None:
        invocation = self.scenario["invocations"][at]
        (self.folder / "invocation").write_text(str(at))
        theirs = (at % 2 == 0) == self.first
        if not theirs or invocation["mode"] == "fork" or "force" in invocation:
            return None
        rerun = "true" if invocation["mode"] == "retry" else "false"
        seen = scenarios.Seen(unseen=UNSEEN + (("attempts", "ran") if self.attempts else ()))
        try:
            made = acting.acted(self.folder)
            options = Options(
                image="i", store=self.cluster.store, pipeline=acting.__file__, name="p",
                attempts=self.attempts, grace=2,
            )  # fmt: skip
            workflow = self.cluster.submit(state.run_id, to_argo(made, options), rerun=rerun)
        except RunstoreError as error:
            seen.status, seen.texts = "refused", [str(error)]
            return seen
        self.workflow = workflow
        self.hurt(workflow)
        phase = workflow.run(workers=invocation.get("workers", 4)).phase
        seen.texts = list(self.cluster.said.values())
        self.cluster.said.clear()
        if workflow.node("plan").phase != "Succeeded":
            seen.status = "refused"
            return seen
        killed = not self.attempts and any(
            node.outputs and node.outputs.get("exitCode") == "137" for node in nodes(workflow)
        )
        seen.status = "killed" if killed else phase.lower()
        if killed:
            self.tell_of_the_dead(workflow.document)
            if self.scenario["name"] in BY_CHANCE:
                seen.unseen = (*seen.unseen, "ran")
        run = runstore.open_store(self.cluster.store).get_run(state.run_id)
        seen.plan = Planner(made.dag).plan(run.history(dag=made.dag), workflow.uid)
        if phase == "Succeeded" and invocation["expect"].get("error") == "RunNotFailedError":
            # Here it is told that there is nothing to do, by a code of its own. There it is done.
            seen.status = "refused"
        seen.values = Result("", run, seen.plan).values()
        return seen

    def tell_of_the_dead(self, document: dict[str, Any]) -> None:
        """As a user does before a retry on a laptop, which cannot ask for pods."""
        file = self.folder / "wf.json"
        file.write_text(json.dumps(document))
        assert self.cluster.local("argo-import", str(file))[0] == 0


def nodes(workflow: Workflow) -> list[Node]:
    return list(workflow.controller.status.nodes.values())


def _scenarios() -> Iterator[Any]:
    left = set(ASKED)
    for file in sorted(CASES.glob("*.json")):
        for scenario in json.loads(file.read_text(encoding="utf-8")):
            name = scenario["name"]
            left.discard(name)
            if name not in NOT_THERE and (EVERY or name in ASKED):
                yield pytest.param(scenario, id=f"{file.stem}-{name}")
    assert not left, f"no such scenario: {left}"


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Cluster]:
    """New clusters, by their names: with ``make explore`` on a bucket, else on disk."""
    pipeline = Path(acting.__file__)

    def made(name: str) -> Cluster:
        folder = tmp_path / name
        folder.mkdir()
        if EVERY:
            return on_a_bucket(folder, monkeypatch, pipeline)
        return Cluster(folder, pipeline=pipeline)

    return made


@pytest.mark.parametrize("first", ["argo-first", "here-first"])
@pytest.mark.parametrize("scenario", list(_scenarios()))
def test_scenario_in_turns(
    scenario: dict[str, Any], first: str, clusters: Callable[[str], Cluster]
) -> None:
    turns = TakingTurns(scenario, clusters("here"), first == "argo-first")
    scenarios.play(scenario, turns.cluster.store, elsewhere=turns)


def _kills(scenario: dict[str, Any]) -> bool:
    return "kill" in scenario["invocations"][0]


@pytest.mark.parametrize("scenario", [s for s in _scenarios() if not _kills(*s.values)])
def test_each_pod_in_turn_dies_once(
    scenario: dict[str, Any], clusters: Callable[[str], Cluster]
) -> None:
    """Before it begins, in the midst of its work, or when it is done and nobody knows it yet: the
    same steps run, with the same values, and what was done is not done again."""
    started = {**scenario, "invocations": scenario["invocations"][:1]}

    def play(name: str, hurt: Callable[[Workflow], None] | None = None) -> TakingTurns:
        turns = TakingTurns(started, clusters(name), first=True, attempts=5)
        turns.hurt = hurt or turns.hurt
        scenarios.play(started, turns.cluster.store, elsewhere=turns)
        return turns

    calm = play("calm")
    if calm.workflow is None:
        return  # it is refused when it is emitted
    outcomes = scenarios.attempts(runstore.open_store(calm.cluster.store), scenarios.RUN_ID)
    pods = [p.node_name.removeprefix(f"{calm.workflow.name}.") for p in calm.workflow.pods]
    pods = [node for node in pods if node != "verdict"]  # Argo makes no other one
    deaths = [(how, node) for node in pods for how in ("before", "after")]
    deaths += [("within", path) for path in outcomes]
    if not EVERY:
        deaths = randomness(scenario["name"]).sample(deaths, min(len(deaths), 2))
    for number, (how, where) in enumerate(deaths):
        turns = play(str(number), functools.partial(_dies, how, where))
        found = scenarios.attempts(runstore.open_store(turns.cluster.store), scenarios.RUN_ID)
        again = {path for path, each in found.items() if each != outcomes.get(path)}
        assert found.keys() == outcomes.keys(), (how, where)
        if how == "within":
            assert again == {where}
            assert found[where] == ["lost", *outcomes[where]]
        else:
            # How a step failed is in its pod's exit code, which is not known of an evicted pod: so
            # Argo makes another, and the step is tried once more.
            assert all(found[path] == ["failed", "failed"] for path in again), (how, where)
            assert len(again) <= (how == "after"), (how, where)


def _dies(how: str, where: str, workflow: Workflow) -> None:
    if how == "within":
        folder = Path(workflow.run_pod.folder)  # type: ignore[attr-defined]
        (folder / "dies").write_text(where, encoding="utf-8")
        return
    hurt: list[str] = []

    def evicted(pod: Pod, result: PodResult | None = None) -> PodResult | None:
        if not hurt and pod.node_name == f"{workflow.name}.{where}":
            hurt.append(where)
            return PodResult.evicted()
        return None

    if how == "before":
        workflow.before_pod = evicted
    else:
        workflow.after_pod = evicted
