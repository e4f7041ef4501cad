"""What every backend promises (`runstore.storage.Storage`), held to by one suite.

The backends, and the oracles that read what is really there, are in ``conftest.py``.
"""

from __future__ import annotations

import hashlib
import io

import pytest

from runstore.errors import KeyExistsError, KeyMissingError, StorageError
from runstore.storage import Storage
from runstore.storage.capabilities import Closing
from tests.exploration import randomness

# aiohttp's advice to gcsfs and adlfs, for bodies above 1 MiB.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

BODIES = [b"", b"\0", b"{}\n", bytes(range(256)) * 8, b"x" * 65535, b"y" * 65536, b"z" * 200_001]


@pytest.mark.parametrize("body", BODIES, ids=len)
@pytest.mark.parametrize("given", [bytes, io.BytesIO])
def test_what_is_created_is_there_and_read_back(storage, oracle, body, given):
    storage.create("runs/k/run.json", given(body))
    assert oracle.objects() == {"runs/k/run.json": body}
    assert storage.read("runs/k/run.json") == body
    assert list(storage.read_many(["runs/k/run.json"])) == [("runs/k/run.json", body)]
    with storage.stream("runs/k/run.json") as file:
        assert file.read() == body


@pytest.mark.parametrize("given", [bytes, io.BytesIO])
def test_a_key_takes_one_value_ever(storage, oracle, given):
    storage.create("a/b", given(b"first"))
    storage.create("a/b", given(b"first"))  # my own write, whose answer was lost
    for other in (b"other", b"", b"firs", b"first!", b"x" * 100_000):
        with pytest.raises(KeyExistsError) as raised:
            storage.create("a/b", given(other))
        assert raised.value.key == "a/b"
        assert "a/b" in str(raised.value)
    assert oracle.objects() == {"a/b": b"first"}


def test_repair_replaces_other_bytes_and_only_those(storage, oracle):
    storage.create("blobs/x", b"good", repair=True)  # new
    storage.create("blobs/x", b"good", repair=True)  # there
    assert oracle.objects() == {"blobs/x": b"good"}
    storage.create("blobs/y", b"damaged")
    storage.create("blobs/y", io.BytesIO(b"whole again"), repair=True)
    assert oracle.objects() == {"blobs/x": b"good", "blobs/y": b"whole again"}


def test_a_large_stream_is_asked_for_in_pieces(storage, oracle):
    body = randomness("large").randbytes(8 << 20)
    asked = []

    class Pieces(io.BytesIO):
        def read(self, size=-1, /):
            asked.append(size)
            return super().read(size)

    storage.create("blobs/large", Pieces(body))
    assert set(asked) == {1 << 20}
    found = oracle.objects()["blobs/large"]
    assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()
    with storage.stream("blobs/large") as file:
        assert file.read(10) == body[:10]
        assert file.read() == body[10:]


def test_a_stream_may_give_less_than_asked(storage, oracle):
    class Dripping(io.BytesIO):
        def read(self, size=-1, /):
            return super().read(min(size, 7))

    storage.create("a", Dripping(b"x" * 100))
    assert oracle.objects() == {"a": b"x" * 100}


