"""A workflow run as Argo 4.1.2 runs it, without a cluster.

    from tests.argo.evaluator import PodResult, Workflow

    workflow = Workflow(document, {"run_id": "r1"}, run_pod=lambda pod: PodResult(0, {"out": "[]"}))
    status = workflow.run()
    assert status.phase == "Succeeded"
    assert workflow.node("n-list").phase == "Succeeded"

`run_pod` is called for each pod and says what became of it; `processes.ProcessRunner` starts a real
process. What is the real thing's and what is not: `README.md` beside this file.
"""

import datetime
import itertools
import queue
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.argo import arguments, expressions, gotext, operation, reruns, templating, validation
from tests.argo.cache import Cache
from tests.argo.controller import Controller
from tests.argo.pods import End, Pod, PodResult
from tests.argo.reruns import Refused
from tests.argo.status import Node, Status

__all__ = ["Cache", "End", "Node", "Pod", "PodResult", "Refused", "Status", "Workflow"]

_NUMBERS = itertools.count(1)
_ENDED = ("Succeeded", "Failed", "Error")
_NOT_EVALUATED = {
    "script", "containerSet", "resource", "data", "http", "plugin", "hooks", "synchronization",
    "failFast", "timeout", "daemon", "sidecars", "initContainers",
}  # fmt: skip


