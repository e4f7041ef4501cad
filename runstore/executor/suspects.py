"""Steps whose worker process is gone: which have failed, and which are run again, alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator

from msgspec.structs import replace

from runstore.errors import RunstoreError
from runstore.executor.failure import DIED_OR_ANOTHER, how_it_died, what_died
from runstore.plan import Step
from runstore.plan.history import Damaged
from runstore.records import End, Start
from runstore.store import Run
from runstore.store.folder import left_files

__all__ = ["Suspects"]

_UNBEGUN = 3
"""How often a step may be lost before it began."""


class Suspects:
    """Those of which one broke the executor, and nobody knows which. They are run one at a time:
    the one that brings the executor down when it is alone has failed.

    :param end_for: as :meth:`RecordWriter.end_for`.
    """

    def __init__(self, run: Run, end_for: Callable[[Start, str, str, str], End | Damaged]) -> None:
        self.queue: deque[Step] = deque()
        """Those that wait for their turn."""
        self._run = run
        self._end_for = end_for
        self._lost: dict[str, End] = {}
        self._unbegun: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether any is left: then nothing else runs."""
        return bool(self.queue or self._lost)

    @property
    def lost(self) -> Collection[End]:
        """How the attempts ended that are made again. What an invocation has tried is settled for
        the planner, so it is told of them when the step has come to an end."""
        return self._lost.values()

    def cleared(self, path: str) -> End | None:
        """A step has come to an end; how it was lost before, if it was."""
        return self._lost.pop(path, None)

    def gone(
        self, steps: Collection[tuple[Step, int | None]], *, guilty: bool
    ) -> Iterator[tuple[Step, End | None]]:
        """The processes that these steps were given to are gone, with exit codes as far as known.
        Gives the steps that have come to an end, and how. The others are in :attr:`queue`, or, if
        they did not begin, for the next plan to find.

        :param guilty: there is one step for each process that died, so that it is the one.
        :raises RunstoreError: if workers die over and over before they begin a step.
        :raises StorageError: if an end cannot be recorded.
        """
        history = self._run.history([step.path for step, _ in steps])
        for step, code in steps:
            assert step.work is not None
            path, number = step.path, step.work.number
            latest = history.latest(path)
            if not isinstance(latest, Start | End) or (latest.invocation, latest.attempt) != (
                self._run.invocation, number,
            ):  # fmt: skip
                self._has_not_begun(step, code)
                continue
            if isinstance(latest, End):
                end: End | None = latest
            else:
                files = left_files(latest.nonce)
                if guilty or path in self._lost:
                    made = self._end_for(latest, "failed", "WorkerDied", what_died(code) + files)
                else:
                    made = self._end_for(latest, "lost", "WorkerDied", DIED_OR_ANOTHER + files)
                end = made if isinstance(made, End) else None
            # An executor that breaks ends its workers, and one that can still says so.
            again = end is not None and end.outcome in ("lost", "cancelled")
            if end is None or not again or guilty or path in self._lost:
                yield step, end
                continue
            self._lost[path] = end
            self.queue.append(replace(step, work=replace(step.work, number=number + 1)))

    def _has_not_begun(self, step: Step, code: int | None) -> None:
        self._unbegun[step.path] += 1
        if self._unbegun[step.path] > _UNBEGUN:
            raise RunstoreError(
                f"worker processes die before they begin {step.path} (the last one "
                f"{how_it_died(code)}): does its module import, is what starts the run "
                f'below `if __name__ == "__main__":`, and is there memory enough?'
            )
        if step.path in self._lost:
            self.queue.append(step)
