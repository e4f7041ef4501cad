"""What all tests share: hypothesis without deadlines, and an environment that is nobody's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers.plugin"]

# A noisy machine must not fail a property for being slow; examples are the same in every run, so
# that a failure is found again. RUNSTORE_HYPOTHESIS=explore looks for new ones.
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("RUNSTORE_HYPOTHESIS", "same"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own runstore settings have no say here."""
    for name in list(os.environ):
        if name.startswith(("RUNSTORE_", "RUNNABLE_")) and not name.startswith("RUNSTORE_CASES"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _memory_ends() -> Iterator[None]:
    """A store in memory lives as long as its process: a session would keep every one."""
    yield
    if memory := sys.modules.get("runstore.storage.memory"):
        memory._stores.clear()
