"""A command in the process of the test, which goes on after it."""

from __future__ import annotations

from unittest import mock

from runstore.cli import program

__all__ = ["call"]


def call(*words: str) -> int:
    """Run a command; its exit code. What a command does last, when its process ends, is left out:
    no signal is to be heard then."""
    with mock.patch("runstore.cli.exit_codes._end_quietly"):
        try:
            program.main(list(words))
        except SystemExit as left:
            return int(left.code or 0)
    raise AssertionError("the command came back")
