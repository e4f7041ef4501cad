"""What is lost with a damaged object of a run, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import NamedTuple

from runstore.errors import PathError, RecordDamagedError
from runstore.plan.history import Attempt, Damaged, History
from runstore.records import Blob, End, Start, key_of, keys
from runstore.records.framing import stated_digest, unframe
from runstore.store import Run
from runstore.store.ids import may_force
from runstore.store.judge import readable

__all__ = ["WITHOUT_A_RUN", "Advice", "RepairAdvice"]

_COPY = "restore it from a copy"
WITHOUT_A_RUN = f"{_COPY}; without it the run cannot go on, though the rest of it can be read"
"""What to do about a damaged run record."""


class Advice(NamedTuple):
    text: str
    decides: bool = False
    """Whether a plan may be another one for it."""
    counted: bool = False
    """Whether it is an attempt's record that now counts as no success."""


class RepairAdvice:
    """What to do about each damaged object of a run.

    :param history: what can be read of the run; ``None`` if the storage would not give it.
    :param damaged: the keys of all that is damaged.
    :param command: gives a command line for this run, as people type it, of a verb and options.
    """

    def __init__(
        self,
        run: Run,
        history: History | None,
        damaged: Collection[str],
        command: Callable[..., str],
    ) -> None:
        self.run = run
        self.history = history
        self.damaged = damaged
        self._command = command

    def of(self, key: str) -> Advice:
        """Reads nothing, but for a pack: that pack, and once, in one pass, all loose attempts."""
        if key == keys.MARKER:
            return Advice(f"{_COPY}, or remove it: the next `runstore run` makes one")
        rest = key.removeprefix(self.run.prefix)
        name = keys.name_in(rest)
        if key == keys.run_key(self.run.run_id):
            return Advice(WITHOUT_A_RUN, decides=True)
        if rest.startswith(keys.INVOCATIONS):
            lost = "a changed structure that it worked with (--keep-unchanged) is told by it"
            if may_force(name):
                lost = "what it forced (--force) and has not run yet is forgotten without it"
            return Advice(f"{_COPY}: {lost}", decides=True)
        if rest.startswith(keys.PACKS):
            return self._of_pack(key, name)
        if rest.startswith(keys.BLOBS):
            return self._of_blob(name)
        parsed = keys.parse_attempt(rest.rpartition("/")[2])
        if rest.startswith(keys.ATTEMPTS) and parsed is not None:
            return self._of_attempt(*parsed)
        return Advice("nothing reads it: move it away")

    def _of_attempt(self, node_key: str, number: int, kind: str) -> Advice:
        if self.history is None:
            return Advice(_COPY, decides=True)
        path = self._path(node_key)
        latest = self.history.latest(path) if path else None
        record = self._recorded(path, number)
        if isinstance(record, End) and kind == "end":
            return Advice(f"harmless: a pack holds the same, and is read in its place; {_COPY}")
        if isinstance(record, End):
            ended = bool(record.digest)  # one without is in no store: a plan only presumes it
        else:
            ended = isinstance(record, Damaged) and record.kind == "end"
        superseded = latest is not None and latest.attempt > number
        if superseded and (kind == "end" or ended):
            by = f"superseded by attempt {latest.attempt}"  # type: ignore[union-attr]
            return Advice(f"{by}, which decides: harmless; {_COPY} if there is one")
        if kind == "end":
            text = f"{_COPY}, or let {self._command('retry')} run its step again"
            return Advice(text, decides=True, counted=True)
        if isinstance(record, Start):
            return Advice(f"harmless: a pack holds the same, and is read in its place; {_COPY}")
        if ended:
            return Advice(f"harmless: its attempt has ended; {_COPY} if there is one")
        if superseded:
            text = (
                f"its attempt has no end: a plan would wait for it, and cannot tell any more who "
                f"is at it; {_COPY}, or see to it that who began it is dead"
            )
            return Advice(text, decides=True)
        given_up = self._command("retry", "--takeover", "all")
        text = f"{_COPY}, or, if who began it is dead, let {given_up} run its step again"
        return Advice(text, decides=True, counted=True)

    def _path(self, node_key: str) -> str | None:
        try:
            path = keys.decode(node_key)
        except PathError:
            path = None
        return path or self._long.get(node_key)

    @cached_property
    def _long(self) -> dict[str, str]:
        """The paths that their key forms do not tell."""
        paths = self.history.paths() if self.history else ()
        return {keys.encode(path): path for path in paths}

    def _recorded(self, path: str | None, number: int) -> Attempt | None:
        known = self.history.attempts.get(path, ()) if self.history and path else ()
        return next((each for each in known if each.attempt == number), None)

    def _of_pack(self, key: str, name: str) -> Advice:
        if name == self.run.record.origin_pack:
            text = f"{_COPY}: what the fork took over, and it does not tell any more, runs again"
            return Advice(text, decides=True)
        if self._stands_loose(key):
            pack = self._command("pack")
            text = f"harmless: all that it holds is there besides: remove it, and {pack} makes one"
            return Advice(text)
        text = f"{_COPY}; records in it alone are read from it as far as they are whole"
        return Advice(text, decides=True)

    def _stands_loose(self, key: str) -> bool:
        """Whether all that a damaged pack holds stands on its own besides, as far as can be told:
        the loose records have no gap, and those of the pack that are whole are among them."""
        loose = self._loose
        if loose is None:
            return False
        for _, data in self.run.storage.read_many([key]):
            if not isinstance(data, bytes):
                return False
            for framed, record in readable(data, key):
                if loose.get(key_of(self.run.prefix, record)) != stated_digest(framed):
                    return False
        return True

    @cached_property
    def _loose(self) -> dict[str, str] | None:
        """The loose records of attempts: key -> digest. ``None`` if one is damaged or cannot be
        read, or is not there: a start without its end, or a number that is left out."""
        folder = self.run.prefix + keys.ATTEMPTS
        if any(key.startswith(folder) for key in self.damaged):
            return None
        listed = list(self.run.storage.list(folder))
        seen: dict[str, dict[str, set[int]]] = {"start": {}, "end": {}}
        for key in listed:
            if parsed := keys.parse_attempt(key.rpartition("/")[2]):
                node_key, number, kind = parsed
                seen[kind].setdefault(node_key, set()).add(number)
        if seen["start"] != seen["end"]:
            return None
        if any(len(numbers) != max(numbers) for numbers in seen["start"].values()):
            return None
        found: dict[str, str] = {}
        for key, data in self.run.storage.read_many(listed):
            if not isinstance(data, bytes):
                return None
            try:
                found[key] = unframe(data, key)[1]
            except RecordDamagedError:
                return None
        return found

    def _of_blob(self, sha256: str) -> Advice:
        if self.history is None:
            return Advice(_COPY, decides=True)
        if sha256 not in self._blobs:
            return Advice(f"harmless: no record that decides names it; {_COPY} if there is one")
        what, name = self._blobs[sha256]
        if what == "log":
            return Advice(f"{_COPY}: it is what {name} printed, and nothing reads it but people")
        if what == "parameter":
            fork = self._command("fork", "--param", f"{name}=VALUE")
            return Advice(f"{_COPY}, or give parameter {name!r} again: {fork}", decides=True)
        again = self._command("retry", "--force", name)
        return Advice(f"{_COPY}, or make it again: {again}", decides=True)

    @cached_property
    def _blobs(self) -> dict[str, tuple[str, str]]:
        """Digest -> what names it: a parameter, a step, or a log. The first has the last word."""
        return dict(self._named())

    def _named(self) -> Iterator[tuple[str, tuple[str, str]]]:
        history = self.history
        if history is not None:
            ends = [end for p in history.paths() if isinstance(end := history.latest(p), End)]
            for end in ends:
                if end.log is not None:
                    yield end.log.sha256, ("log", end.path)
            for end in ends:
                for blob in end.blobs():
                    yield blob.sha256, ("step", end.path)
        for name, value in self.run.record.parameters.items():
            if type(value) is Blob:
                yield value.sha256, ("parameter", name)
