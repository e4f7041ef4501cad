"""The format is what FORMAT.md says: a reader that knows nothing else agrees with the library.

And it stays so: stores that released versions wrote are read, by both.
"""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runstore
from runstore.records import Blob, End, keys
from runstore.transfer import import_run
from tests import independent_reader
from tests.data import make_store
from tests.places import home
from tests.verified import verified

DATA = Path(__file__).parent / "data"
STORES = sorted((DATA / "stores").iterdir())
EXPORTS = sorted((DATA / "exports").iterdir())


def by_library(root: Path) -> dict[str, dict[str, tuple]]:
    store = runstore.open_store(root)
    found = {}
    for run_id in store.run_ids():
        run = store.get_run(run_id)
        history = run.history()
        assert not history.damaged
        found[run_id] = {}
        for path in history.paths():
            latest = history.latest(path)
            outputs = {}
            if isinstance(latest, End):
                inline = {k: v for k, v in latest.outputs.items() if type(v) is not Blob}
                outputs = inline
            number = latest.attempt if history.attempts.get(path) else 0
            found[run_id][path] = (number, getattr(latest, "outcome", "in progress"), outputs)
    return found


def agree(root: Path) -> dict:
    theirs = independent_reader.read(str(root))
    assert not [each["damaged"] for each in theirs.values() if each["damaged"]]
    latest = {run_id: each["latest"] for run_id, each in theirs.items()}
    assert latest == by_library(root)
    for run_id, each in theirs.items():
        here = {path.name for path in (root / "runs").rglob("*") if len(path.name) == 64}
        assert each["named"] <= here, run_id
    return theirs


def test_the_reader_is_short_and_independent():
    source = Path(independent_reader.__file__).read_text()
    assert len(source.splitlines()) <= 100
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {"hashlib", "json", "os", "pathlib"}


@pytest.mark.parametrize("root", STORES, ids=lambda path: path.name)
def test_a_frozen_store_is_read_by_both(root):
    theirs = agree(root)
    assert set(theirs) == {"Nightly 1", "forked", "half"}
    nightly = theirs["Nightly 1"]["latest"]
    assert nightly["Scan %25[1.5]/score"][:2] == (2, "succeeded")
    assert nightly['Scan %25["us/east"]/score'] == (1, "succeeded", {"scores": 7})
    assert theirs["half"]["latest"]["judge"][1] == "in progress"
    assert theirs["forked"]["latest"]["regions"][0] == 0, "taken over"
    for run_id in ("Nightly 1", "forked"):
        run = runstore.open_store(root).get_run(run_id)
        assert run.plan(make_store.DAG).status == "succeeded", "and it is still up to date"
        assert run.values()["done"] is True
        assert run.values()["big"][:2] == ["x" * 20_000, 10**30]
        assert not [key for key, problem in verified(run) if problem]
    assert [end.outcome for end in runstore.open_store(root).get_run("Nightly 1").history().ends(
        "Scan %25[1.5]/score")] == ["failed", "succeeded"]  # fmt: skip
    assert (
        runstore.open_store(root).get_run("Nightly 1").logs('Scan %25["eu"]/score')
        == b"scoring eu\n"
    )


def test_a_frozen_store_is_whole():
    """What is committed is what was written: no tool rewrote it on the way."""
    for root in STORES:
        for path in (root / "runs").rglob("*.json"):
            data = path.read_bytes()
            assert json.loads(data)["sha256"] == independent_reader.sha256(data[86:-1]), path


@pytest.mark.parametrize("file", EXPORTS, ids=lambda path: path.name)
def test_a_frozen_export_is_read_in_place_and_imported(file, tmp_path):
    """Its run is that of the frozen store, to the byte."""
    frozen = runstore.open_store(DATA / "stores" / file.stem).get_run("Nightly 1")
    imported = import_run(runstore.open_store(tmp_path / "s"), file)
    for run in (runstore.open_store(file).get_run("Nightly 1"), imported):
        assert run.plan(make_store.DAG).status == "succeeded"
        assert run.values() == frozen.values()
        assert run.logs('Scan %25["eu"]/score') == b"scoring eu\n"
        assert not [key for key, problem in verified(run) if problem]
    here, there = (
        home(tmp_path / "s", "_unightly_s1"),
        home(DATA / "stores" / file.stem, "_unightly_s1"),
    )
    for folder in ("attempts", "blobs"):
        names = {path.relative_to(there) for path in (there / folder).rglob("*") if path.is_file()}
        assert len(names) > 3
        for name in names:
            assert (here / name).read_bytes() == (there / name).read_bytes(), name


def test_a_store_of_today_is_read_by_both(tmp_path):
    root = tmp_path / "store"
    make_store.main(str(root))
    agree(root)
    # From the packs alone too, and from the loose records alone.
    for gone in ("packs", "attempts"):
        copy = tmp_path / gone
        shutil.copytree(root, copy)
        shutil.rmtree(home(copy, "_unightly_s1") / gone)
        found = agree(copy)
        assert found["Nightly 1"]["latest"] == agree(root)["Nightly 1"]["latest"]


def test_both_find_what_is_damaged(tmp_path):
    shutil.copytree(STORES[-1], tmp_path / "s")
    for path in sorted((tmp_path / "s/runs/_unightly_s1").rglob("*")):
        if not path.is_file() or path.name == "run.json":
            continue
        whole = path.read_bytes()
        at = len(whole) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        theirs = set(independent_reader.read(str(tmp_path / "s"))["Nightly 1"]["damaged"])
        run = runstore.open_store(tmp_path / "s").get_run("Nightly 1")
        ours = {key.rpartition("/")[2] for key, problem in verified(run) if problem}
        assert theirs == ours == {path.name}
        path.write_bytes(whole)


@given(st.text(st.characters(codec="utf-8")) | st.text("aA/._[]con1é", max_size=130))
def test_both_spell_keys_alike(text):
    assert independent_reader.key_form(text) == keys.encode(text)


def test_the_writer_of_the_frozen_store_is_kept():
    assert sys.modules["tests.data.make_store"].__doc__
