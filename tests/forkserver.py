"""Processes for tests, forked from a small one that has imported what they need.

An interpreter takes 400 ms to start and to import runstore, and a fork of pytest copies hundreds
of megabytes. A fork of a process that did nothing but import takes 5 ms, and is a process like any
other: descriptors, signals, exit code and death are its own. What an interpreter reads when it
starts (``PYTHONUTF8``, ``LC_ALL``) is as the server was started.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Child", "ForkServer", "fork_server"]

SECONDS = 60
STREAMS = 3
"""stdin, stdout and stderr come before the other descriptors of a child."""


class Child:
    """A process of a fork server. ``fork_server(...).spawn`` makes it."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "rb")
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, unless it is known that the process has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended, and nobody looked yet
                os.kill(self.pid, how)

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit code; of a process that a signal killed, the number of the signal, negative.

        :raises TimeoutError: it lives on, and is killed.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], seconds)[0]:
                self.kill()
                raise TimeoutError(f"process {self.pid} did not end in {seconds} s")
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode


class ForkServer:
    """A process that has imported ``modules``, and forks when it is told to."""

    def __init__(self, *modules: str) -> None:
        ours, theirs = socket.socketpair()
        self._ours = ours
        self._lock = threading.Lock()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RUNSTORE_")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno()), *modules],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[1],
            env=environment | {"PYTHONUTF8": "1", "PYTHONWARNINGS": "error"},
        )
        theirs.close()

    def spawn(
        self,
        function: str,
        *arguments: Any,
        pass_fds: Sequence[int] = (),
        streams: Sequence[int | None] = (None, None, None),
        folder: str = ".",
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Call ``module:function`` in a new process. It gets the arguments, which must be JSON,
        and then its own numbers of the descriptors ``pass_fds``. What it raises goes to stderr,
        and ends it with 1. Of ``streams``, ``None`` is ``/dev/null`` for stdin, and ours for the
        others."""
        request = {
            "function": function,
            "arguments": arguments,
            "folder": os.path.abspath(folder),
            "environment": dict(os.environ if environment is None else environment),
        }
        body = json.dumps(request).encode()
        status, theirs = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        given = [null if stream is None else stream for stream in streams[:1]]
        given += [at if s is None else s for at, s in enumerate(streams[1:], 1)]
        try:
            header = len(body).to_bytes(8, "big")
            with self._lock:  # of threads that ask at once
                socket.send_fds(self._ours, [header], [theirs, *given, *pass_fds])
                self._ours.sendall(body)
        finally:
            os.close(theirs)
            os.close(null)
        return Child(status)

    def stop(self) -> None:
        """End it, and whatever it forked that still runs."""
        self._ours.close()
        self._process.wait(SECONDS)


@functools.cache
def fork_server(*modules: str) -> ForkServer:
    """The one of this process with these modules in it. It ends with it."""
    server = ForkServer(*modules)
    atexit.register(server.stop)
    return server


def _serve(requests: socket.socket) -> Callable[[], None]:
    """Fork for each request. Returns in the children alone: what they are to do."""
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready = select.select([requests, woken], [], [])[0]
        if woken in ready:
            woken.recv(4096)
            _tell_of_the_dead(running)
        if requests not in ready:
            continue
        header, fds, _, _ = socket.recv_fds(requests, 8, 64)
        if not header:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        body = b""
        while len(body) < int.from_bytes(header, "big"):
            body += requests.recv(int.from_bytes(header, "big") - len(body))
        status, *fds = fds
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (requests, woken, waker):
                end.close()
            for fd in (status, *running.values()):
                os.close(fd)
            return functools.partial(_work, json.loads(body), fds)
        _write(status, pid)
        running[pid] = status
        for fd in fds:
            os.close(fd)


def _tell_of_the_dead(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        fd = running.pop(pid)
        _write(fd, os.waitstatus_to_exitcode(status))
        os.close(fd)


def _write(fd: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know
        os.write(fd, b"%d\n" % number)


def _work(request: Mapping[str, Any], fds: Sequence[int]) -> None:
    """In the child: become the process that was asked for."""
    for stream, fd in enumerate(fds[:STREAMS]):
        os.dup2(fd, stream)
        os.close(fd)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, _, function = request["function"].partition(":")
    getattr(importlib.import_module(module), function)(*request["arguments"], *fds[STREAMS:])


def main(number: str, *modules: str) -> None:
    """The server. Children come back from ``_serve``, do their work, and end as programs do."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, all that was imported
    _serve(socket.socket(fileno=int(number)))()


if __name__ == "__main__":
    main(*sys.argv[1:])
