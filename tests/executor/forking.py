"""Tasks that fork, in every way there is; importable, as worker processes need them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time


def _until(process: int) -> int:
    """The exit code of a child, which must come soon; a child that hangs is killed."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return 999


def _leaves_by(how: str) -> str:
    if how == "return":
        return "of the child"
    if how == "raise":
        raise ValueError("in the child")
    if how == "exit":
        sys.exit(7)
    if how == "exit with a text":
        sys.exit("a text")
    raise KeyboardInterrupt


def forks(how):
    """Comes back twice from `os.fork`: the child leaves the task, the parent says how it ended."""
    child = os.fork()
    if child == 0:
        print("printed by the child")
        return _leaves_by(how)
    return _until(child)


def terminates():
    """A helper process that is started and stopped: a loader, a watchdog, a browser driver."""
    context = multiprocessing.get_context("fork")
    helper = context.Process(target=time.sleep, args=(1000,), daemon=True)
    helper.start()
    time.sleep(0.2)
    helper.terminate()
    helper.join(10)
    code = helper.exitcode
    helper.kill()
    return code


def leaves_a_pool():
    """How many pools it left, when the first answer was enough and the others take an hour."""
    left = 0
    for _ in range(4):
        with multiprocessing.get_context("fork").Pool(3) as pool:
            next(pool.imap_unordered(time.sleep, [0.01, 3600, 3600]))
        left += 1
    return left


def _handlers() -> list[str]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    return [str(getattr(signal.getsignal(n), "__name__", signal.getsignal(n))) for n in numbers]


def _tells(queue) -> None:
    print("printed in a process of multiprocessing")
    queue.put((_handlers(), gc.isenabled()))


def asks_a_child():
    """What a child has for signals, and whether it collects garbage."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_tells, args=(queue,))
    process.start()
    told = queue.get()
    process.join()
    return list(told)


def runs_with_preexec():
    """A signal to a command that is started by a fork with Python in it."""
    seen: list[int] = []
    command = subprocess.Popen(["sleep", "1000"], preexec_fn=lambda: seen.append(1))  # noqa: PLW1509
    command.terminate()
    try:
        return command.wait(20)
    finally:
        command.kill()


def prints_while_it_forks():
    """A thread that prints holds a lock of the log at some moments, and so may a child for ever."""
    import contextvars

    ended = threading.Event()

    def talk() -> None:
        while not ended.is_set():
            print(".", end="")

    thread = threading.Thread(target=contextvars.copy_context().run, args=(talk,))
    thread.start()
    codes = []
    for _ in range(30):
        child = os.fork()
        if child == 0:
            print("child")
            os._exit(0)
        codes.append(_until(child))
    ended.set()
    thread.join()
    return codes


def dies(how, marker):
    """Ends its process, which has a child that lives on."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    child.start()
    with open(marker, "w") as file:
        file.write(str(child.pid))
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)


def interrupts_of_a_command():
    """Whether a command would hear Ctrl-C: what /proc says that it ignores or blocks."""
    status = subprocess.run(
        ["cat", "/proc/self/status"], check=True, capture_output=True, text=True
    )
    masks = dict(line.split(":", 1) for line in status.stdout.splitlines())
    return [int(masks[name], 16) & (1 << (signal.SIGINT - 1)) for name in ("SigIgn", "SigBlk")]
