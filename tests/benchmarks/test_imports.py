"""What an import must not load: it is what a pod pays for before it does anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("asyncio", "click", "fsspec", "pydantic", "rich", "s3fs", "yaml")

WORK = """
import runstore, tempfile
from runstore import Dag, Task
store = runstore.open_store(tempfile.mkdtemp(), durable=False)
run = store.create_run(Dag([Task(name="a", params=("x",), returns=("y",))]), {"x": 1})
run.begin("a").succeed({"y": 2})
assert run.plan().status == "succeeded"
"""


def loaded(code):
    script = (
        f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import runstore", WORK], ids=["import", "write and plan"])
def test_no_heavy_module_is_loaded(code):
    assert loaded(code).isdisjoint(HEAVY)


def test_import_alone_loads_neither_msgspec_nor_orjson():
    assert loaded("import runstore").isdisjoint({"msgspec", "orjson"})
