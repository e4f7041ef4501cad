"""When servers end, how workers reach them, and what the last lines say of those left out."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests import servers
from tests.servers import LEFT_OUT, shared

__all__ = [
    "pytest_configure",
    "pytest_configure_node",
    "pytest_terminal_summary",
    "pytest_unconfigure",
]

_OFFICE = pytest.StashKey[shared.Office]()


def pytest_configure(config: pytest.Config) -> None:
    shared.address = getattr(config, "workerinput", {}).get("servers", "")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is about to start: tell it where to ask."""
    stash = node.config.stash
    if _OFFICE not in stash:
        stash[_OFFICE] = shared.Office(servers.answer)
    node.workerinput["servers"] = stash[_OFFICE].address


def pytest_unconfigure(config: pytest.Config) -> None:
    if _OFFICE in config.stash:
        config.stash[_OFFICE].close()
    servers.stop()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    yield  # after everything else that is said
    for name, why in sorted(LEFT_OUT.items()):
        terminalreporter.write_line(f"Left out: the tests on {name}: {why}", yellow=True)
