"""Names that Argo takes: of DAG tasks and templates, one for each node, the same in every emit.

Argo takes letters, digits and ``-``, at most 128 characters; a task called ``in`` or ``nil`` passes
its checks and fails when it runs. So node names are prefixed; and one that Argo could not take, or
that could be taken for another's, is shortened and followed by a digest of the whole.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["PREFIX", "task_name", "template_name"]

PREFIX = "n-"
"""Of every task that stands for a node: our own tasks are called otherwise."""

_LONGEST = 128
_HASH = 10
_PLAIN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_HASHED = re.compile(rf".*-x[0-9a-f]{{{_HASH}}}")
_OTHER = re.compile(r"[^a-z0-9]+")


def task_name(name: str) -> str:
    """The task of a node in the DAG of its graph: ``n-`` and its name, as far as Argo takes it."""
    return PREFIX + _name(name, _LONGEST - len(PREFIX))


def template_name(kind: str, names: tuple[str, ...]) -> str:
    """The template of a node, or of one of its bodies.

    :param kind: a letter for each use: templates of different kinds never meet.
    :param names: the names of the nodes, and branches, on the way to it.
    """
    parts = "--".join(_name(each, _LONGEST) for each in names)
    whole = f"{kind}-{parts}"
    if len(whole) <= _LONGEST:
        return whole
    digest = _digest("\0".join(names))
    return f"{whole[: _LONGEST - len(digest) - 3]}--x{digest}"


def _name(name: str, room: int) -> str:
    if _PLAIN.fullmatch(name) and len(name) <= room and not _HASHED.fullmatch(name):
        return name
    slug = _OTHER.sub("-", name.lower()).strip("-")[: room - _HASH - 2].rstrip("-")
    return f"{slug or 'x'}-x{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]
