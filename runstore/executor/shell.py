"""Shell commands: what they are given, how they are stopped, what they hand back."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runstore.canonical import exact
from runstore.dag import Task
from runstore.executor.environment import environment_of, spelt
from runstore.executor.failure import TaskFailedError, killed_by, timed_out
from runstore.executor.outputs import from_file
from runstore.executor.scratch import scratch
from runstore.executor.step_log import Log
from runstore.executor.tries import tries_of
from runstore.store import Attempt

__all__ = ["GRACE_SECONDS", "Shell", "patterns", "run_command"]

GRACE_SECONDS = 5.0
"""How long after SIGTERM a command, and whatever it started, is killed."""

_KILL_SECONDS = 1.0
"""How long what was killed is waited for: a file server that is gone may hold it in a call."""


class Shell:
    """The commands that are running, each a process group, so that they can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal may come while this very thread holds it
        self._groups: set[int] = set()
        self._how: signal.Signals | None = None
        self.grace = GRACE_SECONDS
        self.folder: str | None = None
        """Where commands are run; in the folders of their attempts by default."""
        self.exports = True
        """Whether parameters become variables of commands. Names and values are a record's word,
        and a program may be told by variables what to execute (``PERL5OPT``, ``GIT_SSH_COMMAND``):
        so not for a command that the user gave, in a run that others made."""

    @property
    def stopping(self) -> bool:
        return self._how is not None

    def started(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if self._how is not None:
                _signal(group, self._how)

    def ended(self, group: int) -> None:
        """The command itself has. What it left behind is stopped with it, and else goes on."""
        with self._lock:
            if not self.stopping or not _lives(group):
                self._groups.discard(group)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask every command, and what it started, to end; with SIGKILL, end them."""
        with self._lock:
            if self._how is not signal.SIGKILL:
                self._how = how
            for group in self._groups:
                _signal(group, how)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End one command, and what it started: by SIGTERM, and by SIGKILL after the grace."""
        _signal(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.grace
        while _lives(process.pid) and time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        _signal(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)

    def finish(self) -> None:
        """After :meth:`stop`: wait until all have ended, and kill what does not in time."""
        seconds = _KILL_SECONDS if self._how is signal.SIGKILL else self.grace
        if not self._all_end(seconds) and self._how is not signal.SIGKILL:
            self.stop(signal.SIGKILL)
            self._all_end(_KILL_SECONDS)

    def _all_end(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        pause = 0.01
        while True:
            with self._lock:
                self._groups = {group for group in self._groups if _lives(group)}
                if not self._groups:
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.2)


def _lives(group: int) -> bool:
    """Whether a process of this group is alive. A zombie counts as gone: the first process of a
    container may never wait for those it inherits."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it has become somebody else's
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    return not processes or any(_is_alive_in(process, group) for process in processes)


def _is_alive_in(process: str, group: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(its_group) == group and state not in (b"Z", b"X")


def _signal(group: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def run_command(
    attempt: Attempt, task: Task, folder: str, shell: Shell, log: Log
) -> Mapping[str, Any]:
    """Run a task's command in the folder of the attempt, printing to ``log``; what it returned.

    :raises TaskFailedError: if it failed, or gave back no JSON object.
    :raises KeyboardInterrupt: if ``shell`` stopped it.
    """
    config = task.config
    with scratch() as own:
        if load := patterns(config, "load"):
            attempt.load(*load)
        params_file = os.path.join(own, "params.json")
        returns_file = os.path.join(own, "returns.json")
        # Secrets are among them, whatever the umask is.
        fd = os.open(params_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(exact(dict(attempt.params())))
        # A step gets a secret as its `params` say, not for the way in which the run was given it.
        withheld = {f"RUNSTORE_SECRET_{name.upper()}" for name in attempt.access.secrets}
        inherited = {name: value for name, value in os.environ.items() if name not in withheld}
        inherited.update({str(k): spelt(v) for k, v in dict(config.get("env") or {}).items()})
        if shell.exports:
            environment, left_out = environment_of(attempt.params(), inherited)
        else:
            environment, left_out = dict(inherited), _NOT_EXPORTED
        log.write(left_out.encode("utf-8", "replace"))
        environment.update(
            RUNSTORE_PARAMS=params_file,
            RUNSTORE_RETURNS=returns_file,
            RUNSTORE_PIPELINE_DIR=folder,
            RUNSTORE_FOLDER=str(attempt.folder),
            RUNSTORE_RUN_ID=attempt.start.run_id,
            RUNSTORE_PATH=attempt.path,
            RUNSTORE_ATTEMPT=str(attempt.number),
        )
        before = log.size()
        within = shell.folder or attempt.folder
        limit = tries_of(task).timeout
        status = _run(str(config["command"]), within, environment, log, shell, limit)
        if status is None:
            raise timed_out(limit)
        tail = log.tail(attempt.access, 2000, after=before)
        said = tail.decode("utf-8", "replace").strip().splitlines()
        if status and shell.stopping:
            raise KeyboardInterrupt  # it was this executor that ended it
        if status:
            how = f"exit status {status}" if status > 0 else killed_by(-status)
            failed = TaskFailedError(f"{how}: {said[-1]}" if said else how)
            failed.exit_status = status if status > 0 else 128 - status
            raise failed
        if save := patterns(config, "save"):
            attempt.save(*save)
        return from_file(attempt, task, returns_file)


_NOT_EXPORTED = (
    "runstore: others made this run, so its parameters are no variables: read them from the JSON "
    "file $RUNSTORE_PARAMS, or name the --pipeline\n"
)


def patterns(config: Mapping[str, Any], key: str) -> list[str]:
    """What a command is to have loaded, or saved."""
    value = config.get(key)
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(pattern) for pattern in value]


def _run(
    command: str,
    work: str | Path,
    environment: dict[str, str],
    log: Log,
    shell: Shell,
    limit: float | None,
) -> int | None:
    """Its exit status; ``None`` if it was ended after ``limit`` seconds."""
    # -e: a command of several lines stops at the first that fails. Its own session: a signal meets
    # everything it started.
    process = subprocess.Popen(
        ["/bin/sh", "-ec", command],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log.file(),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    shell.started(process.pid)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        shell.end(process)
        return None
    except BaseException:
        if not shell.stopping:
            shell.stop()
        shell.finish()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
        raise
    finally:
        shell.ended(process.pid)
