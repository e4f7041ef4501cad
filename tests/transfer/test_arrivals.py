"""That a run was brought in is recorded first: no cut leaves the word of others as the latest."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runstore.cli.commands.transfer import without_credentials
from runstore.errors import RefusedError, RunNotFoundError, StorageError
from runstore.storage import Storage
from runstore.store import Run, Store, open_store
from runstore.transfer import Arrival, export_run, import_run, transfer_run
from tests.transfer.counting import Counting
from tests.transfer.forging import SMALL, small
from tests.transfer.lives import memory, objects, reframed
from tests.verified import verified

PULL = Arrival("pull", {"store": "s3://b/x"})


def invocations(store: Store) -> list[dict[str, Any]]:
    """By number and id, from the raw objects; the latest is the last."""
    found = [
        json.loads(data)["record"]
        for key, data in objects(store).items()
        if "/invocations/" in key
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one["number"], one["id"]))


def strange(number: int = 7) -> Run:
    """A run whose latest invocation claims to be this user's."""
    run = small()
    run.begin_invocation("retry")
    run.begin("b").fail("again")
    forge(run.storage, lambda body: body.update(number=number + (body["mode"] == "retry")))
    return run


def forge(storage: Storage, change: Any) -> None:
    kept: dict[str, bytes] = storage._objects  # type: ignore[attr-defined]
    for key in [key for key in kept if "/invocations/" in key]:
        kept[key] = reframed(kept[key], change)


@pytest.mark.parametrize("how", ["import", "pull"])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("there", [False, True], ids=["new", "known"])
def test_cut_at_any_create(how: str, workers: int, there: bool, tmp_path: Path) -> None:
    run = strange()
    source = Store(run.storage)
    export_run(run, tmp_path / "r.json", artifacts="all")
    k = 0
    while True:
        k += 1
        target = memory()
        if there:  # an earlier part of it, which this user made
            for key, data in objects(source).items():
                later = b'"mode":"retry"' in data or ".000002." in key or "/packs/" in key
                if not later:
                    target.storage.create(key, data)
            assert [one["mode"] for one in invocations(target)] == ["start"]
        breaking = Store(Counting(target.storage, k))
        try:
            if how == "import":
                import_run(breaking, tmp_path / "r.json", workers=workers)
            else:
                transfer_run(source, "r", breaking, workers=workers, arrival=PULL)
        except StorageError:
            try:
                target.get_run("r")
            except RunNotFoundError:
                assert not there
                continue
            known = invocations(target)
            assert known[-1]["mode"] in (("start", how) if there else (how,)), k
            assert known[-1]["mode"] == how or len(known) == 1, "nothing of the others came yet"
            continue
        modes = [one["mode"] for one in invocations(target)]
        assert modes == ["start", "retry", how]
        assert invocations(target)[-1]["number"] == 9
        assert k > 3
        break


def test_a_pull_that_brings_nothing_writes_nothing() -> None:
    source, target = Store(strange().storage), memory()
    transfer_run(source, "r", target, arrival=PULL)
    before = objects(target)
    transfer_run(source, "r", target, arrival=PULL)
    assert objects(target) == before
    assert invocations(target)[-1]["source"] == {"store": "s3://b/x"}
    assert invocations(target)[-1]["by"]["user"]


def marker(store: Store) -> tuple[str, bytes]:
    return "runstore.json", objects(store)["runstore.json"]


def test_stores_that_pull_from_one_another_come_to_an_end() -> None:
    one, other = Store(strange().storage), memory()
    for _ in range(3):
        transfer_run(one, "r", other, arrival=PULL)
        transfer_run(other, "r", one, arrival=PULL)
    assert objects(one).items() - objects(other).items() == {marker(one)}
    assert objects(other).items() - objects(one).items() == {marker(other)}
    assert [each["mode"] for each in invocations(one)] == ["start", "retry", "pull"]
    # What somebody does in one of them is told in the other.
    one.get_run("r").begin_invocation("retry")
    transfer_run(one, "r", other, arrival=PULL)
    assert [each["mode"] for each in invocations(other)][3:] == ["retry", "pull"]


