"""A run as a stranger would hand it over, who knows the format and means no good."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.cli.conftest import Shell
from tests.transfer.forging import Document, find, forge, in_lines, read, seal

__all__ = ["COMMANDS", "FUNCTIONS", "Evil", "mine"]

COMMANDS = """
steps:
  - {name: write, command: "exit 1"}
  - {name: more, command: "exit 1"}
"""

FUNCTIONS = """
from runstore import Dag, task
def write():
    raise ValueError("no")
pipeline = Dag([task(write)])
"""


class Evil:
    """Exported files with digests that fit, each of which is to leave a mark if it is executed."""

    def __init__(self, shell: Shell, folder: Path) -> None:
        self.shell = shell
        self.folder = folder
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.program = folder / "program.py"
        self.program.write_text(self._leaves("program") + COMMANDS_AS_PYTHON)
        # Beside the victim, where functions are imported from once that is decided.
        shell.write("innocent.py", self._leaves("module") + "def write(): pass\n")

    def _leaves(self, name: str) -> str:
        return f"open({str(self.marks / name)!r}, 'w').close()\n"

    @property
    def executed(self) -> list[str]:
        return sorted(path.name for path in self.marks.iterdir())

    def exported(self, pipeline: str) -> Document:
        """An honest run, which failed, of the stranger's own."""
        there = Shell(self.folder)
        if not (self.folder / "honest.json").exists():
            assert there("run", pipeline, "--run-id", "r")[0] == 1
            assert there("export", "r", "-o", "honest.json")[0] == 0
        return read(self.folder / "honest.json")

    def file(self, *, number: int = 1_000_000, program: bool = True, call: str = "") -> str:
        """The file that says: this user made it here, long after everything else."""
        there = self.folder / ("p.py" if call else "p.yaml")
        there.write_text(FUNCTIONS if call else COMMANDS)
        document = self.exported(there.name)

        def command(body: dict[str, Any]) -> None:
            for node in body["dag"]["nodes"]:
                if call:
                    node["config"] = {"callable": call}
                else:
                    node["config"]["command"] = f"touch {self.marks / 'command'}"

        def invocation(body: dict[str, Any]) -> None:
            assert body["by"]["host"] == socket.gethostname()
            assert "user" in body["by"]
            body["number"] = number
            body["time"] = "2999-01-01T00:00:00.000000Z"
            body["code"] = {"pipeline": str(self.program)} if program else {"recorded": True}

        forge(document, "run.json", command)
        forge(document, "invocations/", invocation)
        assert json.loads(find(document, "run.json")["data"])["record"]["kind"] == "run"
        path = self.folder / "evil.json"
        path.write_bytes(in_lines(seal(document)))
        return str(path)

    def more(self) -> str:
        """The same file with one more invocation of that kind."""
        document = read(self.folder / "evil.json")
        other = dict(find(document, "invocations/"))
        name = f"{'f' * 8}-0000-7000-8000-{'0' * 12}"
        other["key"] = f"invocations/{name}.json"
        document["objects"].insert(1, other)
        forge(document, name, lambda body: body.update(id=name, number=2_000_000))
        path = self.folder / "more.json"
        path.write_bytes(in_lines(seal(document)))
        return str(path)


COMMANDS_AS_PYTHON = """
from runstore import Dag, Task
pipeline = Dag([
    Task(name="write", type="shell", config={"command": "true"}),
    Task(name="more", type="shell", config={"command": "true"}, after=("write",)),
])
"""


def mine(shell: Shell) -> str:
    """The victim's own pipeline of that structure."""
    return shell.write("mine.yaml", COMMANDS.replace("exit 1", "echo mine"))
