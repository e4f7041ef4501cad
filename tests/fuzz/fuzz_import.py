"""Import under atheris, guided by coverage::

    python -m tests.fuzz.fuzz_import -max_total_time=60

Whatever the bytes: refused with one of the documented errors and nothing written, or a run that can
be planned and in which every digest holds.

Half of the inputs are files, the other half are edits of a valid file whose digests are made to
fit, which no fuzzer would ever guess.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["runstore"]):
    from runstore.errors import ImportRefusedError
    from runstore.plan import Planner
    from runstore.storage.memory import MemoryStorage
    from runstore.store import Store
    from runstore.transfer import Limits, export_run, import_run

from tests.transfer.forging import in_lines, read, seal, small
from tests.verified import verified

LIMITS = Limits(line_bytes=1 << 20, objects=1000, pack_bytes=1 << 20)
FOLDER = Path(tempfile.mkdtemp(prefix="runstore-fuzz-"))
FORGED = FOLDER / "forged.json"

export_run(small(), FOLDER / "valid.json", artifacts="all")
VALID = (FOLDER / "valid.json").read_bytes()
DOCUMENT = read(FOLDER / "valid.json")


def edited(data: atheris.FuzzedDataProvider) -> bytes:
    """The valid file with a piece of one record's body replaced, and all digests anew."""
    document: dict[str, Any] = copy.deepcopy(DOCUMENT)
    for _ in range(data.ConsumeIntInRange(1, 3)):
        item = document["objects"][data.ConsumeIntInRange(0, len(document["objects"]) - 1)]
        if "data" not in item:
            item["base64"] = data.ConsumeUnicodeNoSurrogates(12)
            continue
        body = item["data"][86:-1]
        at = data.ConsumeIntInRange(0, len(body))
        end = data.ConsumeIntInRange(at, min(at + 40, len(body)))
        body = body[:at] + data.ConsumeUnicodeNoSurrogates(40) + body[end:]
        digest = hashlib.sha256(body.encode()).hexdigest()
        item["data"] = f'{{"sha256":"{digest}","record":{body}}}'
    seal(document)
    return in_lines(document)


def test_one_input(raw: bytes) -> None:
    by_hand = raw[:1] >= b"\x80"
    forged = edited(atheris.FuzzedDataProvider(raw[1:])) if by_hand else raw[1:]
    FORGED.write_bytes(forged)
    storage = MemoryStorage("fuzz")
    try:
        run = import_run(Store(storage), FORGED, limits=LIMITS, workers=1)
    except ImportRefusedError as error:
        if storage._objects or "\n" in str(error):
            raise AssertionError(
                f"it was refused, and wrote something, or at length: {error}"
            ) from error
        return
    assert all(problem is None for _, problem in verified(run))
    Planner(run.dag).plan(run.history())


def main() -> None:
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    (corpus / "valid").write_bytes(b"\x00" + VALID)
    (corpus / "pretty").write_bytes(b"\x00" + json.dumps(DOCUMENT, indent=1).encode())
    (corpus / "edited").write_bytes(b"\x80" + bytes(range(64)))
    atheris.Setup([sys.argv[0], "-max_len=8192", *sys.argv[1:], str(corpus)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