def test_a_push_records_nothing() -> None:
    source, target = Store(strange().storage), memory()
    transfer_run(source, "r", target)
    assert [one["mode"] for one in invocations(target)] == ["start", "retry"]


class _Fickle:
    """A store that says another number when it is copied than when it was asked."""

    def __init__(self, storage: Storage, asked: int = 2, **fields: object) -> None:
        self.storage = storage
        self.url = "s3://fickle"
        self.asked = 0
        self.most = asked
        self.fields = fields or {"number": 2_000_000}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | StorageError]]:
        for key, data in self.storage.read_many(keys):
            if "/invocations/" in key:
                self.asked += 1
                if self.asked > self.most:
                    assert isinstance(data, bytes)
                    data = reframed(data, lambda body: body.update(self.fields))  # noqa: PLW2901
            yield key, data


@pytest.mark.parametrize("there", [False, True])
def test_a_store_that_changes_its_answer(there: bool) -> None:
    run = strange()
    target = memory()
    if there:
        for key, data in objects(Store(run.storage)).items():
            if "/invocations/" not in key or b'"mode":"start"' in data:
                target.storage.create(key, data)
    fickle = _Fickle(run.storage, 2 + there)  # asked for what is missing, and for the highest
    with pytest.raises(RefusedError, match="became another one while it was copied"):
        transfer_run(Store(fickle), "r", target, arrival=PULL)  # type: ignore[arg-type]
    assert fickle.asked > fickle.most
    assert invocations(target)[-1]["mode"] == "pull"
    assert not any(one["number"] == 2_000_000 for one in invocations(target))


def test_a_store_that_says_of_work_that_it_was_a_pull() -> None:
    run = strange()
    target = memory()
    transfer_run(Store(run.storage), "r", target)
    run.begin_invocation("pull")
    fickle = _Fickle(run.storage, 1, mode="retry")
    with pytest.raises(RefusedError, match="became another one while it was copied"):
        transfer_run(Store(fickle), "r", target, arrival=PULL)  # type: ignore[arg-type]
    assert len(invocations(target)) == 2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/a/b@c?d", "/a/b@c?d"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("sftp://me:secret@host/x@y", "sftp://host/x@y"),
        ("sftp://me:se@cret@host", "sftp://host"),
        ("https://host/x?sig=secret&a#b", "https://host/x"),
    ],
)
def test_no_credentials_are_recorded(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_the_forged_run_is_one(tmp_path: Path) -> None:
    run = strange()
    assert Store(run.storage).get_run("r").dag == SMALL
    assert not [problem for _, problem in verified(run) if problem]


def killed_at(link: int, root: Path, file: Path) -> bool:
    """Import a file in a child that is killed when it is to give its ``link``-th object a name."""
    child = os.fork()
    if child == 0:
        named = itertools.count(1)
        real = os.link

        def kill_or_link(*words: Any, **options: Any) -> None:
            if next(named) == link:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*words, **options)

        code = 1
        try:
            os.link = kill_or_link
            import_run(open_store(root), file, workers=1)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_killed_at_any_object_on_a_disk(tmp_path: Path) -> None:
    """What is there of a run then is no run, or has the import as its latest invocation."""
    export_run(strange(), tmp_path / "r.json", artifacts="all")
    for link in itertools.count(1):
        root = tmp_path / str(link)
        if not killed_at(link, root, tmp_path / "r.json"):
            break
        assert not (root / "runs/r/run.json").exists() or latest_on_disk(root) == "import"
        if link > 2:  # the marker, and then that
            assert latest_on_disk(root) == "import"
    assert link > 5
    assert latest_on_disk(root) == "import"


def latest_on_disk(root: Path) -> str:
    found = [json.loads(f.read_bytes())["record"] for f in root.glob("runs/r/*/invocations/*.json")]
    mode: str = max(found, key=lambda one: (one["number"], one["id"]))["mode"]
    return mode
