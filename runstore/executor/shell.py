"""Shell commands: what they are given, how they are stopped, what they hand back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from runstore.canonical import dumps, loads
from runstore.dag import Task
from runstore.executor.failure import TaskFailedError
from runstore.store import Attempt

__all__ = ["GRACE_SECONDS", "Shell", "run_command"]

GRACE_SECONDS = 5.0
"""How long after SIGTERM a command is killed."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE_BYTES = 100_000  # Linux takes 128 KiB for one, name and all
_VARIABLES_BYTES = 512_000  # and for all, with the arguments, a quarter of the stack limit: 2 MiB


class Shell:
    """The commands that are running, so that they can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal may come while this very thread holds it
        self._groups: set[int] = set()
        self._how: signal.Signals | None = None
        self.grace = GRACE_SECONDS

    @property
    def stopping(self) -> bool:
        return self._how is not None

    def started(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if self._how is not None:
                _signal(group, self._how)

    def ended(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask every command, and what it started, to end; with SIGKILL, end them."""
        with self._lock:
            if self._how is not signal.SIGKILL:
                self._how = how
            for group in self._groups:
                _signal(group, how)
            if self._groups and how is signal.SIGTERM:
                # One that does not listen must not keep this process from ending.
                insist = threading.Timer(self.grace, self.stop, [signal.SIGKILL])
                insist.daemon = True
                insist.start()


def _signal(group: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def run_command(
    attempt: Attempt, task: Task, folder: str, shell: Shell, log: IO[bytes]
) -> Mapping[str, Any]:
    """Run a task's command in a folder of its own; what it returned.

    :raises TaskFailedError: if it failed, or gave back no JSON object.
    :raises KeyboardInterrupt: if ``shell`` stopped it.
    """
    config = task.config
    with tempfile.TemporaryDirectory(prefix="runstore-") as scratch:  # 0700, as mkdtemp(3) says
        work = os.path.join(scratch, "work")
        os.mkdir(work)
        for pattern in _patterns(config, "load"):
            attempt.load(pattern, to=work)
        params_file = os.path.join(scratch, "params.json")
        returns_file = os.path.join(scratch, "returns.json")
        # Secrets are among them, whatever the umask is.
        fd = os.open(params_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(dict(attempt.params), file, ensure_ascii=False)
        environment = dict(os.environ)
        environment.update({str(k): str(v) for k, v in dict(config.get("env") or {}).items()})
        environment.update(_variables(attempt.params))
        environment.update(
            RUNSTORE_PARAMS=params_file,
            RUNSTORE_RETURNS=returns_file,
            RUNSTORE_PIPELINE_DIR=folder,
            RUNSTORE_RUN_ID=attempt.run.run_id,
            RUNSTORE_PATH=attempt.path,
            RUNSTORE_ATTEMPT=str(attempt.number),
        )
        with open(os.path.join(scratch, "log"), "w+b") as output:
            status = _run(str(config["command"]), work, environment, output, shell)
            output.seek(0)
            while chunk := output.read(1 << 20):
                log.write(chunk)
            output.seek(max(0, output.tell() - 2000))
            tail = output.read().decode("utf-8", "replace").strip().splitlines()[-5:]
        if status and shell.stopping:
            raise KeyboardInterrupt  # it was this executor that ended it
        if status:
            how = f"exit status {status}"
            if status < 0:
                how = f"killed by {signal.Signals(-status).name}"
            raise TaskFailedError(f"{how}: {tail[-1]}" if tail else how)
        for pattern in _patterns(config, "save"):
            attempt.save(pattern, base=work)
        return _returned(attempt, task, returns_file)


def _variables(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as environment variables: those that can be, as far as there is room."""
    found: dict[str, str] = {}
    room = _VARIABLES_BYTES
    for name, value in params.items():
        text = value if isinstance(value, str) else dumps(value).decode()
        if not _VARIABLE.fullmatch(name) or "\0" in text:
            continue
        try:
            size = len(name) + len(os.fsencode(text)) + 2  # "=", and the NUL at its end
        except UnicodeEncodeError:  # a locale that is not UTF-8
            continue
        if size <= min(_VARIABLE_BYTES, room):
            found[name] = text
            room -= size
    return found


def _patterns(config: Mapping[str, Any], key: str) -> list[str]:
    value = config.get(key) or []
    return [value] if isinstance(value, str) else [str(pattern) for pattern in value]


def _run(
    command: str, work: str, environment: dict[str, str], output: IO[bytes], shell: Shell
) -> int:
    # -e: a command of several lines stops at the first that fails. Its own session: a signal meets
    # everything it started.
    process = subprocess.Popen(
        ["/bin/sh", "-ec", command],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    shell.started(process.pid)
    try:
        return process.wait()
    except BaseException:
        _signal(process.pid, signal.SIGTERM)
        process.wait()
        raise
    finally:
        shell.ended(process.pid)


def _returned(attempt: Attempt, task: Task, path: str) -> Mapping[str, Any]:
    if not os.path.exists(path):
        if task.returns:
            raise TaskFailedError(
                f"{attempt.path} is to return {', '.join(task.returns)}, and wrote no JSON object "
                f'to "$RUNSTORE_RETURNS"'
            )
        return {}
    with open(path, "rb") as file:
        document = loads(file.read())
    if not isinstance(document, dict):
        raise TaskFailedError(f'{attempt.path} wrote no JSON object to "$RUNSTORE_RETURNS"')
    return document
