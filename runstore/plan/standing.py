"""What a plan says of a path, be it a node, or an item, branch or iteration of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from runstore.errors import RefusedError
from runstore.plan.steps import Action, Plan, Reason, Step, cuts, within
from runstore.records import End

__all__ = ["Standing"]

Kind = Literal["ready", "succeeded", "omitted", "failed", "refused", "waiting"]


class Standing:
    """How things stand at a path.

    ``kind``: ``ready`` (something in it can run now), ``succeeded``, ``omitted`` (not taken, or its
    trigger not met), ``failed`` (something in it was tried, or it fails by a value), ``refused``
    (what it follows has failed, or it fails without an attempt) or ``waiting``. ``step`` is what
    decided, ``ready`` the tasks that can run.

    :raises RefusedError: for a path that the run does not have, and will not come to have.
    """

    def __init__(self, plan: Plan, path: str, inside: Sequence[Step] | None = None) -> None:
        if inside is None:
            inside = [step for step in plan.steps if within(step.path, path)]
        self.ready = [step for step in inside if step.work is not None]
        own = next((step for step in inside if step.path == path), None)
        if not inside:
            own = _around(plan, path)
        worst = _worst(inside)
        self.step: Step = own or worst  # type: ignore[assignment]  # one of them is there
        self.kind: Kind = self._kind(own)
        if self.kind == "failed" and own is not None and worst is not None:
            self.step = worst  # of a composite, the task in it

    def _kind(self, own: Step | None) -> Kind:
        if self.ready:
            return "ready"
        step = self.step
        if step.action is Action.SKIP:
            return "succeeded"
        if step.action is Action.OMIT:
            return "refused" if step.reason is Reason.UPSTREAM_FAILED else "omitted"
        if step.action is Action.FAILED:
            tried = own is None or own.kind != "task" or isinstance(step.record, End)
            return "failed" if tried else "refused"
        return "waiting"

    @classmethod
    def of(cls, plan: Plan, paths: Sequence[str]) -> Standing:
        """How things stand at several paths: as at the one that decides for all."""
        if len(paths) == 1:
            return cls(plan, paths[0])
        inside: dict[str, list[Step]] = {path: [] for path in paths}
        for step in plan.steps:
            for at in cuts(step.path):
                if (found := inside.get(step.path[:at])) is not None:
                    found.append(step)
        first, *others = (cls(plan, path, inside[path]) for path in paths)
        for other in others:
            if _ORDER.index(other.kind) < _ORDER.index(first.kind):
                first.kind, first.step = other.kind, other.step
            first.ready += other.ready
        return first


_ORDER: Sequence[Kind] = ("ready", "failed", "waiting", "refused", "succeeded", "omitted")


_WORST_FIRST = (Action.FAILED, Action.WAIT, Action.RUN, Action.SKIP, Action.OMIT)
"""What decides for all that is in a path. What was left out in it does not: why is there, too."""


def _worst(inside: Sequence[Step]) -> Step | None:
    """The step that decides. A composite counts, too: one may fail, though no task in it has; where
    a task says the same, that is named."""
    for action in _WORST_FIRST:
        found = [step for step in inside if step.action is action]
        if found:
            return next((step for step in found if step.kind == "task"), found[0])
    return None


def _around(plan: Plan, path: str) -> Step:
    """What is said of the composite in which the path would stand."""
    around = [step for step in plan.steps if within(path, step.path)]
    nearest = max(around, key=lambda step: len(step.path), default=None)
    if nearest is None or nearest.action in (Action.SKIP, Action.RUN):
        raise RefusedError(
            f"run {plan.run_id!r} has no step {path!r} at this point",
            advice="`runstore plan` lists those it has",
            run_id=plan.run_id,
            path=path,
        )
    return nearest
