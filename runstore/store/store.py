"""A store: runs under one root, on a disk, in a bucket, or in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

from runstore.canonical import dumps
from runstore.dag import Dag
from runstore.dag.structure import digest
from runstore.errors import KeyMissingError
from runstore.paths import check_run_id
from runstore.records import Marker, RunRecord, Secret, keys
from runstore.storage import Storage, open_storage
from runstore.storage.capabilities import Closing
from runstore.store.blobs import Blobs
from runstore.store.fork import fork_run
from runstore.store.ids import new_id, new_nonce, now
from runstore.store.marker import heed_marker, make_marker, read_marker
from runstore.store.run import Run
from runstore.store.run_record import (
    check_values,
    create_record,
    is_taken,
    listed,
    not_found,
    parse_run,
    storable,
)
from runstore.store.secrets import refuse_short

__all__ = ["Store", "open_store"]


def open_store(
    url: str | os.PathLike[str] = ".runstore",
    *,
    durable: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    engine: str | None = None,
    single_writer: bool = False,
    cache: bool = False,
) -> Store:
    """Open the store at a path or URL (``s3://``, ``gs://``, ``az://``, ``file://``,
    ``memory://``, or another that fsspec opens); nothing is read or written. An existing file that
    ends in ``.json`` is a run that was exported: a store to be read, with that run in it.

    :param durable: ``False`` skips every fsync on local disk: records stay exclusive and whole,
        and may be lost in a power cut. For scratch runs and tests.
    :param storage_options: for remote stores, as s3fs, gcsfs and adlfs take them.
    :param engine: ``"obstore"`` or ``"fsspec"``; by default the faster one that is installed.
    :param single_writer: allow an endpoint that cannot create exclusively. Nobody else may write.
        Runs that are made there say so; it need not be given again for them.
    :param cache: keep what is read from a remote store on this machine, and read it from there the
        next time (`runstore.cache.storage`). The command line does; a pod, which reads nothing
        twice, has no use for it.
    :raises StorageError: for a URL no backend serves.
    """
    storage = open_storage(
        url,
        durable=durable,
        storage_options=storage_options,
        engine=engine,
        single_writer=single_writer,
    )
    if storage.url.endswith(".json") and os.path.isfile(storage.url):
        from runstore.archive.reader import ExportedStorage

        return Store(ExportedStorage(storage.url))
    if cache:
        from runstore.cache.storage import cached

        storage = cached(storage)
    return Store(storage)


class Store:
    """The runs under one root; made by :func:`open_store`. The first run creates it there.

    A context manager: leaving the block closes it.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what the storage keeps open: connections, a file. Records that were created are
        durable without it, and a process that ends need not call it. A closed store opens again
        when it is used, but for an exported file, which is then closed for good."""
        if isinstance(self.storage, Closing):
            self.storage.close()

    def __repr__(self) -> str:
        return f"<Store {self.storage.url}>"

    @property
    def url(self) -> str:
        return self.storage.url

    def marker(self) -> Marker | None:
        """The store's format marker; ``None`` if there is no store yet. One read.

        :raises FormatVersionError: if a newer runstore made it.
        """
        return read_marker(self.storage)

    def create_run(
        self,
        dag: Dag,
        parameters: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        secrets: Mapping[str, Any] | None = None,
        source: Mapping[str, str] | None = None,
    ) -> Run:
        """Create a run: durable when this returns.

        :param parameters: name -> JSON value.
        :param run_id: any text of up to 1,000 characters; a UUIDv7 by default.
        :param secrets: name -> value of parameters that are never stored: only their names are,
            and a retry asks for them again. Texts and numbers of four characters at least: what is
            shorter cannot be kept out of logs.
        :param source: where the run came from, if another system made it: name -> text, for people.
        :raises RunExistsError: if the id is taken.
        :raises DagError: if a node reads a parameter that neither a node nor ``parameters`` gives.
        :raises ValueNotJsonError: for a parameter JSON cannot hold.
        :raises InputError: for a parameter or a label that has the value of a secret in it.

        Cost: a read, one create (two in a new store), and one for each large parameter. If the id
        turns out to be taken, large parameters that were written are litter: ``runstore gc``
        removes them.
        """
        run_id = check_run_id(run_id) if run_id is not None else new_id()
        given, hidden = dict(parameters or {}), dict(secrets or {})
        document = storable(dag.check([*given, *hidden]))
        for name, value in hidden.items():
            dumps(value)
            given[name] = Secret(name)
        refuse_short(hidden)
        check_values(run_id, given, labels or {}, hidden)
        alone = make_marker(self.storage)
        nonce = new_nonce()
        blobs = Blobs(self.storage, keys.run_prefix(run_id, nonce))
        kept = {
            name: value if type(value) is Secret else blobs.value(value, f"parameter {name!r}")
            for name, value in given.items()
        }
        record = RunRecord(
            run_id, nonce, now(), document, digest(dag), kept, dict(labels or {}),
            single_writer=alone, source=None if source is None else dict(source),
        )  # fmt: skip
        return create_record(self.storage, record, hidden)

    def exists(self, run_id: str) -> bool:
        """Whether there is a run of this id. One read."""
        return is_taken(self.storage, run_id)

    def get_run(
        self,
        run_id: str,
        *,
        secrets: Mapping[str, Any] | None = None,
        invocation: str | None = None,
    ) -> Run:
        """The run of this id. One read, and one more if it was made in a store of a single writer.

        :param invocation: work under this one, which another process began; see :meth:`Run.join`.
            One read more.
        :raises RunNotFoundError: if there is none of this id.
        :raises RefusedError: if it has no such invocation.
        :raises RecordDamagedError, FormatVersionError: if its record cannot be read.
        """
        key = keys.run_key(check_run_id(run_id))
        try:
            record = parse_run(self.storage.read(key), run_id)
        except KeyMissingError:
            raise not_found(self.storage, run_id) from None
        if record.single_writer:
            heed_marker(self.storage)  # it was made in such a store: is this one?
        run = Run(self.storage, record, secrets)
        if invocation is not None:
            run.join(invocation)
        return run

    def run_ids(self) -> Iterator[str]:
        """The ids of the runs in the store, in no order, damaged runs included. One listing, and a
        read for each run."""
        for run_id, _ in listed(self.storage):
            yield run_id

    def fork_run(
        self,
        origin: Run,
        dag: Dag | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        secrets: Mapping[str, Any] | None = None,
        keep_unchanged: bool = False,
    ) -> Run:
        """A new run that takes over what has succeeded in another one.

        Taken over is each path whose latest attempt succeeded, or failed and was handled: stale
        ones, too. Not taken over is a path that a recorded force is still waiting for, or whose
        node had another structure. The new run is self-contained: the origin may be removed. What
        is missing or damaged there is missing here.

        :param parameters: replace those of the same name; what read a changed one is stale.
        :param keep_unchanged: go on with a changed structure, taking over unchanged nodes only.
        :raises StructureChangedError: if the structure changed, without ``keep_unchanged``.
        :raises RunExistsError: if the id is taken.

        Cost: the history of the origin, a read of each log, and two creates, ``run.json`` and a
        pack, whatever is taken over; and a copy of each artifact, large value and large log.
        """
        run_id = check_run_id(run_id) if run_id is not None else new_id()
        return fork_run(
            self.storage, origin, dag, parameters, run_id=run_id, labels=labels, secrets=secrets,
            keep_unchanged=keep_unchanged,
        )  # fmt: skip
