"""Servers of one process for the workers it started: they ask, and it starts and answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from typing import Any

__all__ = ["Office", "address", "ask"]

address: str = ""
"""In a worker: where to ask."""


def ask(name: str) -> Any:
    """What the controlling process answers.

    :raises AssertionError: it could not be answered; with what was said there.
    """
    with Client(address) as line:
        line.send(name)
        answer, problem = line.recv()
    assert not problem, problem
    return answer


class Office:
    """Answers what workers ask, in a thread that lives as long as the servers do.

    Linux ends a server when the thread ends that started it: so does every death of this process.
    """

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self._answer = answer
        self._listener = Listener(family="AF_UNIX")
        self._thread = threading.Thread(target=self._work, name="servers", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return str(self._listener.address)

    def close(self) -> None:
        with Client(self.address) as line:
            line.send("")
        self._thread.join()
        self._listener.close()

    def _work(self) -> None:
        while True:
            # OSError: a worker that died as it asked.
            with self._listener.accept() as line, contextlib.suppress(EOFError, OSError):
                name = line.recv()
                if not name:
                    return
                line.send(self._try(name))

    def _try(self, name: str) -> tuple[Any, str]:
        try:
            return self._answer(name), ""
        except Exception as error:  # noqa: BLE001 - raised again by the worker
            return None, str(error) or repr(error)
