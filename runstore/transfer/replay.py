"""Records of what another system did, made along our planner.

What happened there is told attempt by attempt. An attempt is recorded when the planner says that it
is its step's turn, with the inputs that the step has then: so what is recorded fits together, and
what does not fit (a step whose upstream has not succeeded, an item that no list has) is left out. A
step that is left out runs in the next retry: nothing succeeds by being absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeGuard

from runstore.dag import Dag
from runstore.errors import RunExistsError, RunNotFoundError
from runstore.plan import Plan, Planner, Step
from runstore.records import End, Holder, Start, end_of, keys
from runstore.storage.memory import MemoryStorage
from runstore.store import Run, Store, compare
from runstore.store.validation import check_names, clean
from runstore.transfer.copy import copy_run

__all__ = ["Happened", "Items", "Replayed", "replay"]

Items = Callable[[str], Sequence[Any] | None]
"""The path of a map -> the list that it is over; ``None`` while that is not known."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An attempt that another system made."""

    key: str
    """What tells it from all others of its run there, now and later."""
    outcome: str
    """``succeeded``, ``failed``, ``lost`` (it was killed, or its machine died) or ``cancelled``."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Of one that succeeded: name -> JSON value, for each name that its task returns."""
    error: Mapping[str, str] | None = None
    """``type`` and ``message``."""
    began: str = ""
    """RFC 3339, UTC."""
    ended: str = ""
    by: Holder = field(default_factory=lambda: Holder(host="elsewhere"))


@dataclass(slots=True)
class Replayed:
    """What was recorded."""

    run: Run
    plan: Plan
    """What a retry would do."""
    attempts: int = 0
    known: int = 0
    """Attempts that an earlier import had recorded already."""
    is_new: bool = True


def replay(
    target: Store,
    run_id: str,
    dag: Dag,
    parameters: Mapping[str, Any],
    told: Callable[[Step, Items], Sequence[Happened]],
    *,
    source: Mapping[str, str],
    identity: str,
    secrets: Mapping[str, Any] | None = None,
) -> Replayed:
    """Record a run that another system worked on; or, if that was done before, what is new of it.

    :param told: the attempts at a step, in order; none if nothing is known of it.
    :param source: where it is from, for people; recorded with the run and with each import.
    :param identity: the name of the item of ``source`` that tells this run from all others.
    :raises RunExistsError: if the run id is taken, by anything else than an import of this run.
    :raises StructureChangedError: if it was imported with another pipeline.
    :raises DagError: if a node reads a parameter that neither a node nor ``parameters`` gives.
    :raises DivergedError: if somebody else recorded attempts at the same steps meanwhile.

    All is made in memory, and copied at once: what is interrupted leaves no run, and doing it again
    goes on. Memory: the records of the run, twice.
    """
    there = Store(MemoryStorage("replay"))
    run = _brought(target, there, run_id, source, identity)
    is_new = run is None
    if run is None:
        run = there.create_run(dag, parameters, run_id=run_id, source=source, secrets=secrets)
    history = run.history(dag=dag)
    compare(run, dag, history)
    known = {each.nonce for made in history.attempts.values() for each in made if _is_whole(each)}
    invocation = run.begin_invocation("import", history=history, source=source)
    history.add(invocation)
    planner, passed = Planner(dag), set[str]()

    def items(path: str) -> Sequence[Any] | None:
        return planner.items(history, path, invocation.id)

    attempts = again = 0
    while True:
        plan = planner.plan(history, invocation.id)
        ready = [step for step in plan.ready if step.path not in passed]
        if not ready:
            break
        for step in ready:
            passed.add(step.path)
            number = history.last_number(step.path)
            for each in told(step, items):
                text = f"{source[identity]}\n{step.path}\n{each.key}"
                nonce = sha256(text.encode()).hexdigest()[:32]
                if nonce in known:
                    again += 1
                    continue
                number += 1
                _record(run, step, number, nonce, each)
                attempts += 1
        history = run.history(dag=dag)
    if is_new or attempts:
        try:
            copy_run(there, run_id, target, pack=True)
        except RunExistsError:
            raise _taken(target, run_id, source) from None
    return Replayed(target.get_run(run_id), planner.plan(history), attempts, again, is_new=is_new)


def _is_whole(attempt: object) -> TypeGuard[Start | End]:
    return isinstance(attempt, Start | End)


def _brought(
    target: Store, there: Store, run_id: str, source: Mapping[str, str], identity: str
) -> Run | None:
    """What an earlier import recorded, and what was done here since; ``None`` for nothing."""
    try:
        run = target.get_run(run_id)
    except RunNotFoundError:
        return None
    if (run.record.source or {}).get(identity) != source[identity]:
        raise _taken(target, run_id, source)
    copy_run(target, run_id, there)
    return there.get_run(run_id)


def _taken(target: Store, run_id: str, source: Mapping[str, str]) -> RunExistsError:
    what = ", ".join(f"{name} {text}" for name, text in source.items() if name != "file")
    return RunExistsError(
        f"run {run_id!r} is in {target.url} already, and is not {what}",
        advice="import it under another id, with --run-id",
        run_id=run_id,
    )


def _record(run: Run, step: Step, number: int, nonce: str, told: Happened) -> None:
    """One attempt, as it was."""
    assert step.work is not None
    assert run.invocation is not None
    kept: dict[str, Any] = {}
    if told.outcome == "succeeded":
        check_names(step.path, step.work.task.returns, told.outputs)
        kept = {
            name: run.blobs.value(value, f"{name!r} returned by {step.path}")
            for name, value in told.outputs.items()
        }
    start = Start(
        run.run_id, step.path, number, nonce, run.invocation, told.by, told.began,
        step.work.consumed, run_nonce=run.record.nonce,
    )  # fmt: skip
    run.writer.write(keys.attempt_key(run.prefix, step.path, number, "start"), start)
    error = {name: clean(text) for name, text in told.error.items()} if told.error else None
    run.writer.end(
        end_of(start, told.outcome, told.ended, outputs=kept, error=error, ended_by=told.by)
    )
