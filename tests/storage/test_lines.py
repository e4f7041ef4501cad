"""The lines of an exported file: which are ours is told without guessing, whatever they hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.archive.format import FORMAT, head, head_line, parse_line, record_line

TEXTS = st.text(st.sampled_from('ab"\\/{}[],:\n\t\x01é\U0001f600 ')) | st.text(max_size=20)
NOISE = st.binary(max_size=12) | st.text(st.sampled_from('ab"\\\n ,}')).map(str.encode)


@given(TEXTS)
def test_what_is_written_is_read_back(text):
    line = record_line("attempts/a.000001.end.json", text.encode())
    found = parse_line(line, 7)
    assert (found.kind, found.name, found.line) == ("record", "attempts/a.000001.end.json", 7)
    assert found.data == text.encode()


@given(NOISE, st.sampled_from([b'"}', b"}", b'"', b'","more":1}', b'","data":"x"}', b""]))
def test_a_line_is_what_a_json_parser_says(inner, end):
    line = b'{"key":"run.json","data":"' + inner + end
    try:
        pairs = json.loads(line, object_pairs_hook=lambda pairs: pairs)
        whole = [name for name, _ in pairs]
        wanted = dict(pairs)["data"].encode() if len(whole) == len(set(whole)) else None
    except (ValueError, AttributeError):
        wanted = None
    if wanted is None:
        with pytest.raises(ValueError):  # noqa: PT011 - any of them
            parse_line(line, 1)
    else:
        assert parse_line(line, 1).data == wanted


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_the_first_line_names_its_run(run_id):
    nonce = "0" * 32
    assert head(head_line(run_id, nonce, "none")) == (run_id, nonce, "none")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b'{"format":"runstore-export/2","run_id":"r","run_nonce":"n","artifacts":"none","objects":[\n',
        b'{"format":"runstore-export/1","run_id":"r","run_nonce":"n","objects":[\n',
        b'{"format":"runstore-export/1","run_id":"r","artifacts":"none","objects":[\n',
        b'{"format":"runstore-export/1","run_id":"r","run_nonce":1,"artifacts":"none","objects":[\n',
        b'{"format":"runstore-export/1","run_id":"r","run_nonce":"n","artifacts":1,"objects":[\n',
        b'{"format":"runstore-export/1","run_id":"r","run_nonce":"n","artifacts":"none","x":1,'
        b'"objects":[\n',
        b'{"format":"runstore-export/1","run_id":"r","run_nonce":"n","artifacts":"none",'
        b'"objects":[]\n',
        b'{"format":"runstore-export/1","run_id":"' + b"r" * 40_000 + b'","run_nonce":"n",'
        b'"artifacts":"none","objects":[\n',
    ],
)
def test_another_first_line_is_none_of_ours(line):
    assert head(line) is None


_PEAK = """
import resource, sys
from runstore.archive.format import parse_line
line = b'{"key":"a","data":"' + b'\\\\n' * (12 << 20) + sys.argv[1].encode()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse_line(line, 1)
except ValueError:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("end", ['"}', "}"])
def test_a_long_line_takes_no_more_than_a_few_times_its_size(end):
    """24 MiB of escapes: a regular expression without possessive quantifiers took 2 GiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, end], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200, done.stderr


def test_the_format_is_the_one_of_the_first_line():
    assert head_line("r", "0" * 32, "none").startswith(b'{"format":"' + FORMAT.encode() + b'"')
