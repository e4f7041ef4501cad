"""The values of secrets stay out of the store, as far as they can be seen."""

from __future__ import annotations

import pytest

from runstore import Dag, Task
from runstore.errors import InputError
from runstore.storage.memory import MemoryStorage
from runstore.store import Store

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
    with pytest.raises(ValueError, match="hunter2"), run.attempt("a") as attempt:
        raise ValueError(f"bad {attempt.params['key']} or {[KEY]!r}, pin 987654, open sesame")
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
        store.run("r", secrets={"key": short})
    with pytest.raises(InputError, match="the secret 'key' is shorter"):
        store.fork_run(store.run("r"), secrets={"key": short})
    assert list(store.runs()) == ["r"]


@pytest.mark.parametrize("value", [KEY, ["a", {"deep": KEY}], "open sesame"])
def test_an_output_that_is_a_secret_is_refused(run, value):
    attempt = run.begin("a")
    with pytest.raises(InputError, match=r"output 'x' of a is the secret '(key|login)'"):
        attempt.succeed({"x": value})
    attempt.succeed({"x": f"derived from {len(KEY)}"})
    assert b"hunter2" not in written(run)


def test_a_metric_that_is_a_secret_is_refused(run):
    attempt = run.begin("a")
    with pytest.raises(InputError, match="metric 'm'"):
        attempt.succeed({"x": 1}, metrics={"m": KEY})
    assert attempt.fail("broken", metrics={"m": KEY, "n": 1}).metrics == {"n": 1}


def test_without_secrets_nothing_is_changed():
    run = Store(MemoryStorage("none")).create_run(DAG, {"key": KEY}, run_id="r")
    assert run.mask(KEY) == KEY
    assert run.begin("a").succeed({"x": KEY}).outputs == {"x": KEY}
