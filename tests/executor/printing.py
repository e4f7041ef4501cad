"""Tasks that print, in every way there is; importable, as worker processes need them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

THEN = sys.stderr
"""As a handler of logging has it that was made when this was imported."""


def dies(token):
    print(f"before death: {token}", flush=True)
    os._exit(9)


def dies_unflushed():
    sys.stdout.write("held by nobody")
    os._exit(9)


def dies_when_others_are_at_it(item, folder):
    """`doomed` ends its process while the other one is at work there."""
    print(f"{item} began")
    Path(folder, item).touch()
    deadline = time.monotonic() + 20
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    if item == "doomed":
        os._exit(3)
    time.sleep(0.3)
    return item


def waits(marker, token):
    """Prints, says that it did, and is at it until it is ended."""
    print(f"so far, with {token}")
    Path(marker).write_text(str(os.getpid()))
    time.sleep(60)


def everywhere():
    print("from the task")
    os.write(1, b"from the descriptor\n")
    subprocess.run(["/bin/sh", "-c", "echo from a child; echo its error >&2"], check=True)
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
    print("from an old stream", file=THEN)
    print("the end")


def in_its_context():
    asyncio.run(asyncio.to_thread(print, "from asyncio"))
    work = (print, "from a thread")
    thread = threading.Thread(target=contextvars.copy_context().run, args=work)
    thread.start()
    thread.join()


def handed():
    print("before")
    subprocess.run(["echo", "handed"], stdout=sys.stdout, check=True)
    print("after")


def logs():
    logging.getLogger("tests.executor.printing").error("from the log")
