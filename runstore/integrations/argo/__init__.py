"""Argo Workflows: a pipeline as a Workflow, what its pods do, and its status as records.

Argo starts pods in an order that allows everything the planner may decide; the pods ask the store.
So the store is the truth, and whatever Argo remembers only saves pods.
"""

from __future__ import annotations

__all__: list[str] = []
