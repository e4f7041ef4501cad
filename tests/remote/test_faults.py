"""A third of the requests hurt, before and after the server acted: still one winner, who knows."""

from __future__ import annotations

import pytest

from runstore.errors import KeyExistsError, OutcomeUnknownError, StorageError
from runstore.storage import open_storage
from tests.exploration import PROFILE
from tests.remote.conftest import Proxy
from tests.remote.faultproxy import AFTER, BEFORE
from tests.remote.writers import check, race

KEYS = [f"faults/{n:02d}" for n in range(80 if PROFILE == "explore" else 30)]
ALL = ("PUT", "GET", "HEAD")


@pytest.mark.explored
def test_24_writers_with_a_third_of_the_requests_hurt(proxy, engine):
    bucket = proxy.upstream.bucket()
    proxy.hurt(*BEFORE, *AFTER, methods=ALL, share=1 / 3)
    told = race(f"s3://{bucket}", engine, KEYS, processes=3, threads=8, together=False)
    log = proxy.log()
    proxy.hurt()
    outcomes = check(told, proxy.upstream.objects(bucket), writers=24)
    assert outcomes == {"won": len(KEYS), "lost": len(KEYS) * 23}, (
        "60 s of budget are enough to know"
    )
    hurt = [what for _, _, what in log if not what.isdigit()]
    assert len(hurt) > len(log) / 4


@pytest.mark.parametrize("fault", AFTER)
def test_my_own_success_comes_back_as_exists_and_is_won(proxy: Proxy, engine: str, fault: str):
    # Naive handling loses these keys: the server has them, and says "exists" to the resend.
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=20)
    proxy.hurt(fault, times=1)
    storage.create("a/b", b"mine")
    assert proxy.upstream.objects(bucket) == {"a/b": b"mine"}
    proxy.hurt(fault, times=1)
    with pytest.raises(KeyExistsError):
        storage.create("a/b", b"other")
    assert proxy.upstream.objects(bucket) == {"a/b": b"mine"}


@pytest.mark.parametrize("fault", BEFORE)
def test_what_never_arrived_is_sent_again(proxy: Proxy, engine: str, fault: str):
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=20)
    proxy.hurt(fault, times=2)
    storage.create("a/b", b"mine")
    assert proxy.upstream.objects(bucket) == {"a/b": b"mine"}


def test_a_conflict_in_flight_with_nothing_there_is_sent_again(proxy, engine):
    # 409 before anything landed: no winner is to be read yet.
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=20)
    proxy.hurt("refuse_409", times=2)
    storage.create("a/b", b"mine")
    assert proxy.upstream.objects(bucket) == {"a/b": b"mine"}


@pytest.mark.parametrize("fault", ["drop_response", "cut_body", "answer_503", "delay_response"])
def test_reads_and_listings_are_asked_for_again(proxy, engine, fault):
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=20)
    bodies = {f"a/{n:02d}": b"%d" % n * 1000 for n in range(40)}
    for key, body in bodies.items():
        storage.create(key, body)
    proxy.hurt(fault, methods=("GET", "HEAD"), share=0.4)
    assert dict(storage.read_many(bodies)) == bodies
    for _ in range(10):
        assert sorted(storage.list("a/")) == sorted(bodies)
        assert storage.stream("a/07").read() == bodies["a/07"]


def test_endless_503_ends_within_the_budget_and_says_how_long_it_tried(proxy, engine):
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=2)
    list(storage.list(""))
    proxy.hurt("refuse_503", methods=ALL)
    for call in (
        lambda: storage.create("a", b"1"),
        lambda: storage.create("blob", b"1", repair=True),
        lambda: storage.read("a"),
        lambda: storage.stream("a"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(StorageError, match=r"tried \d+ times in \d+\.\d s") as raised:
            call()
        assert isinstance(raised.value, OutcomeUnknownError) == ("unknown" in str(raised.value))
    with pytest.raises(OutcomeUnknownError, match="a in s3://") as raised:
        storage.create("a", b"1")
    assert raised.value.key == "a"
    assert raised.value.seconds < 20, "a minute is the default"
    proxy.log()
    found = dict(storage.read_many([f"k/{n}" for n in range(100)]))
    assert all(isinstance(error, StorageError) for error in found.values())
    # With a budget of its own each key would be asked for some seven times.
    assert len(proxy.log()) < 400, "the keys of one call share one budget"


def test_a_refusal_after_a_lost_answer_stays_unknown(proxy, engine):
    # The first try landed; the second hears 403. "Failed" would be a lie.
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=20)
    proxy.hurt("answer_503", times=1)
    original = storage.engine.put  # type: ignore[attr-defined]

    def put(key: str, body: bytes) -> None:
        try:
            original(key, body)
        finally:
            proxy.hurt("refuse_403")

    storage.engine.put = put  # type: ignore[attr-defined]
    with pytest.raises(OutcomeUnknownError):
        storage.create("a", b"1")
    with pytest.raises(StorageError, match="403") as raised:
        storage.create("b", b"1")
    assert not isinstance(raised.value, OutcomeUnknownError)


def test_a_server_that_hangs_does_not_hang_the_client(proxy, engine, monkeypatch):
    monkeypatch.setattr("runstore.storage.fsspec_client.REQUEST_SECONDS", 1.0)
    monkeypatch.setattr("runstore.storage.obstore_client.REQUEST_SECONDS", 1.0)
    bucket = proxy.upstream.bucket()
    storage = open_storage(f"s3://{bucket}", engine=engine, budget=20)
    proxy.hurt("hang_response", methods=("PUT", "HEAD"), times=1)
    # The server holds its answer for an hour.
    storage.create("a", b"1")
    assert storage.read("a") == b"1"
