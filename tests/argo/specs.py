"""Small workflow specs, and how their pods end."""

from tests.argo.evaluator import PodResult

__all__ = ["by_exit_code", "container", "dag", "phases", "task"]


def container(name, *, inputs=(), outputs=(), **more):
    return {
        "name": name,
        "inputs": {"parameters": [{"name": each} for each in inputs]},
        "outputs": {
            "parameters": [{"name": each, "valueFrom": {"path": f"/o/{each}"}} for each in outputs]
        },
        "container": {"image": "x", "command": ["rs"]},
        **more,
    }


def task(name, template="t", depends="", values=None, **more):
    given = [{"name": key, "value": value} for key, value in (values or {}).items()]
    found = {"name": name, "template": template, "arguments": {"parameters": given}, **more}
    return found | ({"depends": depends} if depends else {})


def dag(*tasks, templates=(), name="main", spec=None, **more):
    main = {"name": name, "dag": {"tasks": list(tasks), **more}}
    every = [main, *templates] if templates else [main, container("t", outputs=["x"])]
    return {"entrypoint": "main", "templates": every, **(spec or {})}


def by_exit_code(codes, default=0):
    """Pods end with the code of their node's path; a list: of each of its pods in turn."""

    def run_pod(pod):
        path = pod.node_name.partition(".")[2]
        code = codes.get(path, default)
        return PodResult(code.pop(0) if isinstance(code, list) else code, {"x": "[]"})

    return run_pod


def phases(workflow):
    return {n.name.partition(".")[2]: n.phase for n in workflow.status.nodes.values()}
