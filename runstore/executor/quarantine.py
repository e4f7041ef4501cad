"""Steps whose worker process is gone: which have failed, and which are run again, alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator

from msgspec.structs import replace

from runstore.errors import RunstoreError
from runstore.executor.failure import DIED_OR_ANOTHER, how_it_died, what_died
from runstore.plan import Step
from runstore.plan.history import Damaged, History
from runstore.records import End, Start
from runstore.store import Run
from runstore.store.folder import left_files

__all__ = ["Quarantine", "tried"]

_MAX_DEATHS = 3
"""How many worker processes may die before they begin one step."""


def tried(step: Step, history: History, invocation: str | None) -> Start | End | None:
    """What is recorded of the attempt that an invocation was to make at a step, if it began."""
    latest = history.latest(step.path)
    wanted = (invocation, step.work and step.work.number)
    is_it = isinstance(latest, Start | End) and (latest.invocation, latest.attempt) == wanted
    return latest if is_it else None  # type: ignore[return-value]


class Quarantine:
    """The steps that were at work when an executor broke, if it cannot be told which of them broke
    it. They run one at a time: a step that breaks the executor while it runs alone has failed.

    :param end_for: as :meth:`RecordWriter.end_for`.
    """

    def __init__(self, run: Run, end_for: Callable[[Start, str, str, str], End | Damaged]) -> None:
        self.queue: deque[Step] = deque()
        """The steps that wait to run alone."""
        self._run = run
        self._end_for = end_for
        self._quarantined_ends: dict[str, End] = {}
        self._deaths_before_start: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether a step is left in it: until then nothing else runs."""
        return bool(self.queue or self._quarantined_ends)

    @property
    def lost(self) -> Collection[End]:
        """The ends of attempts that are made again. The planner takes what an invocation tried as
        settled, so it is told of them only when the step has ended."""
        return self._quarantined_ends.values()

    def cleared(self, path: str) -> End | None:
        """A step has ended: take it out. Returns the end of its attempt that was lost before."""
        return self._quarantined_ends.pop(path, None)

    def gone(
        self, steps: Collection[tuple[Step, int | None]], *, attributed: bool
    ) -> Iterator[tuple[Step, End | None]]:
        """The worker processes of these steps have died, with the exit codes that are known.
        Yields the steps that have ended, and their ends. The others are in :attr:`queue`; those
        that did not begin come with the next plan.

        :param attributed: each process that died had one step, so the death is that step's.
        :raises RunstoreError: if workers die over and over before they begin a step.
        :raises StorageError: if an end cannot be recorded.
        """
        history = self._run.history([step.path for step, _ in steps])
        for step, code in steps:
            assert step.work is not None
            path, number = step.path, step.work.number
            latest = tried(step, history, self._run.invocation)
            if latest is None:
                self._has_not_begun(step, code)
                continue
            if isinstance(latest, End):
                end: End | None = latest
            else:
                files = left_files(latest.nonce)
                if attributed or path in self._quarantined_ends:
                    made = self._end_for(latest, "failed", "WorkerDied", what_died(code) + files)
                else:
                    made = self._end_for(latest, "lost", "WorkerDied", DIED_OR_ANOTHER + files)
                end = made if isinstance(made, End) else None
            # An executor that breaks ends its workers, and one that can still says so.
            again = end is not None and end.outcome in ("lost", "cancelled")
            if end is None or not again or attributed or path in self._quarantined_ends:
                yield step, end
                continue
            self._quarantined_ends[path] = end
            self.queue.append(replace(step, work=replace(step.work, number=number + 1)))

    def _has_not_begun(self, step: Step, code: int | None) -> None:
        self._deaths_before_start[step.path] += 1
        if self._deaths_before_start[step.path] > _MAX_DEATHS:
            raise RunstoreError(
                f"worker processes die before they begin {step.path} (the last one "
                f"{how_it_died(code)}): does its module import, is what starts the run "
                f'below `if __name__ == "__main__":`, and is there memory enough?'
            )
        if step.path in self._quarantined_ends:
            self.queue.append(step)
