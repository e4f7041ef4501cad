"""Try the properties with new seeds, over and over, until the time is up or one fails.

``python -m tests.explore --minutes 10``, or ``make explore MINUTES=10``. Each round prints its
seed. The first failure ends it, with status 1 and with what draws the same again.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time

PROPERTIES = ["-m", "hypothesis or explored"]
ROUNDS = [
    # Scenarios that the suite plays on disk alone. First: a round of properties may be cut off.
    ["tests/remote/test_acceptance_remote.py", "tests/transfer/test_scenarios.py"],
    # All of them with workflows, each of whose pods dies in turn.
    [
        "tests/argo/test_acceptance_argo.py",
        "tests/argo/test_on_argo.py",
        "tests/argo/test_sizes.py",
    ],
    [*PROPERTIES, "tests"],
]
"""What each round runs, in this order: arguments to pytest. The profile is ``explore``."""


def attempt(arguments: list[str], seed: int, until: float) -> int | None:
    """One run of pytest; its status, or ``None`` if the time was up before it was done."""
    environment = os.environ | {"RUNSTORE_HYPOTHESIS": "explore", "RUNSTORE_SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return None
        except KeyboardInterrupt:
            process.wait()
            return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="of the first round; default: a new one")
    parser.epilog = "Anything else is for pytest, in place of all tests."
    asked, only = parser.parse_known_args(arguments)
    until = time.monotonic() + 60 * asked.minutes
    rounds = [[*PROPERTIES, *only]] if only else ROUNDS
    seed = asked.seed
    done = 0
    while time.monotonic() < until:
        if seed is None:
            seed = random.SystemRandom().getrandbits(32)
        for each in rounds:
            print(f"round {done + 1}, seed {seed}: pytest {' '.join(each)}", flush=True)
            status = attempt(each, seed, until)
            if status is None:
                break
            if status:
                print(f"seed {seed} failed after {done} rounds that did not", flush=True)
                return 1
        else:
            done += 1
        seed = None
    print(f"{done} whole rounds, and nothing failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
