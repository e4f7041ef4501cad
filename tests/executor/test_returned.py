"""What a task hands back and cannot be kept: the message says which, where, and what instead."""

from __future__ import annotations

import collections
import math

import pytest

from runstore import Task, sequence, start, task


def end_of(node):
    result = start(sequence(node), store="memory://returned", environment={})
    return result.run.read_end(node.name, 1)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            '{"q": NaN}',
            "not JSON: NaN, at $.q: NaN and the infinities are not JSON: return null (None) or a "
            "text for it",
        ),
        (
            '{"q": [1, {"deep": -Infinity}]}',
            "not JSON: -Infinity, at $.q[1].deep: NaN and the infinities are not JSON: return null "
            "(None) or a text for it",
        ),
        ('{"q": 1, "q": 2}', 'not JSON: the key \'q\' stands twice in one object'),
        ("q=1", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)  # fmt: skip
def test_a_command_that_wrote_no_json(written, said):
    command = f"printf '%s' '{written}' > \"$RUNSTORE_RETURNS\""
    end = end_of(Task(name="sh", type="shell", config={"command": command}, returns=("q",)))
    assert end.outcome == "failed"
    assert end.error == {
        "type": "TaskFailedError",
        "message": f'sh wrote to "$RUNSTORE_RETURNS" what cannot be used: {said}; '
        f'write one JSON object, {{"q": "..."}}',
    }


def test_a_command_that_wrote_no_object():
    config = {"command": 'echo 3 > "$RUNSTORE_RETURNS"'}
    error = end_of(Task(name="sh", type="shell", config=config, returns=("q", "r"))).error
    assert error["message"] == (
        'sh wrote no JSON object to "$RUNSTORE_RETURNS", and its names with it: '
        'write {"q": "...", "r": "..."}'
    )


class Array:
    def tolist(self):
        return [1]


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1, 2), "return a list for a tuple, or name each"),
        ({"a": [Point(1, 2)]}, "return a list for a tuple"),
        ({1, 2}, "convert it to a list: sorted"),
        (math.nan, "NaN and the infinities are not JSON: return null (None) or a text for it"),
        ([1.5, {"a": math.inf}], "return null (None) or a text"),
        (b"raw", "decode it to a text, or keep it as a file: attempt.save_bytes"),
        (collections.OrderedDict(a=1), "convert it to a dict"),
        ({1: "one"}, "make its keys texts"),
        (Array(), "convert it: .tolist()"),
        (object(), "keep a file: attempt.save"),
    ],
)
def test_a_function_that_returned_no_json(value, said):
    error = end_of(task(lambda: value, name="f", returns="x")).error
    assert error["type"] == "ValueNotJsonError"
    assert error["message"].startswith("'x' returned by f is no JSON value: $")
    assert said in error["message"].rpartition("; ")[2]
    assert "traceback" not in error


@pytest.mark.parametrize("command", ["echo words; exit 3", "kill -9 $$"])
def test_a_failed_command_shows_no_code_of_ours(command):
    error = end_of(Task(name="sh", type="shell", config={"command": command})).error
    assert set(error) == {"type", "message"}
    load = {"command": "true", "load": "nothing.txt"}
    error = end_of(Task(name="sh", type="shell", config=load)).error
    assert set(error) == {"type", "message"}
