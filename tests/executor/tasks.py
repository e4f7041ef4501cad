"""Tasks for the tests of the executor: importable, as worker processes need them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runstore import Attempt


def one():
    return 1


def add(x):
    return x + 1


def pair():
    return "left", "right"


def named():
    return {"b": 2, "a": 1}


def tripled():
    return 1, 2, 3


def unkept():
    return "nobody asked"


def describes(attempt: Attempt, x):
    return [attempt.path, attempt.number, attempt.run.run_id, x]


def quoted(attempt: "Attempt"):  # noqa: UP037 - people write it
    return attempt.number


def leaves():
    sys.exit("bye")


def interrupts():
    raise KeyboardInterrupt


def dies(x):
    os._exit(3)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def fails_while(flag):
    if Path(flag).exists():
        raise RuntimeError("the flag is up")
    return "up and running"


def talks(item):
    for n in range(20):
        print(f"{item}: line {n}")
        time.sleep(0.001)
    print(f"{item}: error", file=sys.stderr)
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{item}: bytes\n".encode())
    return item


def shouts():
    print("direct", flush=True)
    subprocess.run(["true"], check=True)
    return 1


def sleeps(seconds, marker):
    Path(marker).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def counts(folder: Any, x):
    """One file for each time it ran."""
    Path(folder, f"{time.monotonic_ns()}-{os.getpid()}").touch()
    time.sleep(0.05)
    return x


def length(key):
    return len(key)


def naps(item, folder):
    """Waits for the others to be at it, so that a worker dies while they are."""
    Path(folder, f"{item}-{time.monotonic_ns()}").touch()
    deadline = time.monotonic() + 20
    while not list(Path(folder).glob("doomed-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    return item


def doomed(folder):
    """Dies when the others are at it; they do not return before."""
    deadline = time.monotonic() + 20
    while len(list(Path(folder).glob("[ab]-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    Path(folder, f"doomed-{time.monotonic_ns()}").touch()
    os._exit(3)


def looks(attempt: Attempt):
    """What a task can ask of its run."""
    run = attempt.run
    steps = {step.path: step.action.value for step in run.plan().steps}
    return [[node.name for node in run.dag.nodes], run.record.parameters["x"], steps]


def opened(attempt: Attempt):
    return type(attempt.run.storage).__name__, getattr(attempt.run.storage, "option", None)


def tells(token):
    print(f"the token is {token}", flush=True)
    print("x" * (1 << 20) + token + "y" * 100)
    raise RuntimeError(f"cannot log in with {token}")


RELEASED = threading.Event()
"""Lets those that wait for long, in threads of this process, go."""


def wait_for_long():
    RELEASED.wait(60)


def len_of_nothing():
    return None
