"""What a retry may go on with, and what a fork may take over, when the structure has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runstore.dag import Dag
from runstore.errors import StructureChangedError
from runstore.history import History
from runstore.paths import template
from runstore.plan import Planner, Reason
from runstore.records import End
from runstore.structure import Change, changed, comparable, diff, digest

if TYPE_CHECKING:
    from runstore.store.run import Run

__all__ = ["adoptable", "compare"]


def compare(
    run: Run, dag: Dag, history: History | None = None, *, keep_unchanged: bool = False
) -> list[Change]:
    """What changed in the structure since the run was made.

    :raises StructureChangedError: naming every difference, if there is one and it is not to be
        kept. A structure that an earlier invocation of the run was allowed to change to is fine.
    """
    now_is = digest(dag)
    allowed = {run.record.structure}
    if history is not None:
        allowed |= {each.structure for each in history.invocations.values() if each.structure}
    if now_is in allowed:
        return []
    changes = diff(run.dag, dag)
    if not comparable(now_is, run.record.structure) and not changes:
        return []
    if not keep_unchanged:
        listed = "; ".join(map(str, changes[:8]))
        more = f"; and {len(changes) - 8} more" if len(changes) > 8 else ""
        raise StructureChangedError(
            f"the structure of run {run.run_id!r} has changed: {listed}{more}. "
            f"Undo that, start a new run, or go on with --keep-unchanged: what did not change "
            f"is kept then",
            changes=[str(change) for change in changes],
        )
    return changes


def adoptable(origin: Run, history: History, dag: Dag) -> Iterator[End]:
    """The ends that a fork with this DAG takes over.

    Each is compared with the DAG that it was made with, which its invocation tells; of an
    invocation whose record is gone, that is not known, and its ends stay behind.
    """
    handled = {
        step.path for step in Planner(dag).plan(history).steps if step.reason is Reason.HANDLED
    }
    own = changed(origin.dag, dag)
    unlike: dict[str, frozenset[str]] = {}
    for invocation in history.invocations.values():
        if invocation.dag is None:
            unlike[invocation.id] = own
        else:
            made_with = Dag.from_json(invocation.dag, unknown="ignore")
            unlike[invocation.id] = changed(made_with, dag)
    for path in history.paths():
        end = history.latest(path)
        if not isinstance(end, End):
            continue
        # What the origin, a fork itself, took over was made with what the origin was made with.
        other = own if end is history.adopted.get(path) else unlike.get(end.invocation)
        if other is None or template(path) in other:
            continue
        if history.forces.get(path, -1) >= history.last_number(path):
            continue
        if end.outcome == "succeeded" or path in handled:
            yield end