class Workflow:
    """One workflow object. `document`: a Workflow, a bare spec, or what one is submitted from: a
    WorkflowTemplate or a CronWorkflow. `workflow_templates`: what a workflowTemplateRef finds.

    `parameters` are those of `-p`: one that the spec does not know is accepted silently. What the
    controller would call invalid is `Refused`, as `argo submit` refuses it, unless `checked` is
    False: then it is created and Failed, as by `kubectl create`.
    """

    def __init__(
        self,
        document: dict[str, Any],
        parameters: dict[str, str] | None = None,
        run_pod: Callable[[Pod], PodResult] = lambda pod: PodResult(),
        *,
        name: str | None = None,
        uid: str | None = None,
        cache: Cache | None = None,
        created: str = "2026-01-01T00:00:00Z",
        workflow_templates: Mapping[str, dict[str, Any]] | None = None,
        before_pod: Callable[[Pod], PodResult | None] | None = None,
        after_pod: Callable[[Pod, PodResult], PodResult | None] | None = None,
        checked: bool = True,
    ) -> None:
        number = next(_NUMBERS)
        self.metadata, self.spec, scope = _submitted(document, workflow_templates or {})
        self.name = name or self.metadata.get("name") or f"{self._prefix()}{number:05d}"
        self.uid = uid or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.name}/{number}"))
        self.created = created
        self.run_pod = run_pod
        self.before_pod = before_pod
        self.after_pod = after_pod
        self.cache = cache if cache is not None else Cache()
        self._parameters = _overridden(self.spec, parameters or {})
        self._events: queue.SimpleQueue[Future[PodResult] | None] | None = None
        self._told: set[str] = set()
        status = Status(self.name, template_scope=f"local/{self.name if scope is None else scope}")
        self.controller = Controller(self.name, self.uid, {}, {}, {}, status, self.cache)
        self._set_values()
        _refuse_what_is_not_evaluated(self.controller)
        if checked and (fault := validation.invalid(self.controller)):
            raise Refused(fault)

    def _prefix(self) -> str:
        if generated := self.metadata.get("generateName"):
            return str(generated)
        return f"{self.metadata['name']}-" if self.metadata.get("name") else "workflow-"

    def _set_values(self) -> None:
        spec = {**self.spec, "arguments": {"parameters": self._parameters}}
        templates = spec.pop("templates", [])
        defaults = spec.pop("templateDefaults", {})
        controller = self.controller
        controller.templates = {
            each["name"]: arguments.in_order({**defaults, **each}) for each in templates
        }
        controller.spec = spec
        controller.values = self._values()
        if controller.status.phase == "":
            operation.substitute_globals(controller)

    def _values(self) -> templating.Values:
        values: templating.Values = {
            "workflow.name": self.name,
            "workflow.namespace": "argo",
            "workflow.uid": self.uid,
            "workflow.mainEntrypoint": self.spec.get("entrypoint", ""),
            "workflow.serviceAccountName": self.spec.get("serviceAccountName", ""),
            "workflow.duration": "0.000000",
        }
        for parameter in self._parameters:
            if parameter.get("value") is not None:
                values[f"workflow.parameters.{parameter['name']}"] = parameter["value"]
        if self._parameters:
            listed = gotext.marshal(self._parameters)
            values["workflow.parameters"] = values["workflow.parameters.json"] = listed
        values |= _timestamps(self.created)
        for kind in ("labels", "annotations"):
            given = {**(self.metadata.get(kind) or {}), **self._of_metadata(kind)}
            values[f"workflow.{kind}"] = values[f"workflow.{kind}.json"] = gotext.marshal(given)
            values |= {f"workflow.{kind}.{key}": str(value) for key, value in given.items()}
        return values

    def _of_metadata(self, kind: str) -> dict[str, str]:
        return (self.spec.get("workflowMetadata") or {}).get(kind) or {}

    @property
    def labels(self) -> dict[str, str]:
        """Those of the object, with `workflowMetadata.labels` and `labelsFrom`."""
        known = templating.environment(self.controller.values)
        computed = (self.spec.get("workflowMetadata") or {}).get("labelsFrom") or {}
        found = {**(self.metadata.get("labels") or {}), **self._of_metadata("labels")}
        for key, source in computed.items():
            found[key] = gotext.sprint(expressions.evaluate(source["expression"], known))
        return found

    # What it came to

    @property
    def status(self) -> Status:
        return self.controller.status

    @property
    def phase(self) -> str:
        return self.status.phase

    @property
    def pods(self) -> list[Pod]:
        """Every pod that was made, in order; those of a `retry` follow."""
        return self.controller.made

    def node(self, path: str = "") -> Node:
        """By its name less the workflow's: `n-map(0:a).n-p`, `[0].step`; without one, the entry."""
        dot = "." if path and path[0] != "[" else ""
        return self.status.node(f"{self.name}{dot}{path}")

    @property
    def document(self) -> dict[str, Any]:
        """As `argo get -o json` gives it: metadata, spec, status; neither kind nor apiVersion."""
        ended = str(self.phase in _ENDED).lower()
        labels = {
            "workflows.argoproj.io/completed": ended,
            "workflows.argoproj.io/phase": self.phase,
        }
        metadata = {
            "name": self.name,
            "namespace": "argo",
            "uid": self.uid,
            "creationTimestamp": self.created,
            "labels": self.labels | labels,
        }
        spec = {**self.spec, "arguments": {"parameters": self._parameters}}
        spec |= {"shutdown": self.controller.shutdown} if self.controller.shutdown else {}
        return {"metadata": metadata, "spec": spec, "status": self.status.document()}

    # Running

    def _settle(self) -> list[Pod]:
        """Passes until one changes nothing, or makes pods; those that are to run. Each change of a
        workflow has the controller look at it again."""
        while True:
            before = self._phases()
            self.reconcile()
            due = [pod for pod in self.controller.unseen if not pod.started and pod.result is None]
            if due or self.phase in _ENDED or before == self._phases():
                return due

    def _phases(self) -> list[tuple[str, str]]:
        return [(each.id, each.phase) for each in self.status.nodes.values()]

    def reconcile(self) -> Status:
        """One pass of the controller, and no pod."""
        operation.reconcile(self.controller)
        self._tell_terminating()
        return self.status

    def _tell_terminating(self) -> None:
        terminate = getattr(self.run_pod, "terminate", None)
        for pod in self.controller.unseen:
            if pod.terminating and pod.started and pod.uid not in self._told:
                self._told.add(pod.uid)
                if terminate is not None:
                    terminate(pod)

    def run(self, workers: int = 0) -> Status:
        """To the end, or to where nothing can happen any more: then the phase is still Running.

        Without `workers` each pod runs here, one after another; with them as many at a time.
        """
        if workers:
            self._run_in_threads(workers)
            return self.status
        while True:
            due = self._settle()
            if self.phase in _ENDED or not due:
                return self.status
            for pod in due:
                pod.started = not pod.terminating
                pod.result = self._result(pod)

    def _run_in_threads(self, workers: int) -> None:
        self._events = events = queue.SimpleQueue()
        running: dict[Future[PodResult], Pod] = {}
        with ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    for pod in self._settle():
                        pod.started = True
                        future = pool.submit(self._result, pod)
                        running[future] = pod
                        future.add_done_callback(events.put)
                    if not running:
                        break
                    ended = events.get()
                    if ended is not None:
                        running.pop(ended).result = ended.result()
            finally:
                # After an error, the pool waits for what still runs: it is to end.
                self._events = None
                for pod in running.values():
                    pod.terminating = True
                self._tell_terminating()

    def _result(self, pod: Pod) -> PodResult:
        if pod.terminating:
            return pod.verdict or PodResult(143)
        result = self.before_pod(pod) if self.before_pod is not None else None
        if result is None:
            result = self.run_pod(pod)
        if self.after_pod is not None:
            result = self.after_pod(pod, result) or result
        if pod.verdict is not None:
            outputs = result.outputs
            return PodResult(result.exit_code, outputs, pod.verdict.message, pod.verdict.end)
        return result

    # What happens to it

    def stop(self) -> None:
        """`argo stop`: pods are ended, exit handlers run. Also from within a pod or a hook."""
        self._shut_down("Stop")

    def terminate(self) -> None:
        """`argo terminate`: pods are ended, exit handlers do not run."""
        self._shut_down("Terminate")

    def _shut_down(self, strategy: str) -> None:
        self.controller.shutdown = strategy
        self._wake()

    def reach_deadline(self) -> None:
        """`activeDeadlineSeconds` is over: the kubelet ends the pods, exit handlers run."""
        self.controller.past_deadline = True
        for pod in list(self.controller.pods.values()):
            if pod.result is None and not pod.on_exit:
                self._end_pod(pod, PodResult.past_deadline())
        self._wake()

    def evict(self, pod: Pod) -> None:
        """The pod is ended, and its node Failed."""
        self._end_pod(pod, PodResult.evicted())
        self._wake()

    def delete(self, pod: Pod, pending: bool = False) -> None:
        """The pod is ended and gone: its node is in Error; or, `pending`, gets a second pod."""
        self._end_pod(pod, PodResult.deleted(pending))
        self._wake()

    def _end_pod(self, pod: Pod, verdict: PodResult) -> None:
        pod.verdict, pod.terminating = verdict, True

    def _wake(self) -> None:
        if self._events is not None:
            self._events.put(None)
        elif self.phase == "Running":
            self.reconcile()

    # Running it again

    def retry(self, parameters: dict[str, str] | None = None) -> None:
        """`argo retry`: the same object and uid; then `run` again. `Refused` where argo refuses."""
        controller, status = self.controller, self.status
        kept = reruns.nodes_to_retry(status, bool(parameters))
        for node_id in list(controller.pods):
            if node_id not in kept:
                del controller.pods[node_id]
        self._parameters = _overridden({"arguments": {"parameters": self._parameters}},
                                       parameters or {})  # fmt: skip
        self._start_with(kept)

    def resubmit(
        self, memoized: bool = False, parameters: dict[str, str] | None = None, **options: Any
    ) -> "Workflow":
        """`argo resubmit`: another object with the same spec, and with `memoized` its nodes."""
        spec = {**self.spec, "arguments": {"parameters": self._parameters}}
        document = {"metadata": {"generateName": self._prefix()}, "spec": spec}
        options = {"run_pod": self.run_pod, "cache": self.cache, **options}
        again = Workflow(document, parameters, **options)
        if memoized:
            again._start_with(reruns.nodes_to_resubmit(self.status, again.status))
        return again

    def _start_with(self, nodes: dict[str, Node]) -> None:
        controller = self.controller
        scope = self.status.template_scope
        controller.status = Status(self.name, template_scope=scope, nodes=nodes)
        controller.shutdown, controller.past_deadline, controller.unseen = "", False, []
        controller.adopt_nodes()
        self._set_values()


