"""The values of secrets stay out of the store, as far as they can be seen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runstore import Dag, Task
from runstore.errors import InputError
from runstore.storage.memory import MemoryStorage
from runstore.store import Store
from runstore.store.secrets import mask, mask_pieces, mask_rest

DAG = Dag([Task(name="a", params=("key",), returns=("x",))])
KEY = 'hunter2"\n/tail'


@pytest.fixture
def run(request):
    secrets = {"key": KEY, "pin": 987654, "login": {"user": "eve", "password": "open sesame"}}
    store = Store(MemoryStorage(request.node.name))
    run = store.create_run(DAG, run_id="r", secrets={**secrets, "flag": True})
    run.begin_invocation("start", command=["run", f"--key={KEY}"])
    return run


def written(run) -> bytes:
    return b"".join(run.storage.read(key) for key in run.storage.list(""))


def test_errors_and_reasons_are_masked(run):
    with pytest.raises(ValueError, match="hunter2"), run.begin("a") as attempt:
        raise ValueError(f"bad {attempt.params()['key']} or {[KEY]!r}, pin 987654, open sesame")
    end = run.read_end("a", 1)
    assert end.error["message"].startswith("bad *** or ['***'], pin ***, ***")
    assert "***" in end.error["traceback"]
    run.begin_invocation("retry", command=[f"--key={KEY}"])
    run.begin("a").fail(f"no {KEY}")
    run.begin_invocation("retry")
    run.begin("a").cancel(f"no {KEY}")
    run.begin_invocation("retry")
    run.begin("a").fail("x" * 20 + KEY + "y" * (16_384 - 3))  # it would be cut in its middle
    everything = written(run)
    for hidden in (b"hunter2", b"/tail", b"987654", b"sesame"):
        assert hidden not in everything
    assert run.mask("eve true is no secret") == "eve true is no secret"


@pytest.mark.parametrize("short", ["", "abc", 12, 1.5, -12])
def test_a_secret_that_is_too_short_to_be_found_is_refused(short):
    store = Store(MemoryStorage("short"))
    with pytest.raises(InputError, match="the secret 'key' is shorter than 4 characters"):
        store.create_run(DAG, run_id="r", secrets={"key": short})
    assert list(store.storage.list("")) == []
    store.create_run(DAG, run_id="r", secrets={"key": "long enough"})
    with pytest.raises(InputError, match="the secret 'key' is shorter"):
        store.get_run("r", secrets={"key": short})
    with pytest.raises(InputError, match="the secret 'key' is shorter"):
        store.fork_run(store.get_run("r"), secrets={"key": short})
    assert list(store.run_ids()) == ["r"]


@pytest.mark.parametrize("value", [KEY, ["a", {"deep": KEY}], "open sesame"])
def test_an_output_that_is_a_secret_is_refused(run, value):
    attempt = run.begin("a")
    with pytest.raises(InputError, match=r"output 'x' of a is the secret '(key|login)'"):
        attempt.succeed({"x": value})
    attempt.succeed({"x": f"derived from {len(KEY)}"})
    assert b"hunter2" not in written(run)


@pytest.mark.parametrize(
    "value",
    [
        987654, 987654.0, "987654", [[987654]], {"open sesame": 1}, {"a": {"open sesame": 1}},
        "open sesame!", f"Bearer {KEY}", {f"x{KEY}": 1}, ["list", [f"{KEY!r}"]],
        '{"password": "open sesame"}',
    ],
)  # fmt: skip
def test_an_output_that_has_a_secret_in_it_is_refused(run, value):
    with pytest.raises(InputError, match=r"output 'x' of a is the secret '(key|pin|login)'"):
        run.begin("a").succeed({"x": value})


@pytest.mark.parametrize("value", ["no. 987654", 1987654, True, "user", "eve", {"password": 1}])
def test_what_is_too_short_to_be_a_part_or_is_no_secret_is_taken(run, value):
    """Six digits are refused as a whole only."""
    assert run.begin("a").succeed({"x": value}).outputs == {"x": value}


def test_a_secret_in_digits_is_refused_as_a_number():
    run = Store(MemoryStorage("digits")).create_run(DAG, run_id="r", secrets={"key": "5432"})
    with pytest.raises(InputError, match="is the secret 'key'"):
        run.begin("a").succeed({"x": [5432]})


def test_a_value_that_holds_itself_is_looked_at_once(run):
    value = []
    value.append(value)
    with pytest.raises(InputError, match="holds itself"):
        run.begin("a").succeed({"x": value})


def test_a_metric_that_is_a_secret_is_refused(run):
    attempt = run.begin("a")
    with pytest.raises(InputError, match="metric 'm'"):
        attempt.succeed({"x": 1}, metrics={"m": KEY})
    with pytest.raises(InputError, match="metric 'm'"):
        attempt.succeed({"x": 1}, metrics={"m": 987654})
    ended = attempt.fail("broken", metrics={"m": KEY, "p": 987654, "n": 1})
    assert ended.metrics == {"n": 1}


def test_without_secrets_nothing_is_changed():
    run = Store(MemoryStorage("none")).create_run(DAG, {"key": KEY}, run_id="r")
    assert run.mask(KEY) == KEY
    assert run.begin("a").succeed({"x": KEY}).outputs == {"x": KEY}


# -- in pieces -----------------------------------------------------------------------------------

HIDDEN = st.lists(st.text("ab*", min_size=1, max_size=5), min_size=1, max_size=4)


def shows(text: str, hidden: list[str]) -> list[bool]:
    """The oracle: which characters no hidden text covers."""
    shown = [True] * len(text)
    for each in hidden:
        for begin in range(len(text)):
            if text.startswith(each, begin):
                shown[begin : begin + len(each)] = [False] * len(each)
    return shown


@given(
    hidden=HIDDEN, text=st.text("abc*", max_size=40), cuts=st.lists(st.integers(0, 40), max_size=6)
)
@example(hidden=["hunter2", "hunter2-production-key"], text="_hunter2-production-key_", cuts=[10])
@example(hidden=["hunter2", "hunter2-production-key"], text="hunter2-production-key", cuts=[7])
@example(hidden=["abcd", "cdefgh"], text="abcdefgh", cuts=[4])
def test_wherever_it_is_cut_it_is_masked_the_same(hidden, text, cuts):
    ends = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(ends)]
    whole = mask_rest(text, hidden, "#", 0)
    assert "".join(mask_pieces(pieces, hidden, "#")) == whole
    raw = [piece.encode() for piece in pieces]
    assert b"".join(mask_pieces(raw, [h.encode() for h in hidden], b"#")).decode() == whole
    shown = shows(text, hidden)
    kept = "".join(c for c, show in zip(text, shown, strict=True) if show)
    assert whole.replace("#", "") == kept
    for begin in range(len(text) + 1):
        rest = "".join(
            c for c, show in zip(text[begin:], shown[begin:], strict=True) if show
        )  # fmt: skip
        assert mask_rest(text, hidden, "#", begin).replace("#", "") == rest


def test_one_secret_that_begins_another_leaves_nothing_of_it():
    secrets = {"a": "hunter2", "b": "hunter2-production-key", "c": "keyhole"}
    assert mask("_hunter2-production-key_hunter2_", secrets) == "_***_***_"
    assert mask("_hunter2-production-keyhole_", secrets) == "_***_", "and those that overlap"
