"""A partial history that grows: only what is not known yet is read."""

from __future__ import annotations

from collections.abc import Iterable

from runstore.dag import Dag
from runstore.plan.focus import needed_prefixes
from runstore.plan.history import History
from runstore.store.load import read_history
from runstore.store.view import RunReader

__all__ = ["PartialHistory"]


class PartialHistory:
    """What some node paths of a run need. Reads nothing before :meth:`need`."""

    def __init__(self, run: RunReader, dag: Dag) -> None:
        self._run = run
        self._dag = dag
        self._history: History | None = None
        self._prefixes: set[str] = set()

    def need(self, paths: Iterable[str], *, own: bool = True) -> History:
        """What is known, with all that these paths need.

        :param own: ``False`` leaves out their own records, and those in them.

        Cost: that of :meth:`RunReader.history`, less what was read before.
        """
        # A prefix stands for all that begins with it.
        new = [
            prefix
            for prefix in needed_prefixes(self._dag, paths, own=own)
            if not any(map(prefix.startswith, self._prefixes))
        ]
        if new or self._history is None:
            self._history = read_history(
                self._run.storage, self._run.record, self._dag, new, known=self._history
            )
            self._prefixes.update(new)
        return self._history

    def forget(self) -> None:
        """Read again what is needed next.

        :raises RunRemovedError: if the run was removed meanwhile.
        """
        self._run.check_there()
        self._history = None
        self._prefixes.clear()
