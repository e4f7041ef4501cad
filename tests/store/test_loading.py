"""Loading: below the folder and nowhere else, and each artifact under the name it was saved by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import runstore
from runstore import Attempt, Dag, Map, Parallel, Task, sequence, start, task
from runstore.errors import InputError
from tests.cli import inside

DAG = sequence(Task(name="a"), Task(name="b"))


@pytest.fixture
def run(tmp_path: Path) -> runstore.Run:
    return runstore.open_store(tmp_path / "s", durable=False).create_run(DAG, run_id="r")


def saved(run: runstore.Run, *names: str) -> Attempt:
    """An attempt that sees artifacts of these names, whatever they are."""
    with run.begin("a") as attempt:
        attempt._saved.update((name, run.blobs.put(name.encode())) for name in names)
    return run.begin("b")


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "name",
    [
        "../out", "/abs/out", "x/../../out", "..", ".", "", "a\0b", "a//b", "./a", "a/.", "a/",
        "x" * 256, "/".join(["x" * 200] * 11),
    ],
)  # fmt: skip
def test_a_name_of_a_strangers_record_leads_nowhere(run, tmp_path, name):
    attempt = saved(run, name, "fine")
    before = everything(tmp_path)
    for pattern in (name, "*"):
        if pattern:
            with pytest.raises(InputError, match="a saved, is a name that runstore gives no"):
                attempt.load(pattern, to=tmp_path / "into/this")
    assert everything(tmp_path) <= before | {"into", "into/this"}
    assert not attempt.succeed().consumed.artifacts


@pytest.mark.parametrize("name", ["..", ".", "x/..", "/", "a\0b"])
def test_nor_does_it_when_it_is_fetched(run, tmp_path, monkeypatch, name):
    with run.begin("a") as attempt:
        attempt._saved.update({name: run.blobs.put(b"x"), "../up": run.blobs.put(b"y")})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = everything(tmp_path)
    for output in ([], ["-o", "."]):
        assert inside.call("get", "r", *output, "--store", str(tmp_path / "s"), "--", name) == 2
    inside.call("get", "r", "--store", str(tmp_path / "s"), "--", "../up")
    assert everything(tmp_path) - before == {"here/up"}


def test_no_link_below_the_folder_is_followed(run, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    attempt = saved(run, "data/file", "link", "pipe", "folder", "file/below")
    folder = attempt.folder
    (folder / "data").symlink_to(outside)
    (folder / "link").symlink_to(outside / "file")
    (folder / "folder").mkdir()
    (folder / "file").write_text("mine")
    os.mkfifo(folder / "pipe")
    for name, what in [
        ("data/file", r"'data' is a link, to '.*outside'"),
        ("link", r"'link' is a link, to '.*outside/file'"),
        ("pipe", "'pipe' is no file"),
        ("folder", "'folder' is a folder"),
        ("file/below", "'file' is a file"),
    ]:
        with pytest.raises(InputError, match=rf"cannot be loaded into .*: {what} there: remove"):
            attempt.load(name)
    assert everything(outside) == {"file"}
    assert (outside / "file").read_text() == "precious"
    assert (folder / "file").read_text() == "mine"
    (path,) = attempt.load("data/file", to=tmp_path / "elsewhere")
    assert path.read_text() == "data/file"


def test_the_folder_itself_may_be_a_link(run, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "to").symlink_to("disk")
    (path,) = saved(run, "x/y").load("x/y", to=tmp_path / "to")
    assert path == tmp_path / "to/x/y"
    assert (tmp_path / "disk/x/y").read_text() == "x/y"


def test_a_relative_folder_and_files_that_are_there(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_text("old")
    attempt = saved(run, "x")
    assert attempt.load("x", to=".") == [Path("x")]
    assert (tmp_path / "x").read_text() == "x"
    with pytest.raises(InputError, match=r"attempt\.load\('"):
        attempt.load()


LONG = ["x" * 255, "y" * 242, "é" * 127, f"{'d' * 255}/{'f' * 255}", "/".join(["d" * 255] * 8)]


@pytest.mark.parametrize("name", LONG)
def test_long_names(run, name):
    a = run.begin("a")
    (a.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (a.folder / name).write_text("long")
    assert a.save(name) == [name]
    a.succeed()
    b = run.begin("b")
    assert b.load(name) == [b.folder / name]
    assert [p for p in b.folder.rglob("*") if p.is_file()] == [b.folder / name]
    assert (b.folder / name).read_text() == "long"


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "/".join(["d" * 200] * 12)])
def test_what_could_not_be_loaded_is_not_saved(run, name):
    attempt = run.begin("a")
    with pytest.raises(InputError, match=r"a saves '.*too long to be loaded again"):
        attempt.save_bytes(name, b"x")
    assert not attempt.succeed().artifacts


def test_an_exact_name_goes_before_a_pattern(run):
    attempt = saved(run, "x*", "xy", "x?", "[1]")
    names = lambda paths: [path.name for path in paths]  # noqa: E731
    assert names(attempt.load("x*")) == ["x*"]
    assert names(attempt.load("x?")) == ["x?"]
    assert names(attempt.load("[1]")) == ["[1]"]
    assert names(attempt.load("x**")) == ["x*", "x?", "xy"]
    assert names(attempt.load("xy", "x*", "*")) == ["xy", "x*", "[1]", "x?"]


# -- maps ----------------------------------------------------------------------------------------

NAMES = ["plain.csv", "odd [1].csv", "[x]", 'q["', "star*", "sub[2]/f]", "@0", "a:b"]


def write(attempt: Attempt, item: object, other: object = "") -> None:
    for name in NAMES:
        attempt.save_bytes(name, f"{item} {other} {name}".encode())


def collect(attempt: Attempt) -> dict[str, str]:
    folder = str(attempt.folder) + "/"
    return {str(path).removeprefix(folder): path.read_text() for path in attempt.load("*")}


def one_by_one(attempt: Attempt) -> list[str]:
    return [
        path.read_text()
        for name in NAMES
        for path in attempt.load(f'each["a [1]/b"]/{name}', to=attempt.folder / "one")
    ]


def both(attempt: Attempt) -> list[str]:
    return sorted(path.read_text() for path in attempt.load('each["a [1]/b"]/*.csv'))


def test_names_with_brackets_from_a_maps_items():
    body = sequence(task(write), task(collect, name="within", returns="within"))
    pipeline = Dag(
        [
            Map(name="each", over="items", as_="item", body=body),
            task(collect, returns="found", after="each"),
            task(one_by_one, returns="texts", after="each"),
            task(both, returns="both", after="each"),
        ]
    )
    result = start(pipeline, {"items": ["a [1]/b", 2], "other": ""}, store="memory://brackets")
    assert result.status == "succeeded", result.plan.to_json()
    values = result.values()
    key = {"a [1]/b": runstore.records.keys.encode('each["a [1]/b"]'), 2: "each_i2_j"}
    assert values["found"] == {
        f"{folder}/{name}": f"{item}  {name}" for item, folder in key.items() for name in NAMES
    }
    assert values["within"][0] == {name: f"a [1]/b  {name}" for name in NAMES}
    assert values["texts"] == [f"a [1]/b  {name}" for name in NAMES]
    assert values["both"] == ["a [1]/b  odd [1].csv", "a [1]/b  plain.csv"]


def test_maps_in_maps_are_addressed_by_the_whole_path(tmp_path):
    inner = Map(name="inner", over="others", as_="other", body=sequence(task(write)))
    branches = {"l": sequence(inner, task(collect, name="beside", returns="beside"))}
    outer = Map(name="outer", over="items", as_="item",
                body=Dag([Parallel(name="p", branches=branches)]))  # fmt: skip
    pipeline = sequence(outer, task(collect, returns="found"))
    result = start(pipeline, {"items": [1, 2], "others": ["x"]}, store=tmp_path / "s")
    assert result.status == "succeeded", result.plan.to_json()
    folders = {n: f"outer_i{n}_j/p:l/inner_i_qx_q_j" for n in (1, 2)}
    for n, beside in enumerate(result.values()["beside"], 1):
        assert beside == {f"{folders[n]}/{name}": f"{n} x {name}" for name in NAMES}
    expected = {f"{folders[n]}/{name}": f"{n} x {name}" for n in (1, 2) for name in NAMES}
    assert result.values()["found"] == expected
    (end,) = result.run.history().ends("collect")
    assert {f'outer[{n}]/p:l/inner["x"]/{name}' for n in (1, 2) for name in NAMES} == set(
        end.consumed.artifacts
    )


def test_two_artifacts_that_would_be_one_file():
    def clash(attempt: Attempt) -> list[str]:
        attempt.load("each[1]/plain.csv")
        attempt.load("each[1]/plain.csv")
        with pytest.raises(InputError, match=r"would be one file, 'each_i1_j/plain.csv'.*`to`"):
            attempt.load("each_i1_j/plain.csv")
        paths = [*attempt.load("each_i1_j/plain.csv", to=attempt.folder / "other")]
        return [path.read_text() for path in (attempt.folder / "each_i1_j/plain.csv", *paths)]

    def literal(attempt: Attempt) -> None:
        attempt.save_bytes("each_i1_j/plain.csv", b"literal")

    pipeline = Dag(
        [
            Map(name="each", over="items", as_="item", body=sequence(task(write))),
            task(literal),
            task(clash, after=["each", "literal"], returns="texts"),
        ]
    )
    result = start(pipeline, {"items": [1], "other": ""}, store="memory://clash")
    assert result.values()["texts"] == ["1  plain.csv", "literal"]
