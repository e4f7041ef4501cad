"""A file from a stranger: every trick is refused with one sentence, and nothing is written."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import runstore
from runstore.archive.format import FORMAT
from runstore.errors import ImportRefusedError
from runstore.records.framing import to_pack
from runstore.transfer import Limits, export_run, import_run
from tests.transfer.forging import (
    Document,
    arrived,
    exported,
    find,
    forge,
    in_lines,
    original,
    outcome,
    seal,
    small,
)
from tests.transfer.lives import files, memory

END = "attempts/a.000001.end.json"


def test_the_forger_s_tools_give_a_valid_file(tmp_path: Path) -> None:
    run = small()
    document = exported(run, tmp_path)
    assert in_lines(seal(document)) == (tmp_path / "valid.json").read_bytes()
    assert outcome(in_lines(seal(document)), tmp_path) == ""
    assert arrived(tmp_path) == original(run)


def _key(key: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        find(document, END)["key"] = key

    return change


def _body(part: str, **fields: Any) -> Callable[[Document], None]:
    """Fields of a record set to something else; ``...`` takes one away."""

    def change(document: Document) -> None:
        def edit(body: dict[str, Any]) -> None:
            for name, value in fields.items():
                if value is ...:
                    del body[name]
                else:
                    body[name] = value

        forge(document, part, edit)

    return change


def _text(part: str, old: str, new: str) -> Callable[[Document], None]:
    """The text of a record's body changed, and its digest with it."""

    def change(document: Document) -> None:
        forge(
            document,
            part,
            lambda body: json.dumps(body, separators=(",", ":")).replace(old, new, 1),
        )

    return change


def _without(part: str) -> Callable[[Document], None]:
    return lambda document: document["objects"].remove(find(document, part))


def _twice(part: str) -> Callable[[Document], None]:
    return lambda document: document["objects"].append(dict(find(document, part)))


def _more(**item: Any) -> Callable[[Document], None]:
    return lambda document: document["objects"].append(item)


def _header(**fields: Any) -> Callable[[Document], None]:
    return lambda document: document.update(fields)


def _deep(document: Document) -> None:
    forge(
        document,
        "run.json",
        lambda body: json.dumps(body)[:-1] + ',"labels":' + "[" * 5000 + "]" * 5000 + "}",
    )


def _pack_of_a_stranger(document: Document) -> None:
    framed = [o["data"].encode() for o in document["objects"] if o.get("key") == END]
    data, name = to_pack("r", document["run_nonce"], framed)
    _more(pack=name, part=0, base64=base64.b64encode(data).decode())(document)


ZERO = hashlib.sha256(b"").hexdigest()
WRONG = "0" * 64

