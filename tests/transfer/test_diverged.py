"""Two stores that went on with one run: what is a fast-forward, and what is not."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import runstore
from runstore.dag import Dag
from runstore.errors import DivergedError
from runstore.store import Run, Store
from runstore.transfer import export_run, import_run, transfer_run
from tests.transfer.lives import memory, objects, of_run, told

DAG = Dag.from_json({"nodes": [{"name": name, "kind": "task"} for name in "abcdef"]})


def two(*, packed: bool = False) -> tuple[Store, Run, Store, Run]:
    """Two stores that hold the same run, in which ``a`` has succeeded."""
    one, other = memory(), memory()
    run = one.create_run(DAG, run_id="r")
    run.begin_invocation("start")
    run.begin("a").succeed()
    transfer_run(one, "r", other)
    mine, theirs = one.get_run("r"), other.get_run("r")
    for each in (mine, theirs):
        each.begin_invocation("retry")
        if packed:
            each.writer.pack.begin()
    return one, mine, other, theirs


@pytest.mark.parametrize("packed", [False, True])
def test_all_that_diverged_is_named_and_nothing_is_written(packed: bool, tmp_path: Path) -> None:
    one, mine, other, theirs = two(packed=packed)
    for name in "bcd":
        mine.begin(name).succeed()
        theirs.begin(name).fail("as planned")
    mine.begin("e").succeed()
    theirs.begin("f")
    mine.writer.pack.write()
    theirs.writer.pack.write()
    export_run(mine, tmp_path / "r.json")
    before = objects(one), objects(other)
    for again in (
        lambda: transfer_run(one, "r", other),
        lambda: import_run(other, tmp_path / "r.json"),
    ):
        with pytest.raises(DivergedError) as caught:
            again()
        assert (objects(one), objects(other)) == before
        error = caught.value
        assert [(each.path, each.attempt) for each in error.attempts] == [(n, 1) for n in "bcd"]
        for name in "bcd":
            assert f"attempt 1 at {name} (succeeded, by process" in str(error)
        assert str(error).count("failed, by process") == 3
        assert one.url in str(error) or "r.json" in str(error)
        assert other.url in str(error)
        assert pickle.loads(pickle.dumps(error)).attempts == error.attempts
    with pytest.raises(DivergedError):
        transfer_run(other, "r", one)


def test_who_holds_them_is_found_in_packs_alone(tmp_path: Path) -> None:
    one, mine, other, theirs = two(packed=True)
    for name in "bcd":
        mine.begin(name).succeed()
        theirs.begin(name).fail("as planned")
    mine.writer.pack.write()
    # As after a loss: no loose records of what a pack holds.
    for key in [k for k in objects(one) if "/attempts/" in k and "/a." not in k]:
        del one.storage._objects[key]  # type: ignore[attr-defined]
    with pytest.raises(DivergedError, match=r"attempt 1 at d \(succeeded, by process"):
        transfer_run(one, "r", other)
    with pytest.raises(DivergedError, match=r"attempt 1 at d \(failed, by process"):
        transfer_run(other, "r", one)
    # An export gives them their own names again: only those keep a number from being claimed.
    export_run(mine, tmp_path / "r.json")
    arrived = import_run(memory(), tmp_path / "r.json")
    assert told(arrived) == told(mine)
    assert arrived.read_end("d", 1) is not None


@pytest.mark.parametrize("forward", [True, False])
def test_an_open_attempt_and_its_end_are_no_contradiction(forward: bool) -> None:
    one, mine, other, _ = two()
    attempt = mine.begin("b")
    transfer_run(one, "r", other)
    attempt.succeed()
    source, target = (one, other) if forward else (other, one)
    transfer_run(source, "r", target)
    assert told(target.get_run("r"))["attempts"].keys() >= ({"a", "b"})
    if forward:
        assert of_run(objects(one)).items() <= of_run(objects(other)).items()
        assert told(one.get_run("r"))["plan"] == told(other.get_run("r"))["plan"]


def test_an_end_and_a_takeover_of_one_attempt_diverged() -> None:
    one, mine, other, theirs = two()
    attempt = mine.begin("b")
    transfer_run(one, "r", other)
    attempt.succeed()
    theirs.take_over(theirs.history(), "all")
    with pytest.raises(
        DivergedError, match=r"attempt 1 at b \(lost, .*ended by process.*succeeded"
    ):
        transfer_run(other, "r", one)


def test_an_end_without_its_start_is_compared_with_the_other_s_start() -> None:
    one, mine, other, theirs = two()
    mine.begin("b").succeed()
    theirs.begin("b")
    del one.storage._objects[f"{mine.prefix}attempts/b.000001.start.json"]  # type: ignore[attr-defined]
    for source, target in ((one, other), (other, one)):
        with pytest.raises(DivergedError, match="attempt 1 at b"):
            transfer_run(source, "r", target)


def test_what_was_claimed_while_we_copied() -> None:
    one, mine, other, theirs = two()
    for name in "bc":
        mine.begin(name).succeed()

    def claim(what: str, done: int, total: int) -> None:
        if done == 1:
            theirs.begin("c").fail("first")

    with pytest.raises(DivergedError, match=r"attempt 1 at c .*failed"):
        transfer_run(one, "r", other, workers=1, progress=claim)
    assert f"{mine.prefix}attempts/c.000001.end.json" in objects(other)
    assert told(theirs)["plan"]["steps"][2]["reason"] == "failed"


def test_what_it_reads_and_writes() -> None:
    """Only what is missing is read; what both have is compared without reading what packs hold. As
    between buckets: on a disk records are read once more, to see that they are one truth."""
    from tests.transfer.counting import Counting as Counted

    def Counting(storage):
        counted = Counted(storage)
        counted.url = "s3://bucket/prefix"
        return counted

    one, mine, other, _ = two(packed=True)
    for name in "bcdef":
        mine.begin(name).succeed()
    mine.writer.pack.write()
    source, target = Counting(one.storage), Counting(other.storage)
    transfer_run(Store(source), "r", Store(target))
    # run.json on both sides, and again at the end, whether it is there; the pack, and its copy; one
    # invocation, five attempts; the attempt that both have is in no pack: its end is read on
    # either side.
    assert source.count("read") == 2 + 1 + 1 + 1 + 10 + 1
    assert source.count("list") == target.count("list") == 1
    assert target.count("read") == 2 + 1 + 1  # run.json, the end of a, the marker
    assert target.count("create") == 1 + 10 + 1

    source, target = Counting(one.storage), Counting(other.storage)
    transfer_run(Store(source), "r", Store(target))
    assert source.count("read") == 2 + 1 + 1  # run.json, the pack, the end of a
    assert target.count("read") == 1 + 1
    assert target.count("create") == 0

    source, target = Counting(one.storage), Counting(memory().storage)
    transfer_run(Store(source), "r", Store(target))
    assert target.count("list") == 1 + 2  # whether all is there, before run.json and after
    assert source.count("read") == len(of_run(objects(one))) + 1
    assert runstore.transfer.Transferred("r").records == 0
