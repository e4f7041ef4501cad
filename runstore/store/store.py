"""A store: runs under one root, on a disk, in a bucket, or in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from runstore import keys
from runstore.bodies import parse, to_body
from runstore.canonical import dumps
from runstore.dag import Dag, walk
from runstore.errors import (
    DagError,
    KeyExistsError,
    KeyMissingError,
    RefusedError,
    RunExistsError,
    RunNotFoundError,
    ValueNotJsonError,
)
from runstore.framing import damaged, frame, to_pack
from runstore.paths import check_run_id
from runstore.records import Blob, Marker, RunRecord, Secret
from runstore.storage import (
    Storage,
    assume_single_writer,
    open_storage,
    prove,
)
from runstore.store.blobs import Blobs
from runstore.store.clock import new_id, new_nonce, now
from runstore.store.forking import adoptable, compare
from runstore.store.listing import listed
from runstore.store.masking import refuse_secrets, refuse_short
from runstore.store.reading import read_raw
from runstore.store.run import Run
from runstore.structure import digest

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
    ``memory://``, or another that fsspec opens); nothing is read or written.

    :param durable: ``False`` skips every fsync on local disk: records stay exclusive and whole,
        and may be lost in a power cut. For scratch runs and tests.
    :param storage_options: for remote stores, as s3fs, gcsfs and adlfs take them.
    :param engine: ``"obstore"`` or ``"fsspec"``; by default the faster one that is installed.
    :param single_writer: allow an endpoint that cannot create exclusively. Nobody else may write.
        Runs that are made there say so; it need not be given again for them.
    :param cache: keep what is read from a remote store on this machine, and read it from there the
        next time (`runstore.storage.cached`). The command line does; a pod, which reads nothing
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
    if cache:
        from runstore.storage.cached import cached

        storage = cached(storage)
    return Store(storage)


class Store:
    """See :func:`open_store`. The store itself appears with its first run."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def __repr__(self) -> str:
        return f"<Store {self.storage.url}>"

    @property
    def url(self) -> str:
        return self.storage.url

    def marker(self) -> Marker | None:
        """The store's format marker; ``None`` if there is no store yet. One read.

        :raises FormatVersionError: if a newer runstore made it.
        """
        try:
            marker = parse(self.storage.read(keys.MARKER), keys.MARKER)
        except KeyMissingError:
            return None
        if not isinstance(marker, Marker):
            damaged(keys.MARKER, "is not the store's marker")
        return marker

    def heed_marker(self) -> Marker | None:
        """:meth:`marker`, and from now on look before each create if it promises a single writer:
        to be asked by who creates runs, or resumes them. Raises as :meth:`marker`."""
        marker = self.marker()
        if marker is not None and marker.single_writer:
            assume_single_writer(self.storage)
        return marker

    def create_run(
        self,
        dag: Dag,
        parameters: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        secrets: Mapping[str, Any] | None = None,
    ) -> Run:
        """Create a run: durable when this returns.

        :param parameters: name -> JSON value.
        :param run_id: any text of up to 1,000 characters; a UUIDv7 by default.
        :param secrets: name -> value of parameters that are never stored: only their names are,
            and a retry asks for them again. Texts and numbers of four characters at least: what is
            shorter cannot be kept out of logs.
        :raises RunExistsError: if the id is taken.
        :raises RefusedError: if remains of another run lie under the id.
        :raises DagError: if a parameter is read that nobody gives.
        :raises ValueNotJsonError: for a parameter JSON cannot hold.
        :raises InputError: for a parameter or a label that has the value of a secret in it.

        Cost: a read, and one create (two in a new store), and one for each large parameter; with a
        ``run_id``, a listing, and one more for each folder of remains.
        """
        given_id = run_id is not None
        run_id = check_run_id(run_id) if run_id is not None else new_id()
        given, hidden = dict(parameters or {}), dict(secrets or {})
        document = _storable(dag.check([*given, *hidden]))
        for name, value in hidden.items():
            dumps(value)
            given[name] = Secret(name)
        refuse_short(hidden)
        _refuse_secrets(run_id, parameters, labels, hidden)
        self._check_free(run_id, given=given_id)
        _check(given, labels or {})
        alone = self._mark()
        blobs = Blobs(self.storage, run_id)
        kept = {
            name: value if type(value) is Secret else blobs.value(value, f"parameter {name!r}")
            for name, value in given.items()
        }
        record = RunRecord(
            run_id, new_nonce(), now(), document, digest(dag), kept, dict(labels or {}),
            single_writer=alone,
        )  # fmt: skip
        return self._create(record, hidden)

    def _create(self, record: RunRecord, secrets: Mapping[str, Any]) -> Run:
        data, record.digest = frame(to_body(record))
        try:
            self.storage.create(keys.run_key(record.run_id), data)
        except KeyExistsError:
            raise self._taken(record.run_id) from None
        return Run(self.storage, record, secrets)

    def _mark(self) -> bool:
        """Make the store, if there is none; whether its marker promises a single writer."""
        marker = self.heed_marker()
        if marker is not None:
            return marker.single_writer
        from runstore import __version__

        single_writer = prove(self.storage)
        data, _ = frame(to_body(Marker(now(), __version__, single_writer)))
        try:
            self.storage.create(keys.MARKER, data)
        except KeyExistsError:  # somebody else made the store at this moment
            marker = self.heed_marker()
            return marker is not None and marker.single_writer
        return single_writer

    def _exists(self, run_id: str) -> bool:
        try:
            self.storage.read(keys.run_key(run_id))
        except KeyMissingError:
            return False
        return True

    def _check_free(self, run_id: str, *, given: bool, but: str = "") -> None:
        """:raises RunExistsError, RefusedError: unless there is nothing of a run of this id.

        Blobs may be there: nothing is done for them, and they are what their names say.
        :param but: a key that may be there, too.
        """
        if self._exists(run_id):
            raise self._taken(run_id)
        if not given:
            return  # an id that was made a moment ago has no past
        # What was removed, imported or forked in part must not be taken for this run's own.
        prefix = keys.run_prefix(run_id)
        for key in self._remains(prefix):
            if key == prefix + keys.RUN:
                raise self._taken(run_id)  # a moment ago
            if key != but:
                raise RefusedError(
                    f"{self.url} holds remains of a run {run_id!r} that was being removed, "
                    f"imported, copied or forked ({key}): finish that, remove them "
                    f"(`runstore rm`, or `runstore gc`), or choose another id",
                    run_id=run_id,
                    key=key,
                )

    def _remains(self, prefix: str) -> Iterator[str]:
        for key in list(self.storage.list(prefix, shallow=True)):
            if not key.endswith("/"):
                yield key
            elif key != prefix + keys.BLOBS and not (prefix + keys.BLOBS).startswith(key):
                yield from self.storage.list(key)

    def _taken(self, run_id: str) -> RunExistsError:
        return RunExistsError(
            f"run {run_id!r} exists in {self.url}: `runstore retry` continues it, "
            f"or choose another id",
            run_id=run_id,
        )

    def run(
        self,
        run_id: str,
        *,
        secrets: Mapping[str, Any] | None = None,
        invocation: str | None = None,
    ) -> Run:
        """A run that exists. One read, and one more if it was made in a store of a single writer.

        :param invocation: work under this one, which another process began; see :meth:`Run.join`.
            One read more.
        :raises RunNotFoundError: if there is none of this id.
        :raises RefusedError: if it has no such invocation.
        :raises RecordDamagedError, FormatVersionError: if its record cannot be read.
        """
        key = keys.run_key(check_run_id(run_id))
        try:
            record = parse(self.storage.read(key), key)
        except KeyMissingError:
            raise RunNotFoundError(
                f"there is no run {run_id!r} in {self.url}: `runstore ls` lists those there are",
                run_id=run_id,
            ) from None
        if not isinstance(record, RunRecord) or record.run_id != run_id:
            raise RefusedError(f"record {key} is not of run {run_id!r}: was the folder renamed?")
        if record.single_writer:
            self.heed_marker()  # it was made in such a store: is this one?
        run = Run(self.storage, record, secrets)
        if invocation is not None:
            run.join(invocation)
        return run

    def runs(self) -> Iterator[str]:
        """The ids of the runs in the store, in no order: of damaged ones too, as far as they are
        known (:func:`~runstore.store.listing.listed`). One listing, and a read for each run."""
        for run_id, _ in listed(self.storage):
            yield run_id

    # -- fork ------------------------------------------------------------------------------------

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

        Each path whose latest attempt succeeded, or is a handled failure, and that no force waits
        for, is taken over, stale or not, if it was made with the structure that the node has here.
        The new run is self-contained: the origin may be deleted. A fork that was cut short can be
        made again under its id, as long as the origin is what it was.

        :param parameters: replace those of the same name; what read a changed one is stale.
        :param keep_unchanged: go on with a changed structure, taking over unchanged nodes only.
        :raises StructureChangedError: if the structure changed, without ``keep_unchanged``.
        :raises RunExistsError: if the id is taken.
        :raises RefusedError: if remains of another run lie under the id.

        Cost: the history of the origin, one pack, and a copy of each blob that is named.
        """
        given_id = run_id is not None
        run_id = check_run_id(run_id) if run_id is not None else new_id()
        dag = dag or origin.dag
        if self._exists(run_id):
            raise self._taken(run_id)
        history = origin.history()
        compare(origin, dag, history, keep_unchanged=keep_unchanged)
        hidden = dict(secrets or {})
        # What was declared secret stays so, whichever way its new value comes in.
        for name in parameters or ():
            if type(origin.record.parameters.get(name)) is Secret:
                hidden.setdefault(name, (parameters or {})[name])
        refuse_short(hidden)
        merged = {**origin.record.parameters, **(parameters or {})}
        merged |= {name: Secret(name) for name in hidden}
        document = _storable(dag.check(merged))
        _check(parameters or {}, labels or {})
        _refuse_secrets(run_id, parameters, labels, hidden)
        source, framed, pack_key = {"run_id": origin.run_id}, b"", ""
        ends = list(adoptable(origin, history, dag))
        if ends:
            # In one order, so that the same fork makes the same pack.
            taken = sorted(read_raw(origin.storage, origin.run_id, ends))
            framed, source["pack"] = to_pack(run_id, taken)
            pack_key = keys.pack_key(run_id, source["pack"])
        self._check_free(run_id, given=given_id, but=pack_key)
        alone = self._mark()
        blobs = Blobs(self.storage, run_id)
        given: dict[str, Any] = {}
        for name, value in merged.items():
            if type(value) is Blob:
                blobs.put(origin.blobs.read(value))
            plain = type(value) not in (Blob, Secret)
            given[name] = blobs.value(value, f"parameter {name!r}") if plain else value
        for end in ends:
            for blob in [*end.outputs.values(), *end.artifacts.values(), end.log]:
                if type(blob) is Blob and blob.sha256 not in history.missing:
                    with origin.storage.stream(origin.blobs.key(blob.sha256)) as file:
                        self.storage.create(blobs.key(blob.sha256), file, repair=True)
        if framed:
            self.storage.create(pack_key, framed, repair=True)
        record = RunRecord(
            run_id, new_nonce(), now(), document, digest(dag), given, dict(labels or {}),
            source, single_writer=alone,
        )  # fmt: skip
        return self._create(record, hidden)


def _storable(dag: Dag) -> dict[str, Any]:
    """The JSON form of a DAG, if a record can hold it.

    :raises DagError: for configuration JSON cannot hold, or nesting beyond some 120 levels.
    """
    document = dag.to_json()
    try:
        dumps(document)
    except ValueNotJsonError as error:
        raise DagError(f"the DAG cannot be recorded: {error}") from None
    for path, node in walk(dag):
        if node.config:
            try:
                orjson.dumps(dict(node.config), option=orjson.OPT_STRICT_INTEGER)
            except orjson.JSONEncodeError as error:
                raise DagError(
                    f"the config of {path!r} cannot be recorded: {error}", nodes=(path,)
                ) from None
    return document


def _refuse_secrets(
    run_id: str,
    parameters: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
    secrets: Mapping[str, Any],
) -> None:
    """:raises InputError: for the value of a secret in a parameter or a label, which is stored."""
    if secrets:
        where = f"run {run_id!r}"
        others = {n: v for n, v in (parameters or {}).items() if n not in secrets}
        refuse_secrets(others, secrets, "parameter", where)
        refuse_secrets(labels or {}, secrets, "label", where)


def _check(parameters: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Look at everything before anything is written.

    :raises ValueNotJsonError: naming the parameter or label that cannot be kept.
    """
    for name, value in parameters.items():
        if type(value) is not Secret:
            try:
                dumps({name: value})
            except ValueNotJsonError as error:
                raise ValueNotJsonError(
                    f"parameter {name!r} is no JSON value: {error}", **error.facts
                ) from None
    for name, text in labels.items():
        if type(name) is not str or type(text) is not str:
            raise ValueNotJsonError(f"label {name!r} is {text!r:.60}: labels are texts")
        dumps({name: text})
