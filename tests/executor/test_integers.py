"""An integer of up to 4,300 digits is kept exactly; a longer one is refused with its place,
wherever it comes from, and whatever limit the process has set for itself."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

import runstore
from runstore import Dag, Map, Task, canonical, sequence, start, task
from runstore.errors import BlobDamagedError, ValueNotJsonError
from tests.verified import verified

ROOT = Path(__file__).parents[2]
LONGEST = 10**4_300 - 1
LONG = 10**4_300
DIGITS = "9" * 4_300

COMMAND = 'cp "$RUNSTORE_PARAMS" "$RUNSTORE_RETURNS"'
PIPELINE = f"""
steps:
  - name: a
    params: n
    command: {COMMAND}
    returns: n
"""


def ends(root):
    found = {}
    for file in root.glob("runs/r/**/attempts/*.end.json"):
        record = json.loads(file.read_bytes())["record"]
        found[record["path"]] = record
    return found


def run(folder, *arguments, digits="640"):
    """The command line, in a process that allows no more than 640 digits."""
    return subprocess.run(
        [sys.executable, "-X", f"int_max_str_digits={digits}", "-m", "runstore.cli", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "RUNSTORE_CACHE": "0"},
    )  # fmt: skip


@pytest.fixture(params=[640, 4_300, 0, 100_000])
def _limit(request):
    old = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(request.param)
    yield
    sys.set_int_max_str_digits(old)


def same(x):
    return x


@pytest.mark.usefixtures("_limit")
def test_the_longest_is_kept_and_one_more_is_not(tmp_path):
    for value in (LONGEST, -LONGEST, {"a": [1.0, LONGEST]}):
        text = canonical.dumps(value)
        assert canonical.loads(text) == value
        assert canonical.loads(canonical.exact(value)) == value
    assert canonical.dumps(LONGEST) == DIGITS.encode()
    for value in (LONG, -LONG):
        with pytest.raises(ValueNotJsonError, match=r"^\$\.a\[1\]: an integer of more than 4,300"):
            canonical.dumps({"a": [0, value]})
        with pytest.raises(ValueNotJsonError, match=r"^\$\.a: an integer of more than 4,300"):
            canonical.loads(b'{"a":%s1%s}' % (b"-" if value < 0 else b"", b"0" * 4_300))
    items = [LONGEST, 2**53, 1]
    body = sequence(task(same, returns="back"))
    steps = sequence(Map(name="m", over="items", as_="x", body=body))
    result = start(steps, {"items": items}, store=tmp_path, run_id="r", environment={})
    assert result.status == "succeeded"
    assert result.values()["back"] == items
    assert runstore.open_store(tmp_path).get_run("r").values()["back"] == items


def long_one():
    return {"deep": [0, -LONG]}


def test_where_it_is_refused(tmp_path):
    with pytest.raises(ValueNotJsonError, match=r"parameter 'p'.*\$\.p\[0\]: an integer of more"):
        start(Dag([task(lambda: 1, name="a")]), {"p": [LONG]}, store=tmp_path, environment={})
    assert list(tmp_path.iterdir()) == []
    command = 'printf \'{"n":[1,1%04300d]}\' 0 > "$RUNSTORE_RETURNS"'
    shell = Task(name="sh", type="shell", config={"command": command}, returns=("n",))
    nodes = [task(long_one, returns="x"), shell, task(lambda: 1, name="other", returns="o")]
    result = start(Dag(nodes), store=tmp_path, run_id="r", environment={})
    assert (result.status, result.values()) == ("failed", {"o": 1})
    found = ends(tmp_path)
    assert {path: end["outcome"] for path, end in found.items()} == {
        "long_one": "failed", "sh": "failed", "other": "succeeded",
    }  # fmt: skip
    assert "$.deep[1]: an integer of more than 4,300" in found["long_one"]["error"]["message"]
    assert "$.n[1]: an integer of more than 4,300" in found["sh"]["error"]["message"]


@pytest.mark.parametrize("how", ["param", "json", "yaml"])
def test_on_the_command_line(tmp_path, how):
    (tmp_path / "p.yaml").write_text(PIPELINE)
    for digits, code in ((DIGITS, 0), (DIGITS + "9", 2)):
        given = ["-p", f"n={digits}"]
        if how != "param":
            text = f'{{"n": {digits}}}' if how == "json" else f"n: {digits}"
            (tmp_path / f"f.{how}").write_text(text)
            given = ["--params-file", f"f.{how}"]
        done = run(tmp_path, "run", "p.yaml", "--run-id", "r", *given)
        assert done.returncode == code, done.stderr[-500:]
        if code:
            assert "integer of" in done.stderr
            assert "4,300 digits" in done.stderr
            # `--param n` and a line of YAML are a place already.
            assert {"param": "'n'", "json": "$.n: ", "yaml": "line 1"}[how] in done.stderr
        else:
            kept = runstore.open_store(tmp_path / ".runstore").get_run("r")
            assert kept.parameters() == kept.values() == {"n": LONGEST}
            for words in (["show", "r"], ["show", "r", "--format", "json"], ["plan", "r"]):
                assert run(tmp_path, *words).returncode == 0
            again = run(tmp_path, "retry", "r", "p.yaml", "--force", "a")
            assert again.returncode == 0, again.stderr[-500:]
            (tmp_path / ".runstore").rename(tmp_path / "kept")


def test_a_record_that_holds_one_is_no_reason_to_fail(tmp_path):
    """Somebody else wrote it: the blob, or the record, is named as damaged."""
    steps = sequence(task(lambda: [0] * 20_000, name="a", returns="x"), task(same, name="b"))
    start(steps, store=tmp_path, run_id="r", environment={})
    run = runstore.open_store(tmp_path).get_run("r")
    blob = run.read_end("a", 1).outputs["x"]
    foreign = b"[1%s]" % (b"0" * 5_000)
    other = type(blob)(sha256(foreign).hexdigest(), len(foreign), blob.value)
    run.storage.create(run.blobs.key(other.sha256), foreign)
    with pytest.raises(BlobDamagedError, match="holds no value that can be read"):
        run.blobs.load(other)
    (file,) = tmp_path.glob("runs/r/**/attempts/b.*.end.json")
    body = file.read_bytes()[86:-1]
    body = body.replace(b'"outcome"', b'"metrics":{"m":1%s},"outcome"' % (b"0" * 5_000), 1)
    file.write_bytes(b'{"sha256":"%s","record":%s}' % (sha256(body).hexdigest().encode(), body))
    for pack in tmp_path.glob("runs/r/**/packs/*"):
        pack.unlink()
    history = runstore.open_store(tmp_path).get_run("r").history()
    assert type(history.latest("b")).__name__ == "Damaged"
    assert any(problem for _, problem in verified(run))
