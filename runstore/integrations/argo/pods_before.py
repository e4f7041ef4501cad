"""Which pods are dead, as far as a pod of the same workflow can know it without asking Kubernetes.

Argo makes the pods of one node one after the other: ``n-x(1)`` when ``n-x(0)`` has ended. Their
names end in a hash of the node's name, so a pod can tell those that were there before it. After
``argo retry`` a pod comes again under its name, with another uid: two of one name cannot be there
at once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from runstore.plan.history import History
from runstore.records import Holder

__all__ = [
    "MUTEX", "NODE", "EarlierPods", "EarlierWorkflows", "mutex_of", "of_environment", "pod_hash",
]  # fmt: skip

NODE = "RUNSTORE_ARGO_NODE"
"""The variable with the name of the pod's node, of the downward API."""

_RETRY = re.compile(r"(.*)\(([0-9]+)\)", re.DOTALL)


def pod_hash(node: str) -> int:
    """FNV-1a of 32 bits (RFC 9923), as Argo takes it of a node's name."""
    found = 0x811C9DC5
    for byte in node.encode():
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return found


class EarlierPods:
    """Knows the pods that its own node had before."""

    def __init__(self, pod: str, uid: str, node: str) -> None:
        self._pod = pod
        self._uid = uid
        self._earlier: frozenset[str] = frozenset()
        own, retry = f"-{pod_hash(node)}", _RETRY.fullmatch(node)
        if retry is not None and pod.endswith(own):
            before = (f"{retry[1]}({n})" for n in range(int(retry[2])))
            prefix = pod.removesuffix(own)
            self._earlier = frozenset(f"{prefix}-{pod_hash(each)}" for each in before)

    def is_alive(self, holder: Holder) -> bool | None:
        """See :class:`~runstore.store.process.Liveness`."""
        if holder.pod in self._earlier:
            return False
        if holder.pod == self._pod and holder.pod_uid and self._uid:
            return holder.pod_uid == self._uid
        return None


class EarlierWorkflows:
    """For a workflow that has the mutex of its run: those that had it before have ended, and what
    their pods left open after their grace period was left by the dead.

    :param mutex: as :func:`mutex_of` has it: it proves nothing of pods that never held it.
    """

    def __init__(self, own: EarlierPods, mutex: str, workflow: str, history: History) -> None:
        self._own = own
        held = {
            each.id
            for each in history.invocations.values()
            if each.id != workflow and (each.code or {}).get(MUTEX) == mutex
        }
        self.left_open = {
            start.by for start in history.open() if start.invocation in held and start.by.pod
        }
        """Who is to be judged: each pod by its name and uid."""

    def is_alive(self, holder: Holder) -> bool | None:
        """See :class:`~runstore.store.process.Liveness`."""
        return False if holder in self.left_open else self._own.is_alive(holder)


MUTEX = "argo_mutex"
"""What the invocation of a workflow says of its mutex, among the code that it ran."""

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts what a pod needs to know of its cluster."""


def mutex_of(environment: Mapping[str, str]) -> str | None:
    """Where a mutex of Argo holds: the cluster, by the digest of its certificate authority, and the
    namespace. ``None`` for a pod without the files of its service account."""
    folder = environment.get("RUNSTORE_SERVICE_ACCOUNT", _ACCOUNT)
    try:
        with open(os.path.join(folder, "ca.crt"), "rb") as file:
            cluster = hashlib.sha256(file.read()).hexdigest()[:32]
        with open(os.path.join(folder, "namespace"), encoding="utf-8") as text:
            return f"{cluster}/{text.read().strip()}"
    except (OSError, UnicodeDecodeError):
        return None


def of_environment(environment: Mapping[str, str]) -> EarlierPods | None:
    """What a pod knows by its environment; ``None`` for what is no pod of a workflow of ours."""
    node, pod = environment.get(NODE), environment.get("POD_NAME")
    if not node or not pod:
        return None
    return EarlierPods(pod, environment.get("POD_UID", ""), node)
