"""Building a history: list, read, check (FORMAT.md, section 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from typing import Any

from runstore.collector import no_collection
from runstore.dag import Dag
from runstore.errors import DamagedError, PathError, RunstoreError
from runstore.plan.focus import deciding_names
from runstore.plan.history import Damaged, History
from runstore.records import Blob, End, Invocation, RunRecord, Start, key_of, keys
from runstore.records.codec import parse, parse_attempt
from runstore.records.framing import BODY, stated_digest, unframe
from runstore.storage import Storage, is_near, read_all
from runstore.store.blobs import Blobs
from runstore.store.ids import may_force
from runstore.store.judge import A_START, RunPack, has_nonce, is_of, read_pack, whose

__all__ = ["last_invocation", "read_history", "read_invocations", "untrue"]


def read_history(
    storage: Storage,
    run: RunRecord,
    dag: Dag,
    prefixes: Iterable[str] | None = None,
    *,
    known: History | None = None,
) -> History:
    """Read what is known of a run.

    :param prefixes: of attempt names to list, for a partial history; ``None``: all of them.
    :param known: a partial history to add to, which these prefixes are no part of. Invocations are
        not listed again.

    Records that contradict each other are damage. What stands on its own of an attempt whose end is
    in a pack is read only where a read is no request; :func:`runstore.upkeep.verify.verify` reads
    both everywhere.

    Cost: three listings (one a prefix, and one, for a partial history), one read for each pack and
    invocation, and for each attempt in no pack one for its end and one for its start. One more
    listing if a record names a blob. A partial history reads of ended attempts the latest end at
    each path, of invocations those that its records name or that force something, and of packs a
    fork's; the others too if a record is damaged or looks to be in progress (FORMAT.md, section 8).
    """
    with no_collection():
        history = History(run) if known is None else known
        reader = _Reader(storage, history)
        if known is None:
            reader.read_packs(reader.origin if prefixes is not None else reader.listed(keys.PACKS))
        reader.read_attempts(prefixes)
        if prefixes is not None and (history.damaged or any(history.open())):
            known_already = reader.origin
            reader.read_packs(
                [key for key in reader.listed(keys.PACKS) if key not in known_already]
            )
        reader.judge()
        if known is None:
            reader.read_invocations(None if prefixes is None else reader.named())
        else:
            reader.read_named()
        reader.read_deciding(dag)
    return history


def read_invocations(storage: Storage, run: RunRecord) -> History:
    """Read what is known of a run's invocations alone. A listing, and a read of each."""
    history = History(run)
    _Reader(storage, history).read_invocations(None)
    return history


def last_invocation(storage: Storage, names: Iterable[str]) -> int:
    """The highest number among invocations, by their keys; one that is damaged says nothing. A
    read of each."""
    highest = 0
    for key, data in read_all(storage, names, skip_missing=True):
        with suppress(DamagedError):
            record = parse(data, key)
            if type(record) is Invocation:
                highest = max(highest, record.number)
    return highest


def untrue(storage: Storage, run: RunRecord) -> list[Damaged]:
    """Records of a run that contradict each other, and those of other runs. The cost of a history,
    without invocations and blobs."""
    with no_collection():
        reader = _Reader(storage, History(run))
        reader.read_packs(reader.listed(keys.PACKS))
        reader.read_attempts(None)
        reader.judge()
    return [*reader.contradictions, *reader.strange]


