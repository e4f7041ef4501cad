"""What all tests share: what they draw at random, and an environment that is nobody's."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from tests import exploration

pytest_plugins = ["tests.servers.plugin"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis draw from the seed of this run, unless the command line says another."""
    _heed_signals()
    config.addinivalue_line("markers", "explored: draws at random without hypothesis")
    config.addinivalue_line("markers", "at_root: of a bucket, where a store is remote")
    if exploration.PROFILE != "default" and config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(exploration.SEED)


def pytest_collection_finish() -> None:
    """Modules stay: no collection, here or in what is forked, need look at them again."""
    gc.collect()
    gc.freeze()


def _heed_signals() -> None:
    """A shell starts background jobs with SIGINT ignored, nohup with SIGHUP, and every process that
    a test starts, and then interrupts, would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_report_header() -> str:
    return f"profile {exploration.PROFILE}, seed {exploration.SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Also where the header is left out, and with what draws the same again."""
    bad = [r.nodeid for key in ("failed", "error") for r in terminalreporter.stats.get(key, ())]
    terminalreporter.write_line(pytest_report_header())
    if bad:
        terminalreporter.write_line(f"the same draws again: {exploration.again(*bad[:5])}")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own runstore settings have no say here."""
    for name in list(os.environ):
        if name.startswith(("RUNSTORE_", "RUNNABLE_")) and not name.startswith("RUNSTORE_CASES"):
            monkeypatch.delenv(name)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    """What a test leaves behind here, the children of later ones inherit."""
    before = [signal.getsignal(number) for number in _SIGNALS]
    yield
    after = [signal.getsignal(number) for number in _SIGNALS]
    for number, handler in zip(_SIGNALS, before, strict=True):
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    assert after == before, "the test leaves other signal handlers than it found"


@pytest.fixture(autouse=True)
def _memory_ends() -> Iterator[None]:
    """A store in memory lives as long as its process: a session would keep every one."""
    yield
    if memory := sys.modules.get("runstore.storage.memory"):
        memory._stores.clear()
