"""The templates of a Workflow, one for each node of a DAG and each of its bodies.

A pod is given the run's id, the percent-encoded path of the scope it stands in (``at``, which ends
in a slash unless it is empty) and the name of its node; all else it reads from the store. No value
of a step passes between templates.

==============  ==========================================================================
``s-``          a step: ``runstore exec``
``m-``          a map: ``items`` lists the items that are left, ``each`` runs one of them
``c-``          a conditional: ``choose`` names the branch, ``b0``, ``b1`` ... are the branches
``p-``          a parallel: ``b0``, ``b1`` ...
``l-``          a loop: ``body``, ``more`` asks whether it goes on, ``next`` is the loop again; from
                some iteration on ``rest`` is all that is left of it, in one pod
``d-``          a body: the DAG in it
``k-``          some items of a map, in one pod
``r-``          a step inside of Argo's cache
``iq-`` ...     the pods that are asked: ``runstore pod``
==============  ==========================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from runstore.dag import AnyNode, Dag, walk
from runstore.dag.structure import digest
from runstore.integrations.argo.names import task_name, template_name
from runstore.integrations.argo.options import Options, container_of, of_map, template_of
from runstore.paths import escape, percent_encode

__all__ = ["RUN_ID", "Templates", "graph", "is_sure", "settled"]

RUN_ID = "{{workflow.parameters.run_id}}"
AT = "{{inputs.parameters.at}}"
RESULTS = "/tmp/runstore"
"""Where the pods that decide write what they decided."""

_AGAIN = (
    "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75,137,143] || "
    "lastRetry.message matches 'low on resource|shutdown|preempt'"
)
"""A pod is replaced for what it cannot see itself: it was evicted, deleted, killed; or the store
said to ask again. A step that fails has its own ``retries``."""


def settled(task: str) -> str:
    """A ``depends`` that is true when a task has ended, or will not run, in whatever phase."""
    return f"({task} || {task}.Failed || {task}.Errored || {task}.Omitted)"


def graph(tasks: list[dict[str, Any]], *targets: str) -> dict[str, Any]:
    """A DAG of Argo, that of a template.

    All tasks are targets, by default. `argo retry` runs composites again that have succeeded, if
    the way up from what failed leads through them; the controller looks at a task only if it is a
    target, or if one that has not ended depends on it. So one that is neither would run for ever
    (Argo 4.1.2, ``executeDAGTask``).
    """
    names = targets or [task["name"] for task in tasks]
    return {"failFast": False, "target": " ".join(names), "tasks": tasks}


def is_sure(node: AnyNode) -> bool:
    """Whether Argo's phase of a node is the planner's word for it. In a composite with handlers,
    alerts or ``all_done`` steps, a failure need not be one, and Argo's phase is its leaves'."""
    return all(
        inner.trigger == "all_success"
        for body in node.bodies.values()
        for _, inner in walk(body)
    )  # fmt: skip


class Templates:
    """Makes templates; :attr:`made` are those so far, in the order in which they are called."""

    def __init__(self, dag: Dag, options: Options) -> None:
        self.options = options
        self.structure = digest(dag)
        self.made: list[dict[str, Any]] = []

    def tasks(self, dag: Dag, way: tuple[str, ...], at: str) -> list[dict[str, Any]]:
        """The tasks of a graph, with the templates that they call.

        :param way: names of the nodes and branches on the way to it.
        :param at: what its pods are given for ``at``.
        """
        nodes = {node.name: node for node in dag.nodes}
        out = []
        for index in dag.wiring.order:
            node = dag.nodes[index]
            given = {"at": at + self._scope(node)}
            if node.kind == "loop" and _has_tasks(node):
                given["i"] = "0"
            task: dict[str, Any] = {
                "name": task_name(node.name),
                "template": self.node(node, way),
                "arguments": _parameters(**given),
            }
            before = [self._waits(node, nodes[name]) for name in node.after]
            if before:
                task["depends"] = " && ".join(before)
            out.append(task)
        return out

    @staticmethod
    def _waits(node: AnyNode, before: AnyNode) -> str:
        task = task_name(before.name)
        sure = node.trigger == "all_success" and is_sure(before)
        return task if sure else settled(task)

    @staticmethod
    def _scope(node: AnyNode) -> str:
        """What of a node's own name is in the ``at`` of its template: of a loop, whose iterations
        are appended to it."""
        return _path(node) if node.kind == "loop" and _has_tasks(node) else ""

    def node(self, node: AnyNode, way: tuple[str, ...]) -> str:
        """The name of a node's template, which is made."""
        way = (*way, node.name)
        if not _has_tasks(node):
            return self._step(node, way)
        match node.kind:
            case "map":
                return self._map(node, way)
            case "conditional":
                return self._conditional(node, way)
            case "parallel":
                return self._parallel(node, way)
            case _:
                return self._loop(node, way)

    def _add(self, name: str, inputs: Iterable[str] = ("at",), **template: Any) -> str:
        given = [{"name": each} for each in inputs]
        self.made.append({"name": name, "inputs": {"parameters": given}, **template})
        return name

    def pod(
        self, name: str, node: AnyNode | None, args: list[str], *, output: str = "",
        replaced: bool = True, **more: Any,
    ) -> str:  # fmt: skip
        """A template of a pod that runs ``runstore``.

        :param output: the name of what it decides, if it does.
        :param replaced: whether Argo makes another where it was evicted, or says to ask again.
        """
        options = self.options
        template: dict[str, Any] = {
            "container": container_of(node, options, args),
        }
        if replaced:
            template["retryStrategy"] = {
                "limit": str(options.attempts), "retryPolicy": "Always", "expression": _AGAIN,
                "backoff": {"duration": "5s", "factor": "2", "cap": "5m"},
            }  # fmt: skip
        if output:
            value = {"path": f"{RESULTS}/{output}"}
            template["outputs"] = {"parameters": [{"name": output, "valueFrom": value}]}
        return self._add(name, **{**template, **template_of(node), **more})

    def _exec(self, *words: str) -> list[str]:
        grace = max(1, self.options.grace - 5)  # so that the end can be recorded
        # A command's own 75 or 137 would have Argo replace the pod: a step that fails has retries.
        return [
            "exec", "--pipeline", self.options.pipeline, "--grace", f"{grace}s", "--fail-with", "1",
            *words,
        ]  # fmt: skip

    def _step(self, node: AnyNode, way: tuple[str, ...]) -> str:
        args = self._exec("--", RUN_ID, AT + _path(node))
        name = template_name("s", way)
        if not self.options.memoize:
            return self.pod(name, node, args)
        # Argo hangs on a hit where one template has both a cache and a retry strategy.
        inner = self.pod(template_name("r", way), node, args)
        # Of another store the same names say nothing.
        store = hashlib.sha256(self.options.store.encode()).hexdigest()
        key = f"|{store}|{self.structure}|{percent_encode(_path(node))}|"
        memoize = {
            "key": f"{{{{=sprig.sha256sum(workflow.parameters.run_id + '{key}' + "
            "inputs.parameters.at)}}",
            "maxAge": "{{=workflow.parameters.rerun == 'true' ? '1ns' : '8760h'}}",
            "cache": {"configMap": {"name": f"runstore-{RUN_ID}"}},
        }
        run = {"name": "run", "template": inner, "arguments": _parameters(at=AT)}
        return self._add(name, memoize=memoize, steps=[[run]])

    def _decides(
        self, verb: str, node: AnyNode, way: tuple[str, ...], output: str, *more: str
    ) -> str:
        args = ["pod", verb, "--pipeline", self.options.pipeline, *more, "--", RUN_ID,
                AT + _path(node)]  # fmt: skip
        return self.pod(template_name(verb[0] + "q", way), node, args, output=output)

    def _body(self, dag: Dag, way: tuple[str, ...], branch: str | None = None) -> str:
        inside = way if branch is None else (*way, f"b-{branch}")
        name = template_name("d", inside)
        # The name is given first: what it calls comes after it.
        at = len(self.made)
        tasks = self.tasks(dag, inside, AT)
        self._add(name, dag=graph(tasks))
        self.made.insert(at, self.made.pop())
        return name

    def _map(self, node: AnyNode, way: tuple[str, ...]) -> str:
        parallelism, chunk, workers = of_map(node, self.options)
        if chunk is None:
            body = self._body(node.bodies[""], way)
        else:
            args = self._exec("--workers", str(workers), "--", RUN_ID, AT)
            body = self.pod(template_name("k", way), node, args)
        of_pods = [] if chunk is None else ["--chunk", str(chunk)]
        items = self._decides("items", node, way, "items", *of_pods)
        tasks = [
            {"name": "items", "template": items, "arguments": _parameters(at=AT)},
            {
                "name": "each", "template": body, "depends": "items",
                "withParam": "{{tasks.items.outputs.parameters.items}}",
                "arguments": _parameters(at="{{item}}"),
            },
        ]  # fmt: skip
        more: dict[str, Any] = {} if parallelism is None else {"parallelism": parallelism}
        return self._add(template_name("m", way), dag=graph(tasks), **more)

    def _branches(self, node: AnyNode, way: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        """Token, ``at`` and template of each branch with something in it."""
        for number, (branch, body) in enumerate(sorted(node.bodies.items())):
            if body.nodes:
                at = AT + percent_encode(f"{escape(node.name)}:{escape(branch)}/")
                yield f"b{number}", at, self._body(body, way, branch)

    def _conditional(self, node: AnyNode, way: tuple[str, ...]) -> str:
        choose = self._decides("choose", node, way, "branch")
        tasks: list[dict[str, Any]] = [
            {"name": "choose", "template": choose, "arguments": _parameters(at=AT)}
        ]
        for token, at, body in self._branches(node, way):
            when = f"{{{{=tasks['choose'].outputs.parameters.branch == '{token}'}}}}"
            tasks.append(
                {
                    "name": token, "template": body, "depends": "choose", "when": when,
                    "arguments": _parameters(at=at),
                }
            )  # fmt: skip
        return self._add(template_name("c", way), dag=graph(tasks))

    def _parallel(self, node: AnyNode, way: tuple[str, ...]) -> str:
        tasks = [
            {"name": token, "template": body, "arguments": _parameters(at=at)}
            for token, at, body in self._branches(node, way)
        ]
        return self._add(template_name("p", way), dag=graph(tasks))

    def _loop(self, node: AnyNode, way: tuple[str, ...]) -> str:
        name = template_name("l", way)
        body = self._body(node.bodies[""], way)
        iteration = AT + "@{{inputs.parameters.i}}"
        args = ["pod", "more", "--pipeline", self.options.pipeline, "--", RUN_ID, AT]
        more = self.pod(template_name("mq", way), node, args, output="more")
        rest = self.pod(template_name("lr", way), node, self._exec("--", RUN_ID, AT))
        body_done = "body" if is_sure(node) else settled("body")
        tasks = [
            {"name": "body", "template": body, "arguments": _parameters(at=iteration + "/")},
            {
                "name": "more", "template": more, "depends": body_done,
                "arguments": _parameters(at=iteration),
            },
            {
                "name": "next", "template": name, "depends": "more",
                "when": "{{=tasks['more'].outputs.parameters.more == 'true'}}",
                "arguments": _parameters(at=AT, i="{{=asInt(inputs.parameters.i) + 1}}"),
            },
            {
                "name": "rest", "template": rest, "depends": "more",
                "when": "{{=tasks['more'].outputs.parameters.more == 'rest'}}",
                "arguments": _parameters(at=AT),
            },
        ]  # fmt: skip
        return self._add(name, ("at", "i"), dag=graph(tasks))


def _parameters(**values: str) -> dict[str, Any]:
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}


def _path(node: AnyNode) -> str:
    return percent_encode(escape(node.name))


def _has_tasks(node: AnyNode) -> bool:
    """Whether there is something in a composite; one in which nothing is is a step that does
    nothing, and so is a task."""
    return any(body.nodes for body in node.bodies.values())
