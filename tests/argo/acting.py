"""The pipeline of an acceptance scenario, as a pod loads it: at the invocation that the folder
``SCENARIO`` names, its tasks are expressions, fail where they are told to, and die."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from runstore.pipeline import Pipeline
from tests.acceptance import scenario


def at_once(*_: Any) -> None:
    """A pod dies alone: the others go on to their ends without it. The next one lives."""
    (Path(os.environ["SCENARIO"]) / "dies").unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)


def acted(folder: Path) -> Pipeline:
    """The scenario's pipeline at the invocation that is on."""
    scenario._die_when_alone = at_once
    dies = folder / "dies"
    told = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
    at = int((folder / "invocation").read_text())
    state = scenario.State(told["dag"], told["parameters"], told["tasks"])
    for invocation in told["invocations"][: at + 1]:
        state = state.at(invocation)
    invocation = told["invocations"][at]
    if dies.exists():
        path = dies.read_text(encoding="utf-8")
        fail = [each for each in invocation.get("fail", ()) if each != path]
        invocation = {**invocation, "kill": path, "fail": fail}
    return Pipeline(scenario.build(state, invocation), state.parameters)


if "SCENARIO" in os.environ:
    pipeline = acted(Path(os.environ["SCENARIO"]))
