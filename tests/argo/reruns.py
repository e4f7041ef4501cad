"""`argo retry` and `argo resubmit --memoized`: which nodes a workflow starts again with
(`FormulateRetryWorkflow`, `FormulateResubmitWorkflow` in `workflow/util/util.go`)."""

from collections import deque

from tests.argo.status import Node, Status

__all__ = ["Refused", "nodes_to_resubmit", "nodes_to_retry"]

_GROUPS = ("DAG", "TaskGroup", "StepGroup", "Steps")


class Refused(ValueError):
    """What `argo` refuses to do, with its words."""


def nodes_to_retry(status: Status, with_parameters: bool) -> dict[str, Node]:
    """The nodes that stay, reset where the way to a failed pod leads through them."""
    if status.phase == "Succeeded":
        raise Refused(
            "To retry a succeeded workflow, set the options restartSuccessful and nodeFieldSelector"
        )
    if status.phase not in ("Failed", "Error"):
        raise Refused(f"Cannot retry a workflow in phase {status.phase}")
    parents = _parents(status)
    failed = _to_run_again(status)
    reset: set[str] = set()
    deleted: set[str] = set()
    for node in _in_order(status):
        if node.id in failed and node.id not in deleted:
            deleted |= _descendants(status, node) | {node.id}
            reset |= _way_up(status, parents, node)
    if with_parameters:
        # What a loop is made of may be different now.
        for node_id in reset - deleted:
            if status.nodes[node_id].type in ("TaskGroup", "StepGroup"):
                deleted |= _descendants(status, status.nodes[node_id])
    kept = {}
    on_exit = f"{status.workflow}.onExit"
    for node in status.nodes.values():
        if node.id in deleted or (node.id not in reset and node.name.startswith(on_exit)):
            continue
        again = node.copy()
        if node.id in reset:
            again.phase = node.phase if node.phase == "Skipped" else "Running"
            again.message, again.finished_at = "", None
        again.children = [child for child in node.children if child not in deleted]
        again.outbound = [child for child in node.outbound if child not in deleted]
        kept[node.id] = again
    return kept


def _to_run_again(status: Status) -> set[str]:
    """Failed pods, but not one that a node succeeded after: an alert on a failure protects it."""
    retry_of = {
        child: node
        for node in status.nodes.values()
        if node.type == "Retry"
        for child in node.children
    }
    found = set()
    for node in status.nodes.values():
        if node.failed and node.type == "Pod":
            above = retry_of[node.id] if node.retried else node
            if not _leads_to_success(status, above):
                found.add(node.id)
    return found


def _leads_to_success(status: Status, node: Node) -> bool:
    descendants = (status.nodes[found] for found in _descendants(status, node))
    return any(found.phase == "Succeeded" for found in descendants)


def _descendants(status: Status, node: Node) -> set[str]:
    found: set[str] = set()
    pending = list(node.children)
    while pending:
        child = pending.pop()
        if child not in found:
            found.add(child)
            pending += status.nodes[child].children
    return found


def _parents(status: Status) -> dict[str, Node]:
    """One parent each, although a node may have several: the last by id."""
    parents = {}
    for node_id in sorted(status.nodes):
        for child in status.nodes[node_id].children:
            parents[child] = status.nodes[node_id]
    for node in status.nodes.values():
        outside = node.name == status.workflow or node.name.startswith(f"{status.workflow}.onExit")
        if node.id not in parents and not outside:
            raise Refused(f"couldn't find parent node for {node.id}")
    return parents


def _in_order(status: Status) -> list[Node]:
    """Breadth first from the entry: what is above another comes before it."""
    queue, seen, order = deque([status.workflow]), {status.workflow}, []
    while queue:
        node = status.nodes[queue.popleft()]
        order.append(node)
        fresh = [child for child in node.children if child not in seen]
        seen.update(fresh)
        queue.extend(fresh)
    return order


def _way_up(status: Status, parents: dict[str, Node], start: Node) -> set[str]:
    """What has to run again above a node: its groups, their boundaries, and failed Retry nodes."""
    reset: set[str] = set()
    current: Node | None = start
    if start.id not in parents:
        return reset
    while current is not None:
        if current.type in _GROUPS:
            reset.add(current.id)
            current = _through_boundaries(parents, current, reset)
            continue
        if current.type == "Retry" and current.failed:
            reset.add(current.id)
        current = parents.get(current.id)
    return reset


def _through_boundaries(parents: dict[str, Node], start: Node, reset: set[str]) -> Node | None:
    current = start
    while True:
        parent = parents.get(current.id)
        if parent is not None and parent.type == "Retry":
            reset.add(parent.id)
            current = parent
            parent = parents.get(current.id)
        if parent is not None and parent.type in ("StepGroup", "TaskGroup"):
            reset.add(parent.id)
        if not current.boundary_id:
            return parent
        boundary = current.boundary_id
        while current.id != boundary:
            above = parents.get(current.id)
            if above is None:
                raise Refused("was seeking node but ran out of nodes to explore")
            current = above
        reset.add(boundary)


def nodes_to_resubmit(old: Status, new: Status) -> dict[str, Node]:
    """The nodes of a new workflow: pods that succeeded are Skipped, all else is to be gone through
    again, what is already there as it is."""
    if old.phase not in ("Failed", "Error"):
        raise Refused("workflow must be Failed/Error to resubmit in memoized mode")

    def renamed(name: str) -> str:
        return new.workflow + name.removeprefix(old.workflow)

    ids = {node.id: new.node_id(renamed(node.name)) for node in old.nodes.values()}
    found = {}
    for node in old.nodes.values():
        if node.name.startswith(f"{old.workflow}.onExit"):
            continue
        if node.type == "Skipped" and not _leads_to_success(old, node):
            continue
        again = node.copy()
        again.id, again.name = ids[node.id], renamed(node.name)
        again.boundary_id = ids.get(node.boundary_id, "")
        again.children = [ids[child] for child in node.children]
        again.outbound = [ids[child] for child in node.outbound]
        if node.type == "Pod" and not node.failed:
            again.type = again.phase = "Skipped"
            again.message = f"original pod: {node.id}"
        else:
            again.phase, again.message = "Pending", ""
        found[again.id] = again
    return found