TRICKS: dict[str, tuple[Callable[[Document], None], str]] = {
    "path up": (_key("../../../../etc/passwd"), "renamed"),
    "path absolute": (_key("/etc/passwd"), "renamed"),
    "path with a dot": (_key("attempts/.a.000001.end.json"), "renamed"),
    "path doubled": (_key("attempts//a.000001.end.json"), "renamed"),
    "path with a NUL": (_key("attempts/a\0.000001.end.json"), "renamed"),
    "path of the marker": (_key("runstore.json"), "renamed"),
    "another number": (_key("attempts/a.000002.end.json"), "renamed"),
    "another name": (_key("attempts/b.000002.end.json"), "renamed"),
    "another kind": (_key("attempts/a.000001.start.json"), "renamed|twice"),
    "upper case": (_key("attempts/A.000001.end.json"), "renamed"),
    "another run's record": (_body(END, run_id="other"), "another run, 'other'"),
    "another run's invocation": (_body("invocations/", run_id="other"), "another run"),
    "another run's file": (_header(run_id="other"), "another run, 'r'"),
    "no run id": (_header(run_id=""), "run id is empty"),
    "a run id with controls": (_header(run_id="a\x07b"), "control character"),
    "a run id of the wrong type": (_header(run_id=["r"]), "no exported run"),
    "an invocation that climbs": (_body("invocations/", id="../../x"), r"renamed|\$\.id"),
    "an attempt that climbs": (_body(END, path="../../x"), "renamed|node path"),
    "an attempt number beyond six digits": (_body(END, attempt=10**6), r"mistypes.*\$\.attempt"),
    "attempt zero": (_body(END, attempt=0), r"mistypes.*\$\.attempt"),
    "a number that is true": (_body(END, attempt=True), r"got `bool`.*\$\.attempt"),
    "a record of another kind": (_body(END, kind="store"), "marker of a store"),
    "a record of no kind": (_body(END, kind=...), "unknown kind None"),
    "a newer record": (_body(END, format="runstore/2"), "upgrade runstore"),
    "a newer file": (_header(format="runstore-export/2"), "upgrade runstore"),
    "another file": (_header(format="zip"), "no exported run"),
    "an unknown choice": (_header(artifacts="some"), "'some'"),
    "an outcome of its own": (_body(END, outcome="great"), "outcome"),
    "digests of the wrong type": (_body(END, consumed={"params": ["x"]}), "object"),
    "digests that are none": (
        _body(END, consumed={"params": {"x": "y"}}),
        "in the place of a digest",
    ),
    "a file that climbs": (
        _body(END, artifacts={"../../.bashrc": {"sha256": ZERO, "size": 0}}),
        "relative file name",
    ),
    "an absolute file": (
        _body(END, artifacts={"/etc/passwd": {"sha256": ZERO, "size": 0}}),
        "relative file name",
    ),
    "a size that is negative": (_body(END, log={"sha256": ZERO, "size": -1}), r">= 0.*\$\.log"),
    "a start of another end": (_body(END, start=WRONG), "not the start that its end names"),
    "an error that is no text": (_body(END, error={"type": 1}), r"got `int`.*\$\.error"),
    "no DAG": (_body("run.json", dag={}), "field `dag`"),
    "a DAG with a cycle": (
        _body("run.json", dag={"nodes": [{"name": "a", "kind": "task", "after": ["a"]}]}),
        "cycle: a after a",
    ),
    "a node of an unknown kind": (
        _body("run.json", dag={"nodes": [{"name": "a", "kind": "magic"}]}),
        "magic",
    ),
    "another DAG than its digest": (_body("run.json", structure="1:" + WRONG), "structure digest"),
    "a pack that is not there": (
        _body("run.json", origin={"run_id": "o", "pack": WRONG}),
        "lacks the pack",
    ),
    "a pack nobody named": (_pack_of_a_stranger, "run.json does not name"),
    "a name twice in a record": (_text(END, '"attempt":1', '"attempt":1,"attempt":1'), "twice"),
    "a number that nobody reads alike": (_text(END, '"v":1', '"v":' + "9" * 30), "not I-JSON"),
    "a number of a million digits": (_text(END, '"v":1', '"v":' + "9" * 10**6), "exactly|JSON"),
    "an infinity": (_text(END, '"v":1', '"v":1e999'), "number"),
    "NaN": (_text(END, '"v":1', '"v":NaN'), "JSON"),
    "a depth bomb": (_deep, "JSON|deep"),
    "an object twice": (_twice(END), "twice"),
    "a blob twice": (_twice("blob"), "twice"),
    "no run": (_without("run.json"), "must be the first"),
    "nothing at all": (lambda document: document["objects"].clear(), "not|no run.json"),
    "run.json last": (lambda d: d["objects"].append(d["objects"].pop(0)), "must be the first"),
    "a blob nobody names": (_more(blob=ZERO, part=0, base64=""), "no record names"),
    "a blob of other bytes": (lambda d: find(d, "blob").update(base64="b3RoZXI="), "its digest"),
    "a blob in no base64": (
        lambda d: find(d, "blob").update(base64="ZmlsZQ"),
        "cannot be used|padding",
    ),
    "a blob that begins in its middle": (lambda d: find(d, "blob").update(part=1), "follow"),
    "a blob with a part before the first": (
        lambda d: find(d, "blob").update(part=-1),
        "does not follow|from 0",
    ),
    "a blob with a name that climbs": (lambda d: find(d, "blob").update(blob="../x"), "neither"),
    "an object of no kind": (_more(link="/etc/passwd"), "neither"),
    "an object that is none": (lambda d: d["objects"].append(5), "neither"),
    "a frame that is none": (lambda d: find(d, END).update(data="{}" * 60), "framing"),
    "half a character": (lambda d: find(d, END).update(data="\ud800"), "not"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_refused(trick: str, tmp_path: Path) -> None:
    change, says = TRICKS[trick]
    document = exported(small(), tmp_path)
    change(document)
    with suppress(TypeError, AttributeError, KeyError, UnicodeEncodeError):
        seal(document)  # what is no object cannot be counted
    said = outcome(in_lines(document), tmp_path)
    assert said.startswith("ImportRefusedError: "), (trick, said)
    assert re.search(says, said), (trick, said)
    assert "forged.json" in said


def test_names_twice_in_the_file_itself(tmp_path: Path) -> None:
    data = in_lines(exported(small(), tmp_path))
    for old, new in (
        (b'{"key":"run.json",', b'{"key":"run.json","key":"run.json",'),
        (b'"run_id":"r",', b'"run_id":"r","run_id":"r",'),
        (b'"count":', b'"count":7,"count":'),
    ):
        assert old in data
        said = outcome(data.replace(old, new, 1), tmp_path)
        assert said.startswith("ImportRefusedError")
        assert "twice" in said


def test_bombs_stay_small_in_memory(tmp_path: Path) -> None:
    limits = Limits(line_bytes=1 << 20, objects=1000, pack_bytes=1 << 20)
    document = exported(small(), tmp_path)
    valid = in_lines(document)
    first = valid.partition(b"\n")[0]
    piece = find(document, "blob")
    many = [{**piece, "part": part} for part in range(40_000)]
    bombs = {
        "one endless line": b"[" * (64 << 20),
        "one endless string": first + b'\n{"key":"' + b"x" * (64 << 20) + b'"}',
        "empty lists": first + b"\n" + b"[]," * (20 << 20),
        "one endless record": valid.replace(b'v\\":1', b'v\\":' + b"1" * (32 << 20)),
        "too many objects": in_lines(
            {
                **document,
                "objects": [
                    *document["objects"],
                    *(
                        {"key": f"attempts/a.{n:06}.start.json", "data": "x" * 90}
                        for n in range(2000)
                    ),
                ],
            }
        ),
        "empty parts": in_lines({**document, "objects": [*document["objects"], *many[1:]]}),
    }
    for name, data in bombs.items():
        path = tmp_path / "bomb.json"
        path.write_bytes(data)
        del data
        tracemalloc.start()
        with pytest.raises(ImportRefusedError):
            import_run(memory(), path, limits=limits)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 24 << 20, (name, peak)


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    for data in (b"", b"\n", b"{}", b"[]", b"null", b"\xff\xfe", b"PK\x03\x04", b'{"format":1}'):
        assert outcome(data, tmp_path).startswith("ImportRefusedError"), data
        with pytest.raises(ImportRefusedError):
            runstore.open_store(tmp_path / "forged.json")
    with pytest.raises(runstore.errors.StorageError, match="cannot read"):
        import_run(memory(), tmp_path / "absent.json")


def test_a_newer_file_is_refused_as_a_store_too(tmp_path: Path) -> None:
    export_run(small(), tmp_path / "r.json")
    data = (tmp_path / "r.json").read_bytes().replace(FORMAT.encode(), b"runstore-export/2")
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(ImportRefusedError, match="upgrade runstore"):
        runstore.open_store(tmp_path / "r.json")


def test_a_file_that_changes_between_the_check_and_the_copy(tmp_path: Path) -> None:
    document = exported(small(), tmp_path)
    path, root = tmp_path / "valid.json", tmp_path / "target"
    forge(document, END, lambda body: body.update(outputs={"v": 2}))

    def swap(what: str, done: int, total: int) -> None:
        if what == "copy" and done == 1:
            path.write_bytes(in_lines(seal(document)))

    with pytest.raises(runstore.errors.StorageError, match="has changed since"):
        import_run(runstore.open_store(root), path, progress=swap, workers=1)
    assert not any(key.endswith("run.json") for key in files(root))
