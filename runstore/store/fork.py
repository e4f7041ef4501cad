"""Forking: what a fork takes over, and what a changed structure allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from runstore.dag import Dag
from runstore.dag.structure import Change, changed, comparable, diff, digest
from runstore.errors import BlobDamagedError, DamagedError, KeyMissingError, StructureChangedError
from runstore.paths import template
from runstore.plan import Planner, Reason
from runstore.plan.history import History
from runstore.records import Blob, End, RunRecord, Secret, key_of, keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import parse_pack, stated_digest, to_pack
from runstore.storage import Storage, read_all
from runstore.store.blobs import Blobs
from runstore.store.ids import new_nonce, now
from runstore.store.marker import make_marker
from runstore.store.run import Run
from runstore.store.run_record import check_values, create_record, is_taken, storable, taken
from runstore.store.secrets import refuse_short
from runstore.store.view import NOT_WHOLE, RunReader

__all__ = ["adoptable", "compare", "fork_run", "read_raw"]

_THREADS = 16
_LOG_BYTES = 16 << 20
"""Logs that go into the pack of a fork, in all: whoever reads the history of the fork reads it."""


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
            f"the structure of run {run.run_id!r} has changed: {listed}{more}",
            advice=(
                "undo that, start a new run, or go on with --keep-unchanged: what did not "
                "change is kept then"
            ),
            changes=[str(change) for change in changes],
        )
    return changes


def fork_run(
    storage: Storage,
    origin: Run,
    dag: Dag | None,
    parameters: Mapping[str, Any] | None,
    *,
    run_id: str,
    labels: Mapping[str, str] | None,
    secrets: Mapping[str, Any] | None,
    keep_unchanged: bool,
) -> Run:
    """See :meth:`Store.fork_run`."""
    with origin.read_whole():
        return _forked(
            storage, origin, dag or origin.dag, parameters or {}, run_id, labels, secrets,
            keep_unchanged=keep_unchanged,
        )  # fmt: skip


def _forked(
    storage: Storage,
    origin: Run,
    dag: Dag,
    parameters: Mapping[str, Any],
    run_id: str,
    labels: Mapping[str, str] | None,
    secrets: Mapping[str, Any] | None,
    *,
    keep_unchanged: bool,
) -> Run:
    history = origin.history()
    compare(origin, dag, history, keep_unchanged=keep_unchanged)
    hidden = dict(secrets or {})
    # What was declared secret stays so, whichever way its new value comes in.
    for name in parameters:
        if type(origin.record.parameters.get(name)) is Secret:
            hidden.setdefault(name, parameters[name])
    refuse_short(hidden)
    merged = {**origin.record.parameters, **parameters}
    merged |= {name: Secret(name) for name in hidden}
    document = storable(dag.check(merged))
    check_values(run_id, parameters, labels or {}, hidden)
    alone = make_marker(storage)
    if is_taken(storage, run_id):  # before anything is copied
        raise taken(storage, run_id)
    nonce = new_nonce()
    blobs = Blobs(storage, keys.run_prefix(run_id, nonce))
    source = {"run_id": origin.run_id}
    ends = sorted(adoptable(origin, history, dag), key=lambda end: end.path)
    if ends:
        source["pack"] = _take_over(origin, history, ends, blobs, (run_id, nonce))
    given: dict[str, Any] = {}
    for name, value in merged.items():
        if type(value) is Blob:
            blobs.put(origin.blobs.read(value))
        plain = type(value) not in (Blob, Secret)
        given[name] = blobs.value(value, f"parameter {name!r}") if plain else value
    origin.check_there(NOT_WHOLE)
    record = RunRecord(
        run_id, nonce, now(), document, digest(dag), given, dict(labels or {}),
        source, single_writer=alone,
    )  # fmt: skip
    return create_record(storage, record, hidden)


def _take_over(
    origin: Run, history: History, ends: Sequence[End], blobs: Blobs, run: tuple[str, str]
) -> str:
    """Put some ends into one pack, with the logs that are small, and copy the blobs they name. The
    digest of the pack.

    :param blobs: those of the new run, whose id and nonce ``run`` is.
    """
    wanted: dict[str, Blob] = {}
    logs: dict[str, Blob] = {}
    for end in ends:
        wanted |= {b.sha256: b for b in end.blobs() if b.sha256 not in history.missing}
        if end.log is not None:
            logs[end.log.sha256] = end.log
    small: list[Blob] = []
    room = _LOG_BYTES
    for log in sorted(logs.values(), key=lambda log: (log.size, log.sha256)):
        room -= log.size
        if log.sha256 in wanted:
            continue
        if room >= 0:
            small.append(log)
        else:
            wanted[log.sha256] = log
    with ThreadPoolExecutor(_THREADS, "runstore-fork") as pool:
        copied = [
            pool.submit(_copy, origin.blobs, blobs, blob, blob.sha256 in logs)
            for blob in wanted.values()
        ]
        reading = {log.sha256: pool.submit(origin.read_log, log) for log in small}
        along: dict[str, bytes] = {}
        for sha256, log_read in reading.items():
            with suppress(DamagedError):  # missing or damaged: nothing but people reads it
                along[sha256] = log_read.result()
        for each in copied:
            each.result()
    framed = sorted(read_raw(origin, ends))
    data, name = to_pack(*run, framed, along)
    blobs.storage.create(keys.pack_key(blobs.prefix, name), data, repair=True)
    return name


def _copy(source: Blobs, target: Blobs, blob: Blob, is_log: bool) -> None:
    try:
        with source.stream(blob) as file:
            target.storage.create(target.key(blob.sha256), file, repair=True)
    except BlobDamagedError:
        return  # it is missing in the fork: its step runs again, if somebody needs it
    except KeyMissingError:
        if not is_log:  # a log may have been left out, by an export or a copy
            raise


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


def read_raw(run: RunReader, ends: Iterable[End]) -> Iterator[bytes]:
    """The bytes of some ends, framed, verbatim: from packs, else from their own objects.

    :raises RecordDamagedError: if one is not to be had any more.
    """
    wanted = {end.digest: end for end in ends}
    storage, prefix = run.storage, run.prefix
    for key, data in storage.read_many(list(storage.list(prefix + keys.PACKS))):
        if isinstance(data, bytes):
            for framed in parse_pack(data, key).records:
                if wanted.pop(stated_digest(framed), None) is not None:
                    parse_attempt(framed, key)
                    yield framed
    loose = [key_of(prefix, end) for end in wanted.values()]
    for key, data in read_all(storage, loose):
        parse_attempt(data, key)
        yield data
