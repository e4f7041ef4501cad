"""Functions that are `async def`, and results that are only the promise of one."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections import abc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runstore.pipeline.signatures import inside

if TYPE_CHECKING:
    import asyncio

__all__ = ["is_async", "promised", "result_of"]

_POLL_SECONDS = 0.1


def is_async(function: Any) -> bool:
    """Whether a call makes a coroutine: `async def`, also as a method, bound by `partial`, as the
    `__call__` of an object, or below decorators that say what they wrap."""
    while True:
        function = inside(function)
        if inspect.iscoroutinefunction(function):
            return True
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return False


def result_of(
    function: abc.Callable[..., Any],
    arguments: abc.Mapping[str, Any],
    stopping: abc.Callable[[], bool],
) -> Any:
    """Call a function; of one that is `async def` run the coroutine, in a loop of its own.

    :param stopping: when this turns true, the coroutine is cancelled.
    """
    value = function(**arguments)
    if issubclass(type(value), abc.Coroutine) and is_async(function):
        return _run(value, stopping)
    return value


def _run(coroutine: abc.Coroutine[Any, Any, Any], stopping: abc.Callable[[], bool]) -> Any:
    import asyncio  # 14 ms, and most processes run no coroutine

    async def main() -> Any:
        # Beside it, not around it: what it raises leaves it as it would asyncio.run.
        this = asyncio.current_task()
        assert this is not None
        watcher = asyncio.create_task(_cancel_when(stopping, this))
        try:
            return await coroutine
        finally:
            watcher.cancel()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    # An executor of the caller's own runs this where a loop is at work: in a notebook, say.
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(main()), None))
        except BaseException as error:  # noqa: BLE001 - raised again, where it is waited for
            outcome.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    value, error = outcome.pop()
    if error is not None:
        raise error
    return value


async def _cancel_when(stopping: abc.Callable[[], bool], task: asyncio.Task[Any]) -> None:
    import asyncio

    while not stopping():
        await asyncio.sleep(_POLL_SECONDS)
    task.cancel()


def promised(value: object) -> str:
    """What to return instead of a coroutine, a generator, or whatever else is to be awaited or
    iterated over; empty for any other value. A coroutine is closed: nobody will await it."""
    kind = type(value)  # isinstance would ask the value
    if issubclass(kind, abc.Coroutine):
        with suppress(BaseException):
            value.close()  # type: ignore[attr-defined]
        return (
            "its body did not run: make the task `async def` and await it there, or return "
            "asyncio.run(...) of it"
        )
    if issubclass(kind, abc.Awaitable):
        return "make the task `async def`, and return what `await` gives for it"
    if issubclass(kind, abc.AsyncGenerator):
        return (
            "its body did not run: make the task `async def`, and return `[x async for x in ...]`"
        )
    if issubclass(kind, abc.Generator):
        with suppress(BaseException):
            value.close()  # type: ignore[attr-defined]
        return "it is not run to its end: return list(...) of it"
    if issubclass(kind, abc.Iterator):
        return "it is used up by whoever reads it first: return list(...) of it"
    return ""
