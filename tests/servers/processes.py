"""Server processes of the tests: on loopback, on free ports, gone when the tests are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["NotStarted", "Processes", "free_port"]

SECONDS = 60
PR_SET_PDEATHSIG = 1


class NotStarted(Exception):
    """``str()``: what is missing, and how to get it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    # Also when pytest is killed, and cannot stop anybody. Linux only; elsewhere stop() does it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Processes:
    """A folder of their own, and the processes in it, stopped by pid."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"runstore-{name}-"))
        self.owner = os.getpid()
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        with open(self.folder / f"{len(self.running)}.out", "wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call of libc, no lock taken
            )
        self.running.append(process)

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            timeout=SECONDS,
            env={**os.environ, **(environment or {})},
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr.decode()[-2000:]}")

    def wait_for(self, port: int) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            self.check()
            time.sleep(0.05)
        raise AssertionError(f"no answer on port {port}: {self.said()}")

    def check(self) -> None:
        for process in self.running:
            if process.poll() is not None:
                raise AssertionError(f"{process.args!r} ended: {self.said()}")

    def said(self) -> str:
        return "\n".join(file.read_text()[-1500:] for file in sorted(self.folder.glob("*.out")))

    def stop(self) -> None:
        if self.owner != os.getpid():  # a forked child's exit must not end them
            return
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def need(names: Sequence[str], how: str) -> None:
    """:raises NotStarted: if a program is missing."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise NotStarted(f"{', '.join(missing)} not found; {how}")