@pytest.mark.parametrize(
    "error", [OSError(5, "of the stream"), ValueError("no"), KeyboardInterrupt(), StorageError("s")]
)
def test_what_a_stream_raises_comes_out_and_nothing_stays(storage, oracle, error):
    class Failing(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell():
                raise error
            return super().read(size)

    with pytest.raises(type(error)) as raised:
        storage.create("a/b", Failing(b"x" * (3 << 20)))
    assert raised.value is error
    assert oracle.objects() == {}
    storage.create("a/b", b"next")
    assert oracle.objects() == {"a/b": b"next"}


def test_what_is_not_there_is_missing(storage):
    storage.create("a/b/c", b"1")  # and the folders above it are no objects
    for key in ("x", "a/x", "a/b/x", "x/y/z", "a", "a/b"):
        with pytest.raises(KeyMissingError) as raised:
            storage.read(key)
        assert raised.value.key == key
        with pytest.raises(KeyMissingError):
            storage.stream(key)


def test_read_many_gives_one_pair_for_each_and_errors_in_place(storage):
    bodies = {f"f{n % 3}/{n:03d}": b"%d" % n * n for n in range(100)}
    for key, body in bodies.items():
        storage.create(key, body)
    missing = ["f0/none", "f0/none2", "nowhere/x", "f1"]
    no_keys = ["f0/../f1/001", "f0/X", "F"]
    asked = [*bodies, *missing, *no_keys, "f0/000"]
    randomness("asked").shuffle(asked)
    for keys in (asked, sorted(asked)):
        pairs = list(storage.read_many(iter(keys)))
        assert sorted(key for key, _ in pairs) == sorted(keys)
        found = dict(pairs)
        assert {key: found[key] for key in bodies} == bodies
        for key in missing:
            assert isinstance(found[key], KeyMissingError)
            assert found[key].key == key
        for key in no_keys:
            assert type(found[key]) is StorageError
    assert list(storage.read_many([])) == []


def test_list_takes_any_plain_prefix(storage):
    keys = {
        "runstore.json", "runs/k/run.json", "runs/k/attempts/a.1", "runs/k/attempts/ab.1",
        "runs/k/attempts/abc/deep/er", "runs/k/blobs/sha256/ab/abcd", "runs/k2/run.json",
    }  # fmt: skip
    assert list(storage.list("")) == []
    for key in keys:
        storage.create(key, key.encode())
    prefixes = {key[:n] for key in keys for n in range(len(key) + 1)}
    for prefix in prefixes | {"runs/k/attempts/abd", "z", "z/", "z/z", "runstore.json/", "runs/-"}:
        expected = {key for key in keys if key.startswith(prefix)}
        listed = list(storage.list(prefix))
        assert set(listed) == expected, prefix
        assert len(listed) == len(expected)


def test_list_shows_every_create_that_returned(storage):
    for n in range(60):
        storage.create(f"a/{n:03d}", b"")
        if n % 10 == 0:
            assert len(list(storage.list("a/"))) == n + 1
    assert sorted(storage.list("a/")) == [f"a/{n:03d}" for n in range(60)]


AT_THE_LIMIT = [
    "a", "-", "_", "0", "a..b", "a.", "-rf", "a-_.b/c", "x" * 255, "con",
    # A bucket takes keys of 1,024 bytes, prefix and all.
    *(pytest.param(key, marks=pytest.mark.at_root, id=f"{key[:8]}-1023")
      for key in ("/".join(["y" * 255] * 4), "/".join("z" * 512))),
]  # fmt: skip


@pytest.mark.parametrize("key", AT_THE_LIMIT, ids=lambda key: f"{key[:8]}-{len(key)}")
def test_keys_at_the_limits(storage, oracle, key):
    storage.create(key, b"1")
    assert oracle.objects() == {key: b"1"}
    assert list(storage.list("")) == [key]
    assert storage.read(key) == b"1"


NO_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/../b", "./a", "a/./b", ".a", "a/.tmp-1-1",
    "A", "a b", "a\\b", "a\n", "\na", "a\0b", "é", "ａ", "１", "a*", "a?", "a[1]", "a%2fb", "a:b",
    "a::b", "~", "x" * 256, "a/" + "x" * 256, "/".join("z" * 513), "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("key", NO_KEYS, ids=ascii)
def test_what_is_no_key_is_refused_everywhere(storage, oracle, tmp_path, key):
    for verb in (lambda: storage.create(key, b"1"), lambda: storage.read(key)):
        with pytest.raises(StorageError, match="not a key") as raised:
            verb()
        assert raised.value.key == key
        assert type(raised.value) is StorageError
    with pytest.raises(StorageError, match="not a key"):
        storage.stream(key)
    ((_, error),) = storage.read_many([key])
    assert isinstance(error, StorageError)
    assert oracle.objects() == {}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("prefix", ["/", "..", "a/../", "a//", ".tmp", "A", "a\\", "é", "a/*"])
def test_what_begins_no_key_is_refused_by_list_at_once(storage, prefix):
    with pytest.raises(StorageError, match="beginning of any key"):
        storage.list(prefix)


def test_a_shallow_list_tells_folders_and_keys(storage: Storage) -> None:
    for key in ("a/b/1", "a/b/2", "a/c/d/3", "a/4", "ab/5"):
        storage.create(key, b"x")
    assert sorted(storage.list("a/", shallow=True)) == ["a/4", "a/b/", "a/c/"]
    assert sorted(storage.list("", shallow=True)) == ["a/", "ab/"]
    assert sorted(storage.list("a/b", shallow=True)) == ["a/b/"]
    assert list(storage.list("nothing/", shallow=True)) == []


def test_a_storage_that_was_closed_opens_again(storage: Storage) -> None:
    storage.create("a", b"1")
    if isinstance(storage, Closing):
        storage.close()
        storage.close()
    assert storage.read("a") == b"1"
    storage.create("b", b"2")
    assert sorted(storage.list("")) == ["a", "b"]
