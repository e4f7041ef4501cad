"""What became of a node, as an attempt; or why that is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from runstore.canonical import loads
from runstore.errors import InputError
from runstore.integrations.argo.status import Node
from runstore.records import Holder
from runstore.transfer.replay import Happened

__all__ = ["NotKnownError", "attempt_of", "value_of"]


class NotKnownError(Exception):
    """Why a node is no attempt that can be recorded, as a text."""


_CANCELLED = re.compile(r"shutdown with strategy|Stopped with strategy|deadline")
_LOST = re.compile(
    r"low on resource|evict|preempt|pod deleted|node .*(lost|shutdown)|OOMKilled", re.IGNORECASE
)
_KILLED = {"137": "lost", "143": "cancelled"}
"""Exit codes of a process that SIGKILL or SIGTERM ended (128 and the signal's number)."""


def attempt_of(node: Node, returns: Sequence[str], outputs: Node) -> Happened:
    """One node of a leaf.

    :param returns: the names that the step gives.
    :param outputs: the node that has its output parameters: itself, or the composite around it.
    :raises NotKnownError: saying why it is none: it did not run, or has not ended.
    """
    outcome = _outcome(node)
    values = _values(returns, node, outputs) if outcome == "succeeded" else {}
    error = None
    if outcome != "succeeded":
        kind = {"lost": "Lost", "cancelled": "Cancelled"}.get(outcome, f"Argo{node.phase}")
        code = f"exit code {node.exit_code}" if node.exit_code else node.phase
        error = {"type": kind, "message": node.message or code}
    return Happened(
        f"{node.id}\n{node.started}\n{node.name}", outcome, values, error, _time(node.started),
        _time(node.finished), _by(node),
    )  # fmt: skip


def _by(node: Node) -> Holder:
    if node.reused:
        return Holder(host="argo, from an earlier workflow")
    return Holder(host=node.host or "argo", pod=node.id if node.type == "Pod" else None)


def _outcome(node: Node) -> str:
    if node.reused:
        if node.phase in ("Succeeded", "Skipped"):
            return "succeeded"
        raise NotKnownError(f"is {node.phase}, though it was taken from an earlier workflow")
    if node.phase == "Succeeded":
        # Also a command that SIGTERM has ended, if it exits with 0 then.
        return "cancelled" if _CANCELLED.search(node.message) else "succeeded"
    if not node.failed:
        raise NotKnownError(": ".join(filter(None, (f"is {node.phase}", node.message))))
    if _CANCELLED.search(node.message):
        return "cancelled"
    if _LOST.search(node.message):
        return "lost"
    return _KILLED.get(node.exit_code, "failed")


def _values(returns: Sequence[str], node: Node, outputs: Node) -> dict[str, Any]:
    given = {**(outputs.outputs or {}), **(node.outputs or {})}
    found = {}
    for name in returns:
        near = [key for key in given if _plain(key) == _plain(name)]
        if name in given:
            found[name] = value_of(given[name])
        elif len(near) == 1:
            found[name] = value_of(given[near[0]])
        elif len(returns) == 1 and node.result is not None:
            found[name] = value_of(node.result)
        else:
            raise NotKnownError(f"has no output parameter for {name!r}, which the step returns")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def value_of(text: str) -> Any:
    """A value that Argo has as text: JSON if it is some, else itself."""
    try:
        return loads(text.encode())
    except (InputError, UnicodeEncodeError):
        return text


def _time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if moment.tzinfo is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
