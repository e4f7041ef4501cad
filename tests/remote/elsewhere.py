"""What runs on another machine: a process that says so, and so is not known to be dead.

``elsewhere.py HOST cli WORDS...``: the command line.
``elsewhere.py HOST claim URL ENGINE GATE``: begins ``work`` of run ``r``, and ends it when told to.
``elsewhere.py HOST give-up URL ENGINE GATE``: as ``retry --takeover all`` does it, for every run,
waiting at each for the other one that does the same.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import runstore
from runstore.errors import AttemptEndedError
from runstore.store import process as holder

__all__ = ["tell", "wait_for"]

SECONDS = 60


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not file.exists():
        assert time.monotonic() < deadline, f"nobody made {file}"
        time.sleep(0.005)


def tell(file: Path) -> None:
    file.touch()


def claim(url: str, engine: str, gate: Path) -> None:
    attempt = runstore.open_store(url, engine=engine).get_run("r").begin("work")
    tell(gate / "begun")
    wait_for(gate / "go")
    try:
        attempt.succeed({"made": "the zombie's"})
    except AttemptEndedError as error:
        print(f"{type(error).__name__}: {error}")


def give_up(host: str, url: str, engine: str, gate: Path) -> None:
    """One JSON list of what each run's ``work`` came to, as this process sees it."""
    seen = []
    store = runstore.open_store(url, engine=engine)
    for run_id in sorted(store.run_ids()):
        run = store.get_run(run_id)
        history = run.history()
        assert len(list(history.open())) == 1
        tell(gate / f"{run_id}.{host}")
        deadline = time.monotonic() + SECONDS
        while len(list(gate.glob(f"{run_id}.*"))) < 2:
            assert time.monotonic() < deadline, "the other one did not come"
            time.sleep(0.0005)
        assert run.take_over(history, "all") == []
        (end,) = history.ends("work")
        assert end.ended_by is not None
        seen.append([run_id, end.outcome, end.digest, end.ended_by.host])
    print(json.dumps(seen))


def main() -> None:
    host, what, *words = sys.argv[1:]
    socket.gethostname = lambda: host
    holder._boot = lambda: f"boot-of-{host}"  # type: ignore[assignment]
    holder._holder.cache_clear()
    assert holder.current_process().host == host
    if what == "cli":
        from runstore.cli import main as command_line

        sys.argv[1:] = words
        command_line()
    elif what == "claim":
        claim(words[0], words[1], Path(words[2]))
    else:
        give_up(host, words[0], words[1], Path(words[2]))


if __name__ == "__main__":
    sys.path.pop(0)
    assert os.path.basename(sys.argv[0]) == "elsewhere.py"
    main()
