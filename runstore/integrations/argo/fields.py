"""The fields that an emitted document may have, by the type they stand in (Argo Workflows 4.1,
Kubernetes 1.33). A list of what is allowed: a field that is misspelt is in none.

A type is the name of another entry, ``list:`` or ``map:`` of one, or a word: ``text``, ``number``,
``truth``, ``either`` (text or number), ``texts``, ``map`` (text by text), ``steps``,
``any`` (Kubernetes' own, which its API server checks).
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FIELDS"]


def _of(**types: str) -> Mapping[str, str]:
    """Type -> its names."""
    return {name: kind.replace("_", ":") for kind, names in types.items() for name in names.split()}


_DOCUMENT = {"apiVersion": "text", "kind": "text", "metadata": "metadata"}

FIELDS: Mapping[str, Mapping[str, str]] = {
    "Workflow": {**_DOCUMENT, "spec": "spec"},
    "WorkflowTemplate": {**_DOCUMENT, "spec": "spec"},
    "CronWorkflow": {**_DOCUMENT, "spec": "cron"},
    "metadata": _of(text="name generateName namespace", map="labels annotations"),
    "podMetadata": _of(map="labels annotations"),
    "cron": {
        **_of(
            texts="schedules", text="timezone concurrencyPolicy when", truth="suspend",
            number="startingDeadlineSeconds successfulJobsHistoryLimit failedJobsHistoryLimit",
            any="stopStrategy",
        ),
        "workflowSpec": "spec", "workflowMetadata": "podMetadata",
    },
    "spec": {
        **_of(
            text="entrypoint onExit serviceAccountName podPriorityClassName schedulerName "
            "podSpecPatch dnsPolicy",
            number="parallelism priority activeDeadlineSeconds",
            truth="archiveLogs suspend hostNetwork automountServiceAccountToken",
            map="nodeSelector",
            any="affinity tolerations volumes volumeClaimTemplates volumeClaimGC imagePullSecrets "
            "securityContext podDisruptionBudget hostAliases dnsConfig executor metrics "
            "artifactRepositoryRef artifactGC",
        ),
        "arguments": "arguments", "templates": "list:template", "podGC": "podGC",
        "ttlStrategy": "ttl", "synchronization": "synchronization", "hooks": "map:hook",
        "workflowMetadata": "workflowMetadata", "podMetadata": "podMetadata",
        "retryStrategy": "retryStrategy", "templateDefaults": "template",
    },
    "workflowMetadata": {**_of(map="labels annotations"), "labelsFrom": "map:labelFrom"},
    "labelFrom": _of(text="expression"),
    "podGC": _of(text="strategy deleteDelayDuration", any="labelSelector"),
    "ttl": _of(number="secondsAfterCompletion secondsAfterSuccess secondsAfterFailure"),
    "synchronization": {"mutexes": "list:mutex", "semaphores": "list:semaphore"},
    "mutex": _of(text="name namespace", truth="database"),
    "semaphore": _of(text="namespace", any="configMapKeyRef database"),
    "hook": {**_of(text="template expression", any="templateRef"), "arguments": "arguments"},
    "arguments": {"parameters": "list:parameter", "artifacts": "list:artifact"},
    "artifact": _of(
        text="name path from subPath fromExpression", truth="optional archiveLogs", number="mode",
        any="s3 gcs azure git http raw hdfs oss artifactory archive",
    ),
    "parameter": {
        **_of(text="name value default description globalName", texts="enum"),
        "valueFrom": "valueFrom",
    },
    "valueFrom": _of(
        text="path default expression jsonPath jqFilter parameter event",
        any="configMapKeyRef supplied",
    ),
    "template": {
        **_of(
            text="name serviceAccountName podSpecPatch schedulerName priorityClassName timeout "
            "pendingTimeout",
            number="parallelism",
            either="activeDeadlineSeconds",
            truth="daemon failFast automountServiceAccountToken",
            map="nodeSelector annotations",
            any="affinity tolerations volumes hostAliases securityContext initContainers sidecars "
            "executor metrics archiveLocation podResources",
        ),
        "inputs": "inputs", "outputs": "inputs", "metadata": "podMetadata", "dag": "dag",
        "container": "container", "retryStrategy": "retryStrategy", "memoize": "memoize",
        "synchronization": "synchronization", "steps": "steps",
    },
    "inputs": {"parameters": "list:parameter", "artifacts": "list:artifact"},
    "dag": {**_of(text="target", truth="failFast"), "tasks": "list:task"},
    "task": {
        **_of(
            text="name template depends when withParam onExit", texts="dependencies",
            any="withItems withSequence templateRef continueOn",
        ),
        "arguments": "arguments", "hooks": "map:hook",
    },
    "container": {
        **_of(
            text="name image imagePullPolicy workingDir terminationMessagePath "
            "terminationMessagePolicy",
            texts="command args", truth="stdin tty",
            any="ports lifecycle livenessProbe readinessProbe startupProbe securityContext "
            "volumeDevices",
        ),
        "env": "list:env", "envFrom": "list:envFrom", "resources": "resources",
        "volumeMounts": "list:volumeMount",
    },
    "env": {**_of(text="name value"), "valueFrom": "envSource"},
    "envSource": {
        "fieldRef": "fieldRef", "secretKeyRef": "keyRef", "configMapKeyRef": "keyRef",
        "resourceFieldRef": "resourceFieldRef",
    },
    "fieldRef": _of(text="fieldPath apiVersion"),
    "resourceFieldRef": _of(text="containerName resource divisor"),
    "keyRef": _of(text="name key", truth="optional"),
    "envFrom": {"secretRef": "reference", "configMapRef": "reference", "prefix": "text"},
    "reference": _of(text="name", truth="optional"),
    "resources": {"requests": "map", "limits": "map", "claims": "any"},
    "volumeMount": _of(
        text="name mountPath subPath subPathExpr mountPropagation recursiveReadOnly",
        truth="readOnly",
    ),
    "retryStrategy": {
        **_of(text="retryPolicy expression", either="limit", any="affinity"), "backoff": "backoff",
    },
    "backoff": _of(text="duration maxDuration cap", either="factor"),
    "memoize": {**_of(text="key maxAge"), "cache": "cache"},
    "cache": {"configMap": "reference"},
}  # fmt: skip