def _submitted(
    document: dict[str, Any], workflow_templates: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Metadata, spec, and whether its templates are another object's (then: of no name)."""
    metadata, kind = dict(document.get("metadata") or {}), document.get("kind")
    spec: dict[str, Any] = document.get("spec", document)
    if kind in ("WorkflowTemplate", "CronWorkflow"):
        metadata["generateName"] = f"{metadata.pop('name')}-"
        spec = spec["workflowSpec"] if kind == "CronWorkflow" else spec
    if reference := spec.get("workflowTemplateRef"):
        base = workflow_templates[reference["name"]]["spec"]
        own = (spec.get("arguments") or {}).get("parameters") or []
        given = {each["name"]: each["value"] for each in own if "value" in each}
        merged = {"parameters": _overridden(base, given)}
        return metadata, {**base, **spec, "arguments": merged}, ""
    return metadata, spec, "" if kind == "WorkflowTemplate" else None


def _overridden(spec: dict[str, Any], given: dict[str, str]) -> list[dict[str, Any]]:
    """The parameters of the workflow: those given first, then the others of the spec."""
    declared = (spec.get("arguments") or {}).get("parameters") or []
    merged: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in given.items()]
    for parameter in declared:
        if parameter["name"] not in given:
            text = dict(parameter)
            if text.get("value") is not None:
                text["value"] = arguments.any_string(text["value"])
            merged.append(text)
    return merged


def _timestamps(created: str) -> templating.Values:
    prefix = "workflow.creationTimestamp"
    moment = datetime.datetime.fromisoformat(created)
    values: templating.Values = {
        prefix: created,
        f"{prefix}.s": str(int(moment.timestamp())),
        f"{prefix}.RFC3339": created,
    }
    return values | {f"{prefix}.{c}": moment.strftime(f"%{c}") for c in "aAbBcdHIjmMpSUwWxXyYzZ"}


def _refuse_what_is_not_evaluated(controller: Controller) -> None:
    """Loudly: a field passed over would make the evaluation wrong in silence."""
    hooks = sorted(set(controller.spec.get("hooks") or {}) - {"exit"})
    if hooks or controller.spec.get("suspend"):
        raise NotImplementedError(f"not evaluated: hooks {hooks}, suspend")
    for template in controller.templates.values():
        callers = (template.get("dag") or {}).get("tasks") or []
        callers = callers + [step for group in template.get("steps") or [] for step in group]
        for place in (template, *callers):
            found = sorted(key for key in _NOT_EVALUATED & set(place) if place[key])
            found += [key for key in ("templateRef", "inline", "onExit") if place.get(key)]
            if found:
                raise NotImplementedError(f"not evaluated: {found} of {place['name']}")
        for given in (template, *(caller.get("arguments") or {} for caller in callers)):
            for side in (given, given.get("inputs") or {}, given.get("outputs") or {}):
                if side.get("artifacts"):
                    raise NotImplementedError(f"not evaluated: artifacts of {template['name']}")
