"""No circle of imports: between rooms, between modules, in type-checking blocks and in functions.

`lint-imports` holds which room may import which; within a room it says nothing, and a circle there
is as hard to read. An import counts wherever it stands.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import runstore

ROOT = Path(runstore.__file__).parent


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> those of its package that it names in an import, at any depth of its text."""
    files = {}
    for file in root.rglob("*.py"):
        parts = file.relative_to(root.parent).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = file
    found = {}
    for name, file in files.items():
        named = set(_named(ast.parse(file.read_text()), files))
        found[name] = named - {name}
    return found


def _named(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                yield inner if inner in known else node.module


def test_no_module_imports_itself_by_way_of_others() -> None:
    found = imports(ROOT)
    assert len(found) > 150, "they are looked at"
    # The names that `import runstore` gives are loaded when they are first used: no import there.
    assert sum(map(len, found.values())) > 600
    TopologicalSorter(found).prepare()


def test_a_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    from house.b import g\n")
    (package / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import a\n"
    )
    with pytest.raises(CycleError):
        TopologicalSorter(imports(package)).prepare()
