"""Tasks that are `async def`, or nearly."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from pathlib import Path

from runstore import Attempt, Dag, task

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("COLOUR", default="none")


async def plain(x):
    print("from a coroutine")
    await asyncio.sleep(0)
    print("and after it was awaited")
    return x + 1


async def gathers(attempt: Attempt):
    async def one(n):
        COLOUR.set(f"{n}")
        await asyncio.sleep(0.01)
        return COLOUR.get()

    return [await asyncio.gather(one(1), one(2)), attempt.path, COLOUR.get()]


class Called:
    __name__ = "called"

    async def __call__(self, x):
        await asyncio.sleep(0)
        return x + 2

    async def method(self, x):
        await asyncio.sleep(0)
        return x + 3


def decorated(function):
    @functools.wraps(function)
    def inner(*arguments, **named):
        return function(*arguments, **named)

    return inner


@decorated
async def wrapped(x):
    return x + 4


async def bound(x, y):
    await asyncio.to_thread(time.sleep, 0)
    return x + y


async def raises():
    await asyncio.sleep(0)
    raise RuntimeError("raised in a coroutine")


async def leaves():
    raise SystemExit(3)


NODES = [
    task(plain, returns="a"),
    task(gathers, returns="b"),
    task(Called(), name="called", returns="c"),
    task(Called().method, name="method", returns="d"),
    task(wrapped, returns="e"),
    task(functools.partial(bound, y=5), name="bound", returns="f"),
    task(raises, returns="g"),
    task(leaves, returns="h"),
]


async def hangs(folder):
    try:
        Path(folder, "began").touch()
        await asyncio.sleep(120)
    finally:
        await asyncio.sleep(0)
        Path(folder, "cleaned").touch()


pipeline = Dag([task(hangs)])
