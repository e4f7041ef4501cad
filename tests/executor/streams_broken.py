"""Tasks that break the streams of the process they run in; what they did is theirs alone."""

from __future__ import annotations

import io
import sys

from runstore import Dag, sequence, task


class Exits:
    def write(self, text):
        sys.exit(3)

    flush = isatty = fileno = close = lambda self: sys.exit(4)


def sets_none():
    sys.stdout = sys.stderr = None


def closes():
    sys.stdout.close()
    sys.stderr.close()


def deletes():
    del sys.stdout


def replaces():
    sys.stdout = sys.stderr = Exits()


def leaves():
    sys.stdout = sys.stderr = io.StringIO()


def prints(n):
    sys.__stdout__.flush()
    return n


def each(function):
    return sequence(task(function), task(prints, name="after", trigger="all_done", returns="n"))


NAMES = ("sets_none", "closes", "deletes", "replaces", "leaves")
parameters = {"n": 1}
none, closed, deleted, replaced, left = (
    each(function) for function in (sets_none, closes, deletes, replaces, leaves)
)
pipeline = Dag()
