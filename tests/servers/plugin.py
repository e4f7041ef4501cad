"""When servers end, how workers reach them, and what the last lines say of those left out."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
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


# No server here speaks TLS, and each client loads for it all authorities that the machine trusts:
# 10 to 60 ms. This certificate is nobody's: its key was never kept.
_NOBODY = str(Path(__file__).with_name("nobody.pem"))
_AUTHORITIES = {
    "AWS_CA_BUNDLE": _NOBODY, "SSL_CERT_FILE": _NOBODY, "SSL_CERT_DIR": os.devnull
}  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(_AUTHORITIES)  # before aiohttp is imported, here and in what is started
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
