"""An exported file that was damaged, byte by byte, or at random: refused, or the very same run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploration import randomness, scaled
from tests.transfer.forging import arrived, exported, in_lines, original, outcome, seal, small
from tests.transfer.lives import reframed

RUN = small()


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("valid")
    exported(RUN, folder)
    return (folder / "valid.json").read_bytes()


def same_or_refused(data: bytes, folder: Path) -> bool:
    """Whether it was imported: then it is the run. Else nothing was written."""
    said = outcome(data, folder)
    if said:
        assert said.startswith("ImportRefusedError: "), said
        return False
    assert arrived(folder) == original(RUN)
    return True


def test_every_length_but_the_whole(valid: bytes, tmp_path: Path) -> None:
    whole = [n for n in range(len(valid)) if same_or_refused(valid[:n], tmp_path)]
    assert whole == [len(valid) - 1]  # without its last newline it is whole, too


def test_every_byte_changed(valid: bytes, tmp_path: Path) -> None:
    choose = randomness("damage")
    taken = 0
    for at in range(len(valid)):
        flipped = bytearray(valid)
        flipped[at] ^= 1 << choose.randrange(8)
        taken += same_or_refused(bytes(flipped), tmp_path)
    assert (
        taken <= 40
    )  # white space for white space, an escape for its character, "none" for "none"


def test_lines_that_are_lost_doubled_or_swapped(valid: bytes, tmp_path: Path) -> None:
    lines = valid.splitlines(keepends=True)
    for at in range(len(lines)):
        assert not same_or_refused(b"".join(lines[:at] + lines[at + 1 :]), tmp_path)
        assert not same_or_refused(b"".join([*lines[: at + 1], *lines[at:]]), tmp_path)
        if 0 < at < len(lines) - 2:
            swapped = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
            assert not same_or_refused(b"".join(swapped), tmp_path)


@settings(max_examples=scaled(4))
@given(data=st.data())
def test_bytes_at_random(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "random"
    folder.mkdir(exist_ok=True)
    exported(RUN, folder)
    valid = (folder / "valid.json").read_bytes()
    at = data.draw(st.integers(0, len(valid)))
    length = data.draw(st.integers(0, 200))
    token = st.sampled_from(
        [
            b'"',
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b"\n",
            b":",
            b"\\u0041",
            b"null",
            b"\x00",
            b"}\n",
        ]
    )
    put = data.draw(st.lists(st.one_of(token, st.binary(max_size=20)), max_size=5).map(b"".join))
    same_or_refused(valid[:at] + put + valid[at + length :], folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items: Any = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


def mutate(data: st.DataObject, document: Any) -> None:
    """Replace, remove, double or rename something, somewhere in a document."""
    *above, last = data.draw(st.sampled_from(places(document)))
    inside = document
    for key in above:
        inside = inside[key]
    match data.draw(st.sampled_from(["replace", "remove", "copy", "rename"])):
        case "replace":
            inside[last] = data.draw(JSON)
        case "remove":
            del inside[last]
        case "copy":
            other = data.draw(st.sampled_from(places(document)))
            source = document
            for key in other:
                source = source[key]
            inside[last] = copy.deepcopy(source)
        case "rename" if isinstance(inside, dict):
            inside[data.draw(st.text(max_size=10))] = inside.pop(last)


@settings(max_examples=scaled(4))
@given(data=st.data())
def test_structure_at_random(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever does it can count: digests fit. So a change may be imported, if it makes a valid run;
    ``outcome`` has looked that it can be planned and that all in it holds."""
    folder = tmp_path_factory.getbasetemp() / "structure"
    folder.mkdir(exist_ok=True)
    document = exported(RUN, folder)
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            mutate(data, document)
        else:
            inside_a_record(data, document)
    try:
        seal(document)
        forged = in_lines(document)
    except (TypeError, KeyError, AttributeError, UnicodeEncodeError, ValueError):
        forged = json.dumps(document).encode("utf-8", "surrogatepass")
    said = outcome(forged, folder)
    assert not said or said.startswith("ImportRefusedError: "), said


def inside_a_record(data: st.DataObject, document: Any) -> None:
    objects = document.get("objects")
    if not isinstance(objects, list):
        return
    records = [o for o in objects if isinstance(o, dict) and isinstance(o.get("data"), str)]
    if not records:
        return
    record = data.draw(st.sampled_from(records))
    try:
        record["data"] = reframed(record["data"].encode(), lambda body: mutate(data, body)).decode()
    except (ValueError, AttributeError, TypeError):
        return  # it is no record any more
