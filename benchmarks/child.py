"""``python -m benchmarks.child STORE``: plan its run once, and say what that took."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.figures import history_and_plan


def _peak() -> float:
    """MiB. Not ``getrusage``: its ``ru_maxrss`` begins with what the parent had before the exec."""
    with open("/proc/self/status") as file:
        kib = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    return int(kib) / 1024


begin = time.perf_counter()
plan = history_and_plan(sys.argv[1])
took = time.perf_counter() - begin
print(json.dumps({"seconds": took, "peak": _peak(), "steps": len(plan.steps)}))
