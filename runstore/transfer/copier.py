"""Copying the objects of a run: read in one thread, created in many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from runstore.errors import (
    BlobDamagedError,
    DamagedError,
    DivergedError,
    KeyExistsError,
    KeyMissingError,
    RecordDamagedError,
    RefusedError,
    RunExistsError,
)
from runstore.plan.history import WORKING
from runstore.records import Blob, Invocation, keys
from runstore.records.codec import parse
from runstore.records.framing import unframe
from runstore.storage import Storage, read_all
from runstore.store import Run, Store
from runstore.store.blobs import Blobs
from runstore.transfer.compare import Divergence, Side, damaged_in, describe

__all__ = ["Copier", "Progress", "another_run", "diverged_error", "unwatched"]

Progress = Callable[[str, int, int], object]
"""For a progress bar: called with what is being done (``read``, ``check``, ``copy``), how much of
it is done, and of how much in all: objects, or bytes of the file for ``check``. From one thread,
often: be quick."""


def unwatched(what: str, done: int, total: int) -> None:
    """For when nobody looks."""


_SHOWN = 50
"""Diverged attempts that a message lists; the error's ``attempts`` has them all."""


def another_run(run_id: str, target: Store) -> RunExistsError:
    return RunExistsError(
        f"{target.url} has another run under the id {run_id!r}",
        advice="use another store, or remove that run first",
        run_id=run_id,
    )


def diverged_error(attempts: Sequence[Divergence], run_id: str) -> DivergedError:
    listed = "; ".join(map(str, attempts[:_SHOWN]))
    more = f"; and {len(attempts) - _SHOWN} more" if len(attempts) > _SHOWN else ""
    return DivergedError(
        f"run {run_id!r} went on in both stores, and nothing was written: {listed}{more}",
        advice="go on in one of them, or fork the run in the other",
        run_id=run_id,
        attempts=list(attempts),
    )


class Copier:
    """Reads in this thread, as the source likes it best, and creates in many."""

    def __init__(
        self,
        source: Side,
        target: Side,
        run: Run,
        workers: int,
        torn: Container[str],
        arrived: int | None,
    ) -> None:
        self._source = source
        self._target = target
        self._blobs = Blobs(source.storage, source.prefix)
        self._run = run
        self._torn = torn
        self._arrived = arrived
        """The number of the invocation that says so: no one's work that comes is as high."""
        self._pool = ThreadPoolExecutor(workers, "runstore-copy")
        self._most = workers * 4  # read, and not created yet
        self._progress: Progress = unwatched
        self._done = self._total = 0
        self.left_out: list[str] = []

    def watch(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def records(self, wanted: Iterable[str], storage: Storage) -> None:
        """Copy records and packs, each checked against its own digest."""
        source = self._source

        def jobs() -> Iterator[Callable[[], object]]:
            for key, data in read_all(source.storage, [source.key(name) for name in wanted]):
                try:
                    unframe(data, key)
                except RecordDamagedError as error:
                    raise damaged_in(source.storage.url, error) from None
                if self._arrived is not None and source.name(key).startswith(keys.INVOCATIONS):
                    self._check_order(key, data, self._arrived)
                yield lambda key=key, data=data: self._create(storage, key, data)  # type: ignore[misc]

        self._all(jobs())

    def itself(self, key: str, data: bytes, storage: Storage) -> None:
        """Create ``run.json``, as it was read at first: another run may have its place by now."""
        self._all([lambda: self._create(storage, key, data)])

    def _check_order(self, key: str, data: bytes, arrived: int) -> None:
        """A store may give another answer than when it was asked for its highest number."""
        try:
            record = parse(data, key)
        except DamagedError:
            return  # and so it will be for every reader
        if not isinstance(record, Invocation) or record.mode not in WORKING:
            return
        if record.number >= arrived:
            raise RefusedError(
                f"{key} in {self._source.storage.url} became another one while it was copied, and "
                "no record ever changes",
                advice="see whose store that is",
                run_id=self._run.run_id,
            )

    def blobs(self, wanted: Iterable[str]) -> None:
        """Copy blobs, in pieces; those that are damaged are left out."""
        self._all((lambda key=key: self._blob(key)) for key in wanted)  # type: ignore[misc]

    def _all(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Do jobs in threads, some at a time; the first error ends it."""
        running: deque[Future[object]] = deque()
        try:
            for job in jobs:
                running.append(self._pool.submit(job))
                if len(running) >= self._most:
                    self._one(running)
            while running:
                self._one(running)
        finally:
            for future in running:
                future.cancel()

    def _one(self, running: deque[Future[object]]) -> None:
        running.popleft().result()
        self._done += 1
        self._progress("copy", self._done, self._total)

    def _create(self, storage: Storage, key: str, data: bytes) -> None:
        rest = self._target.name(key)
        try:
            storage.create(key, data, repair=rest in self._torn)
            if rest.startswith(keys.ATTEMPTS):
                self._run.writer.pack.add([data])
        except KeyExistsError:
            if rest == keys.RUN:
                raise another_run(self._run.run_id, Store(storage)) from None
            if not rest.startswith(keys.ATTEMPTS):
                raise
            # Made a moment ago, after we compared.
            found = describe(self._source, self._target, rest)
            raise diverged_error([found], self._run.run_id) from None
        if self._run.writer.pack.full:
            self._run.writer.pack.write()

    def _blob(self, key: str) -> None:
        sha256 = keys.name_in(key)
        try:
            with self._blobs.stream(Blob(sha256, 0)) as file:
                self._target.storage.create(self._target.prefix + key, file, repair=True)
        except (KeyMissingError, BlobDamagedError):
            # If it is gone since it was listed, no record names it, or it is missing.
            self.left_out.append(sha256)
