"""Which pods of a workflow are dead, as its status proves it.

A node that has ended is no proof: `argo stop`, `argo terminate` and a deadline end nodes while
their pods have a grace period to go (Argo 4.1.2, ``exec_control.go``), and of a pod that was
deleted with its machine nobody knows. The exit code of the step's container is one: Argo's executor
reports it when that has ended.
"""

from __future__ import annotations

import re

from runstore.integrations.argo.status import Node, WorkflowStatus
from runstore.records import Holder

__all__ = ["WorkflowLiveness"]


class WorkflowLiveness:
    """Answers as :class:`~runstore.store.process.Liveness`, of the pods of one workflow.

    :param pods_gone: somebody has seen that no pod of it is there any more.
    """

    def __init__(self, status: WorkflowStatus, *, pods_gone: bool = False) -> None:
        self.status = status
        self.pods_gone = pods_gone
        self._nodes: dict[int, Node] = {}
        for node in status.nodes.values():
            number = node.id.rpartition("-")[2]
            if node.type == "Pod" and number.isascii() and number.isdecimal():
                self._nodes[int(number[:20])] = node
        templates = "|".join(map(re.escape, sorted(status.templates)))
        self._pod = re.compile(f"{re.escape(status.name)}-(?:{templates})-([0-9]{{1,20}})")

    def is_alive(self, holder: Holder) -> bool | None:
        """Of a pod of this workflow, whether it runs, or ``None`` if that is not certain; of all
        others nothing is known."""
        return self._judged(holder)[0]

    def why(self, holder: Holder) -> str:
        """What is known of a holder, for people."""
        return self._judged(holder)[1]

    def _judged(self, holder: Holder) -> tuple[bool | None, str]:
        found = self._pod.fullmatch(holder.pod or "")
        if found is None:
            return None, f"is no pod of workflow {self.status.name}"
        node = self._nodes.get(int(found[1]))
        if node is not None and node.exit_code:
            return False, f"has ended with exit code {node.exit_code}"
        if self.pods_gone:
            return False, "is gone, you say"
        if node is None:
            return None, "is not in the status: `argo retry` takes nodes out of it"
        if not node.ended:
            return True, f"is {node.phase}"
        said = f": {node.message}" if node.message else ""
        return None, f"may have time to go: its node is {node.phase}{said}"