class _Reader:
    def __init__(self, storage: Storage, history: History) -> None:
        self.storage = storage
        self.history = history
        self.run_id = history.run.run_id
        self.nonce = history.run.nonce
        self.prefix = keys.run_prefix(self.run_id, self.nonce)
        self.packed: dict[tuple[str, int], End] = {}
        self.begun: list[Start] = []
        """Starts that were read, and that no end in a pack names."""
        self.partial = False
        self.loose: dict[tuple[str, int], End] = {}
        """Of a partial history: the ends that stand on their own."""
        self.superseded: set[str] = set()
        """Of a partial history: keys of ends that are there, and not read."""
        self.contradictions: list[Damaged] = []
        self.strange: list[Damaged] = []
        """Records of another run."""
        self.naming: list[End] = []
        """Those that name a blob: few do, and the others are not looked at again."""

    def _damage(self, key: str, found: str | RunstoreError) -> None:
        problem = found if isinstance(found, str) else found.problem
        name = key.rpartition("/")[2]
        parsed = keys.parse_attempt(name) if "/attempts/" in key else None
        if parsed is None:
            self.history.add(Damaged(key, problem))
            return
        node_key, number, kind = parsed
        try:
            path = keys.decode(node_key)
        except PathError:
            path = None
        self.history.add(Damaged(key, problem, path, number, kind, node_key))

    def _stray(self, key: str, problem: str) -> None:
        """A record that does not belong where it stands."""
        self._damage(key, problem)
        self.strange.append(self.history.damaged[-1])

    def listed(self, folder: str) -> list[str]:
        return list(self.storage.list(self.prefix + folder))

    @property
    def origin(self) -> list[str]:
        """The pack of what a fork took over; none for what is no fork."""
        pack = self.history.run.origin_pack
        return [keys.pack_key(self.prefix, pack)] if pack else []

    def read_packs(self, names: list[str]) -> None:
        # What is absent is no success; what cannot be read is neither damaged nor absent.
        for key, data in read_all(self.storage, names, skip_missing=True):
            pack = read_pack(data, key, self.history.run)
            for problem in pack.problems:
                self._damage(key, problem)
            self._take(key, pack)

    def _take(self, key: str, pack: RunPack) -> None:
        history, trusted = self.history, not pack.problems
        starts: list[bytes] = []
        for framed in pack.records:
            if framed.startswith(A_START, BODY):
                starts.append(framed)
                continue
            try:
                record = parse_attempt(framed, key, trusted=trusted)
                if pack.is_origin:
                    if type(record) is not End or record.path in history.adopted:
                        self._damage(key, f"pack {key} holds more than one end of {record.path}")
                    else:
                        history.adopt(record)
                elif record.run_nonce != self.nonce:
                    self._stray(key, f"pack {key} holds a record of {whose(record, history.run)}")
                elif type(record) is End:
                    where = record.path, record.attempt
                    other = self.packed.setdefault(where, record)
                    if other is record:
                        history.add(record)
                    elif other.digest != record.digest:
                        self._contradict(record, f"two packs hold ends that differ ({key})")
                if type(record) is End and record.names_blobs:
                    self.naming.append(record)
            except DamagedError as error:
                self._damage(key, error)
        if pack.is_origin:
            return
        # The start of an attempt that ended is not needed: an end names the digest of its start,
        # which stands in the start's frame.
        ended = {end.start: end.nonce for end in self.packed.values()}
        for framed in starts:
            nonce = ended.get(stated_digest(framed))
            if nonce is not None and has_nonce(framed, nonce):
                continue
            try:
                start = parse_attempt(framed, key, trusted=trusted)
            except DamagedError as error:
                self._damage(key, error)
                continue
            if start.run_nonce != self.nonce:
                self._stray(key, f"pack {key} holds a record of {whose(start, history.run)}")
            elif isinstance(start, Start) and not self._is_superseded(start):
                history.add(start)
                self.begun.append(start)

    def _is_superseded(self, start: Start) -> bool:
        """Whether its end is there and was left out: without it, the start would look open."""
        if not self.superseded:
            return False
        return (
            keys.attempt_key(self.prefix, start.path, start.attempt, End.which) in self.superseded
        )

    def _contradict(self, record: Start | End, problem: str) -> None:
        """Two records tell of one attempt, and both cannot be true."""
        key = key_of(self.prefix, record)
        text = f"record {key} contradicts another one ({problem}), and both cannot be true"
        node_key = keys.encode(record.path)
        self.contradictions.append(
            Damaged(key, text, record.path, record.attempt, record.which, node_key)
        )

    def judge(self) -> None:
        """See whether what was read of each attempt is one truth; if not, it is damaged."""
        history = self.history
        if self.partial:
            # The packs were read after what stands on its own.
            for where, packed in self.packed.items():
                loose = self.loose.get(where)
                if loose is not None and loose.digest != packed.digest:
                    self._contradict(packed, "that of a pack differs from it")
        first: dict[tuple[str, int], Start] = {}
        for start in self.begun:
            where = start.path, start.attempt
            other = first.setdefault(where, start)
            known = history.attempts.get(start.path, ())
            end = next((a for a in known if a.attempt == start.attempt), None)
            if isinstance(end, End):
                if not is_of(end, start.digest, start.nonce):
                    self._contradict(end, "it is not the end of the start that is there")
            elif other.digest != start.digest:
                self._contradict(start, "the attempt has two starts that differ")
        for damaged in self.contradictions:
            history.distrust(damaged)

    def named(self) -> set[str]:
        """The invocations that began what was read."""
        known = self.history.attempts.values()
        found = {a.invocation for attempts in known for a in attempts if not isinstance(a, Damaged)}
        return found | {end.invocation for end in self.history.adopted.values()}

    def read_invocations(self, named: Set[str] | None) -> None:
        """
        :param named: leave out those that are not among these and force nothing: whether an attempt
            was made with another structure, its own invocation says.
        """
        names = self.listed(keys.INVOCATIONS)
        if named is not None:
            names = [
                key for key in names if (name := keys.name_in(key)) in named or may_force(name)
            ]
        self._take_invocations(names)

    def read_named(self) -> None:
        """Read the invocations that are named by what was read, and not known."""
        unknown = self.named() - self.history.invocations.keys()
        ids = filter(keys.is_invocation_id, unknown)
        self._take_invocations([keys.invocation_key(self.prefix, each) for each in ids])

    def _take_invocations(self, names: list[str]) -> None:
        for key, data in read_all(self.storage, names, skip_missing=True):
            try:
                record = parse(data, key)
            except DamagedError as error:
                self._damage(key, error)
                continue
            if type(record) is Invocation and record.run_nonce == self.nonce:
                self.history.add(record)
            else:
                self._damage(key, f"{key} is no invocation of run {self.run_id!r}")

    def read_attempts(self, prefixes: Iterable[str] | None) -> None:
        folder = self.prefix + keys.ATTEMPTS
        self.partial = prefixes is not None
        listed: list[str] = []
        for prefix in ("",) if prefixes is None else prefixes:
            listed.extend(self.storage.list(folder + prefix))
        if not listed:
            return
        # Whole keys, in the order of the listing: nothing is cut and put together again, and a disk
        # is read in its own order (1.3 us a record less than sets of names).
        wanted = [key for key in listed if key.endswith(keys.END)]
        ended = set(wanted)
        starts = [key for key in listed if key.endswith(keys.START)]
        if prefixes is not None:
            wanted = _latest(wanted)
            self.superseded = ended.difference(wanted)
        wanted += [key for key in starts if key.removesuffix(keys.START) + keys.END not in ended]
        if self.packed:
            # A record that stands in a pack is not read again, nor the start of such an end.
            done = {
                f"{folder}{keys.encode(end.path)}.{end.attempt:06}": end
                for end in self.packed.values()
            }
            wanted = [key for key in wanted if key.rsplit(".", 2)[0] not in done]
            if is_near(self.storage):
                self._compare_with_packed(listed, done)
        attempts, nonce, encode = self.history.attempts, self.nonce, keys.encode
        tails: dict[tuple[type, int], str] = {}  # few differ: the least there is to put together
        beside = set(starts) if prefixes is None else frozenset()
        began: dict[str, End] = {}
        """Key of a start -> the end that stands beside it."""
        for key, data in read_all(self.storage, wanted, skip_missing=True):
            try:
                record = parse_attempt(data, key)
                path, number, kind = record.path, record.attempt, type(record)
                tail = tails.get((kind, number))
                if tail is None:
                    tail = f".{number:06}.{'end' if kind is End else 'start'}.json"
                    tails[kind, number] = tail
                if record.run_nonce != nonce or key != f"{folder}{encode(path)}{tail}":
                    belongs = f"attempt {number} at {path} of {whose(record, self.history.run)}"
                    self._stray(key, f"record {key} belongs to {belongs}")
                    continue
                if path in attempts:
                    self.history.add(record)
                else:
                    attempts[path] = [record]
                if kind is not End:
                    self.begun.append(record)  # type: ignore[arg-type]
                    continue
                if self.partial:
                    self.loose[path, number] = record  # type: ignore[assignment]
                if record.names_blobs:  # type: ignore[union-attr]
                    self.naming.append(record)  # type: ignore[arg-type]
                if (start := key.removesuffix(keys.END) + keys.START) in beside:
                    began[start] = record  # type: ignore[assignment]
            except DamagedError as error:
                self._damage(key, error)
        self._compare(began)

    def _compare_with_packed(self, listed: Iterable[str], done: Mapping[str, End]) -> None:
        """See that what stands on its own of attempts whose end is in a pack says the same.

        :param done: those ends, by what the keys of their attempts begin with.
        """
        wanted = (key for key in listed if key.rsplit(".", 2)[0] in done)
        for key, data in read_all(self.storage, wanted, skip_missing=True):
            stem, kind, _ = key.rsplit(".", 2)
            end = done[stem]
            known = end.digest if kind == "end" else end.start
            same = stated_digest(data) == known
            if same and (kind == "end" or has_nonce(data, end.nonce)):
                continue
            try:
                record = parse_attempt(data, key)
            except DamagedError:
                continue  # it tells nothing else: the pack has it whole
            if isinstance(record, Start) and is_of(end, record.digest, record.nonce):
                continue
            self._contradict(end, f"that of a pack differs from {key}")

    def _compare(self, began: Mapping[str, End]) -> None:
        """Read starts, only to see that their ends are theirs."""
        for key, data in read_all(self.storage, began, skip_missing=True):
            end = began[key]
            try:
                _, digest = unframe(data, key)
            except DamagedError as error:
                self._damage(key, error)
                continue
            nonce = end.nonce if has_nonce(data, end.nonce) else ""
            if not is_of(end, digest, nonce):
                self._contradict(end, f"it is not the end of {key}")

    def read_deciding(self, dag: Dag) -> None:
        """Find out which blobs are missing, and fetch the values the planner must see."""
        history = self.history
        named: set[str] = set()
        broken: set[str] = set()
        deciding: dict[str, Blob] = {}
        names = deciding_names(dag)

        def look(outputs: Mapping[str, Any]) -> None:
            for name, value in outputs.items():
                if type(value) is Blob:
                    named.add(value.sha256)
                    if name in names and value.codec is None:
                        deciding[value.sha256] = value

        look(history.run.parameters)
        for end in self.naming:
            if history.latest(end.path) is not end:
                continue
            look(end.outputs)
            named.update(blob.sha256 for blob in end.artifacts.values())
            if end.error and "sha256" in end.error:
                # It failed because a blob it needed was missing or damaged.
                broken.add(end.error["sha256"])
        if not named:
            return
        folder = self.prefix + keys.BLOBS
        there = {keys.name_in(key) for key in self.storage.list(folder)}
        history.missing |= (named - there) | (named & broken)
        blobs = Blobs(self.storage, self.prefix)
        for digest, blob in deciding.items():
            try:
                history.values[digest] = blobs.load(blob)
            except DamagedError as error:
                history.missing.add(digest)
                self._damage(blobs.key(digest), error)


def _latest(ends: list[str]) -> list[str]:
    """Of the keys of ends, that of the highest number at each path."""
    latest: dict[str, str] = {}
    for key in ends:
        path = key[: -len(".000001" + keys.END)]
        latest[path] = max(key, latest.get(path, ""))
    return list(latest.values())
