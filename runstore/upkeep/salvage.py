"""A run whose own record is damaged: what else there is of it can still be read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runstore.dag import Dag
from runstore.errors import RecordDamagedError, StorageError
from runstore.plan.history import Damaged, History
from runstore.records import End, RunRecord, keys
from runstore.storage import Storage
from runstore.store import Run
from runstore.store.judge import readable

__all__ = ["Salvaged"]

_NONCE = re.compile(rb'"nonce":"([0-9a-f]{32})"')


class Salvaged(Run):
    """In place of its record stands an empty one: no DAG, no parameters. To be read, no more.

    :raises RecordDamagedError: if it cannot be told any more what belongs to the run.
    """

    def __init__(self, storage: Storage, run_id: str, problem: str) -> None:
        nonce = _nonce(storage, run_id, problem)
        origin = _origin(storage, keys.run_prefix(run_id, nonce), nonce)
        super().__init__(storage, RunRecord(run_id, nonce, "", {"nodes": []}, "", origin=origin))
        self.problem = problem

    def history(self, paths: Iterable[str] | None = None, *, dag: Dag | None = None) -> History:
        """All of it: without the DAG nobody knows what ``paths`` need."""
        history = super().history()
        history.add(Damaged(keys.run_key(self.run_id), self.problem))
        return history


def _nonce(storage: Storage, run_id: str, problem: str) -> str:
    """The run's nonce: as the damaged record has it, if it names a folder that is there; else that
    of the one folder there is. Beside it may lie what is left of earlier runs of this id."""
    folder = keys.run_folder(run_id)
    parts = [part[len(folder) : -1] for part in storage.list(folder, shallow=True)]
    there = [part for part in parts if keys.is_nonce(part)]
    try:
        said = _NONCE.search(storage.read(keys.run_key(run_id)))
    except StorageError:
        said = None
    if said is not None and said[1].decode() in there:
        return said[1].decode()
    if len(there) == 1:
        return there[0]
    raise RecordDamagedError(
        f"{problem}; and which of {len(there)} folders beside it is this run's it does not tell",
        advice="restore it from a copy",
        key=keys.run_key(run_id),
    )


def _origin(storage: Storage, prefix: str, nonce: str) -> dict[str, str] | None:
    """What a fork was made of: one pack of it holds ends of other runs, and nothing else
    (FORMAT.md, section 8).

    Without this all that it took over would be taken for damage.
    """
    folder = prefix + keys.PACKS
    for key, data in storage.read_many(list(storage.list(folder))):
        if isinstance(data, bytes):
            found = [record for _, record in readable(data, key)]
            if found and all(type(each) is End and each.run_nonce != nonce for each in found):
                return {"run_id": found[0].run_id, "pack": keys.name_in(key)}
    return None
