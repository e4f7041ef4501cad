"""What pytest says in its last lines of the servers it did without."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.servers import LEFT_OUT

__all__ = ["pytest_terminal_summary"]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    yield  # after everything else that is said
    for name, why in sorted(LEFT_OUT.items()):
        terminalreporter.write_line(f"Left out: the tests on {name}: {why}", yellow=True)
