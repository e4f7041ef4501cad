"""The traps of the clients (design/storage.md): each one a way to lose a key, or to hang."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys

import pytest

from runstore.errors import KeyMissingError, StorageError
from runstore.storage import open_storage
from runstore.storage.remote import EXCLUSIVE_BYTES
from tests.remote.conftest import enter
from tests.servers import server


@pytest.fixture
def storage(radosgw, engine):
    return open_storage(f"s3://{radosgw.bucket()}/x", engine=engine, budget=10)


def test_a_key_that_another_client_made_is_there_at_once(radosgw, storage):
    # s3fs: a cached listing says "not there" of a key that is.
    assert list(storage.list("a/")) == []
    assert list(storage.list("a/", shallow=True)) == []
    with pytest.raises(KeyMissingError):
        storage.read("a/1")
    bucket = storage.url.split("/")[2]
    radosgw.s3().put_object(Bucket=bucket, Key="x/a/1", Body=b"theirs")
    assert storage.read("a/1") == b"theirs"
    assert storage.stream("a/1").read() == b"theirs"
    assert list(storage.list("a/")) == ["a/1"]
    assert list(storage.list("a/", shallow=True)) == ["a/1"]


def test_what_is_no_key_is_not_listed(radosgw, storage):
    # Consoles make objects named like folders.
    bucket = storage.url.split("/")[2]
    for name in ("x/a/", "x/a/B", "x/a/.hidden", "x/a/b c", "xy/a", "x/a/é"):
        radosgw.s3().put_object(Bucket=bucket, Key=name, Body=b"")
    storage.create("a/ok", b"1")
    assert list(storage.list("")) == ["a/ok"]
    assert list(storage.list("a/", shallow=True)) == ["a/ok"]
    assert list(storage.list("", shallow=True)) == ["a/"]


@pytest.mark.parametrize(
    "root", ["donn\u00e9es/\u65e5\u672c", "with space", "UPPER.Case", "a%20b", "a=b&c+d"]
)
def test_a_prefix_may_be_any_text(radosgw, engine, root):
    bucket = radosgw.bucket()
    storage = open_storage(f"s3://{bucket}/{root}/", engine=engine)
    storage.create("a/b", b"1")
    assert radosgw.objects(bucket) == {f"{root}/a/b": b"1"}
    assert list(storage.list("a/")) == ["a/b"]
    assert list(storage.list("", shallow=True)) == ["a/"]
    assert storage.read("a/b") == b"1"


def test_a_large_create_is_one_request_and_exclusive(proxy, engine):
    # s3fs goes multipart from 100 MB, and radosgw ignores the condition when that completes.
    storage = open_storage(f"s3://{proxy.upstream.bucket()}", engine=engine)
    body = os.urandom(1 << 20) * 101
    proxy.log()
    storage.create("large", body)
    assert [method for method, _, _ in proxy.log()] == ["PUT"]
    with pytest.raises(StorageError):
        storage.create("large", body[:-1])
    assert storage.read("large") == body


def test_what_is_too_large_to_create_is_refused_unread(storage):
    class Endless:
        asked = 0

        def read(self, size):
            self.asked += size
            return bytes(size)

    endless = Endless()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runstore.storage.remote.EXCLUSIVE_BYTES", 5 << 20)
        with pytest.raises(StorageError, match="artifact"):
            storage.create("endless", endless)
    assert endless.asked < 8 << 20
    assert EXCLUSIVE_BYTES < 5 << 30, "what S3 takes in one request"


def test_a_key_that_does_not_fit_below_the_prefix_is_refused(radosgw, engine):
    storage = open_storage(f"s3://{radosgw.bucket()}/{'p' * 100}", engine=engine)
    with pytest.raises(StorageError, match="shorter prefix"):
        storage.create("/".join(["y" * 255] * 4), b"")


def _child(storage, key):
    signal.alarm(60)  # so that one that hangs does not stay
    status = 1
    try:
        storage.create(key, b"child")
        status = 0 if storage.read("parent") == b"parent" else 2
    finally:
        os._exit(status)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_gets_a_client_of_its_own(storage):
    # obstore hangs after a fork; an inherited s3fs refuses to work.
    storage.create("parent", b"parent")
    children = []
    for n in range(4):
        pid = os.fork()
        if pid == 0:
            _child(storage, f"child-{n}")
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
    assert storage.read("child-0") == b"child"
    storage.create("after", b"1")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_without_the_other_client_is_a_clear_error(radosgw, monkeypatch):
    storage = open_storage(f"s3://{radosgw.bucket()}", engine="obstore")
    storage.create("parent", b"parent")
    monkeypatch.setattr("runstore.storage.engines.PACKAGES", {"s3": ("no_such_package", "")})
    reader, writer = os.pipe()
    if os.fork() == 0:
        signal.alarm(20)
        try:
            storage.read("parent")
        except StorageError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as said:
        assert "does not survive a fork" in said.read()
    os.wait()


def test_a_storage_can_be_sent_to_another_process(storage):
    storage.create("a", b"1")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(storage.read, ("a",)) == b"1"
    copy = pickle.loads(pickle.dumps(storage))
    assert (copy.url, copy.engine.name) == (storage.url, storage.engine.name)


def test_processes_end_cleanly_and_quietly(radosgw, engine):
    # obstore's asynchronous calls abort the process at exit in a quarter of the runs.
    code = (
        "import sys; from runstore.storage import open_storage\n"
        "s = open_storage(sys.argv[1], engine=sys.argv[2]); s.create(sys.argv[3], b'1')\n"
        "print(len(list(s.read_many(s.list('')))))"
    )
    url = f"s3://{radosgw.bucket()}"
    for n in range(8 if engine == "obstore" else 2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, url, engine, f"k{n}"],
            capture_output=True, check=False, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{n + 1}\n", "")


def test_an_emulator_of_google_is_not_asked_what_it_never_answers(monkeypatch):
    # gcsfs' extended class asks it for the kind of the bucket, and tries for 77 s.
    from gcsfs.core import GCSFileSystem  # here: half a second, which every worker would pay

    running = server("fake-gcs")
    enter(monkeypatch, running)
    storage = open_storage(f"gs://{running.bucket()}/x")
    assert storage.engine.name == "fsspec", "emulators do not speak what obstore speaks"  # type: ignore[attr-defined]
    assert type(storage.engine._fs) is GCSFileSystem  # type: ignore[attr-defined]
    storage.create("a", b"{}")
    assert storage.read("a") == b"{}"


def test_a_body_with_the_boundary_of_gcsfs_in_it_is_kept_whole(monkeypatch):
    running = server("fake-gcs")
    enter(monkeypatch, running)
    bucket = running.bucket()
    storage = open_storage(f"gs://{bucket}/x", engine="fsspec")
    body = b"before\r\n--==0==\r\nafter"
    storage.create("blob", body, repair=True)
    assert running.objects(bucket) == {"x/blob": body}
    with pytest.raises(StorageError, match="boundary"):
        storage.create("record", body)


def test_a_bucket_that_is_not_there_is_said_at_once(proxy, engine):
    storage = open_storage("s3://no-such-bucket-here/x", engine=engine)
    calls = (
        lambda: storage.create("a", b""),
        lambda: list(storage.list("")),
        lambda: storage.read("a"),
    )
    for call in calls:
        with pytest.raises(StorageError, match="no such bucket"):
            call()
        assert len(proxy.log()) <= 2, "nothing is tried again"


def test_wrong_credentials_are_said_at_once(proxy, engine):
    options = {"key": "test", "secret": "wrong"}
    url = f"s3://{proxy.upstream.bucket()}/x"
    storage = open_storage(url, engine=engine, storage_options=options)
    for call in (lambda: storage.create("a", b""), lambda: list(storage.list(""))):
        with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
            call()
        assert len(proxy.log()) <= 2, "nothing is tried again"
