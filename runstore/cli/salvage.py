"""A run whose own record is damaged: what else there is of it can still be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from runstore import keys
from runstore.bodies import parse_attempt
from runstore.errors import DamagedError
from runstore.framing import parse_pack
from runstore.history import Damaged, History
from runstore.records import RunRecord
from runstore.store import Run

if TYPE_CHECKING:
    from runstore.dag import Dag
    from runstore.storage import Storage

__all__ = ["Salvaged"]


class Salvaged(Run):
    """In place of its record stands an empty one: no DAG, no parameters. To be read, no more."""

    def __init__(self, storage: Storage, run_id: str, problem: str) -> None:
        origin = _origin(storage, run_id)
        super().__init__(storage, RunRecord(run_id, "", "", {"nodes": []}, "", origin=origin))
        self.problem = problem

    def history(self, paths: Iterable[str] | None = None, *, dag: Dag | None = None) -> History:
        """All of it: without the DAG nobody knows what ``paths`` need."""
        history = super().history()
        history.add(Damaged(keys.run_key(self.run_id), self.problem))
        return history


def _origin(storage: Storage, run_id: str) -> dict[str, str] | None:
    """What a fork was made of: one pack of it holds records of another run (FORMAT.md, section 8).

    Without this all that it took over would be taken for damage.
    """
    folder = keys.run_prefix(run_id) + keys.PACKS
    for key, data in storage.read_many(list(storage.list(folder))):
        if isinstance(data, bytes):
            _, records, _ = parse_pack(data, key)
            try:
                found = {parse_attempt(framed, key).run_id for framed in records[:1]} - {run_id}
            except DamagedError:
                continue
            if found:
                name = key.removeprefix(folder).removesuffix(".json")
                return {"run_id": found.pop(), "pack": name}
    return None
