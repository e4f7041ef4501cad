"""Every block of the READMEs runs.

The convention: a block with a file name after its language is that file; ``python`` without one
is run as a script; in ``console``, what follows a ``$`` is typed into a shell, and the lines below
it are what that must print (``...`` stands for anything). All blocks of a page share one folder, in
order. ``sh`` is for what a reader does once (install, test) and is not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/pipelines.md",
    "docs/schedulers.md",
    "examples/wrong-file-name/README.md",
]
LINKED = sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copytree(ROOT / "examples", folder / "examples")
    text = (ROOT / page).read_text(encoding="utf-8")
    ran = 0
    for match in BLOCK.finditer(text):
        language, name, body = match.groups()
        where = f"{page}:{text.count(chr(10), 0, match.start()) + 1}"
        if name:
            (folder / name).write_text(body, encoding="utf-8")
        elif language == "python":
            (folder / "_block.py").write_text(body, encoding="utf-8")
            done = shell(f"{sys.executable} _block.py", folder)
            assert done.returncode == 0, f"{where}\n{done.stdout}"
        elif language == "console":
            check_session(body, folder, where)
        else:
            assert language in ("sh", "text"), f"{where}: no way to check {language}"
        ran += 1
    assert ran


def check_session(session: str, folder: Path, where: str) -> None:
    code = 0
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = shell(f"(exit {code}); {command}", folder)  # so that $? is what a reader sees
        code = done.returncode
        got, want = comparable(done.stdout), comparable(expected)
        pattern = ".*?".join(map(re.escape, want.split("...")))
        assert re.fullmatch(pattern, got, re.DOTALL), (
            f"{where}: {command}\n--- it prints\n{done.stdout}\n--- the page says\n{expected}"
        )


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, timeout=60, encoding="utf-8", check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path, "PYTHONUTF8": "1"},
    )  # fmt: skip


def comparable(text: str) -> str:
    """Without how long things took, and in what order steps that run side by side ended."""
    text = re.sub(r"\d+\.\d s\b", "0.0 s", text)
    lines, row = [], []
    for line in [*(line.rstrip() for line in text.splitlines()), ""]:
        if line.startswith(("✓", "✗")):
            row.append(line)
        else:
            lines += [*sorted(row), line]
            row = []
    return "\n".join(lines).strip()


@pytest.mark.parametrize("page", LINKED)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_tests_it_names_are_there() -> None:
    named = re.findall(r"`(tests/[^`]*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named
    for path in named:
        assert (ROOT / path).is_file() or list((ROOT / path).glob("test_*.py")), path


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_picture_of_the_architecture_has_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    picture = text.split("```")[1]
    for each in (ROOT / "runstore").iterdir():
        if not each.name.startswith("_") and each.suffix in ("", ".py"):
            assert f"{each.name}{'/' if each.is_dir() else ''}" in picture, each.name
