"""Tasks for the tests of the executor: importable, as worker processes need them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
